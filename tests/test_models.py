import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_mnist import metrics
from robust_mnist.errors import InputError
from robust_mnist.models import ACTIVATIONS, MLP, MODELS


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_probabilities_lie_in_the_unit_interval_and_sum_to_one(activation, getkey):
    model = MLP((784, 50, 50, 10), activation, key=getkey())
    images = jax.random.uniform(getkey(), (100, 784))
    probabilities = jax.vmap(model.probabilities)(images)
    assert jnp.all((probabilities >= 0) & (probabilities <= 1))
    assert jnp.allclose(jnp.sum(probabilities, axis=1), 1.0, atol=1e-6)


def test_weights_are_glorot_normal_and_biases_zero(getkey):
    model = MLP((784, 500, 300, 10), key=getkey())
    for layer in model.layers:
        outs, ins = layer.weight.shape
        assert jnp.all(layer.bias == 0)
        expected = np.sqrt(2 / (ins + outs))
        # The standard error of a standard deviation over n draws is about sd / sqrt(2 n).
        assert abs(float(jnp.std(layer.weight)) / expected - 1) < 5 / np.sqrt(2 * ins * outs) + 0.02


def test_layers_compose_as_written_by_hand(getkey):
    model = MLP((3, 2, 2), "tanh", key=getkey())
    x = jnp.array([0.1, 0.5, 0.9])
    first, second = model.layers
    expected = second.weight @ jnp.tanh(first.weight @ x + first.bias) + second.bias
    assert jnp.allclose(model(x), expected)


@pytest.mark.parametrize("sizes", [(784,), (), (784, 0, 10)])
def test_impossible_sizes_are_refused(sizes, getkey):
    with pytest.raises(InputError, match="widths"):
        MLP(sizes, key=getkey())


def test_an_unknown_activation_is_answered_with_the_closest(getkey):
    with pytest.raises(InputError, match="did you mean 'tanh'"):
        MLP((784, 10), "tahn", key=getkey())


@pytest.mark.parametrize("name", MODELS)
def test_every_registered_model_maps_one_image_to_ten_logits(name, getkey):
    model = MODELS[name]((784, 20, 10), "tanh", key=getkey())
    assert model(jnp.zeros(784)).shape == (10,)


def test_one_hot_has_exactly_one_one_per_sample():
    rows = jax.vmap(metrics.one_hot)(jnp.arange(10))
    assert jnp.all(jnp.sum(rows == 1, axis=1) == 1)
    assert jnp.all(jnp.sum(rows == 0, axis=1) == 9)
    assert jnp.all(jnp.argmax(rows, axis=1) == jnp.arange(10))


def test_metrics_match_values_worked_by_hand():
    logits, label = jnp.log(jnp.array([0.7, 0.2, 0.1])), jnp.array(1)
    assert jnp.allclose(metrics.cross_entropy(logits, label), -jnp.log(0.2))
    # Squares of 0.7, 0.8 and 0.1, averaged.
    assert jnp.allclose(metrics.squared_error(logits, label), 0.38)
    assert jnp.allclose(metrics.margin(logits, label), jnp.log(0.2 / 0.7))


def test_a_tie_and_a_nan_are_mistakes():
    assert metrics.right(jnp.array([1.0, 1.0, 0.0]), jnp.array(0)) == 0
    assert metrics.right(jnp.array([jnp.nan, 0.0, 0.0]), jnp.array(0)) == 0
    assert metrics.right(jnp.array([2.0, 1.0, 0.0]), jnp.array(0)) == 1


def test_evaluate_averages_over_images(getkey):
    model = MLP((784, 10), key=getkey())
    images = jax.random.uniform(getkey(), (7, 784))
    labels = jnp.array([0, 1, 2, 3, 4, 5, 6])
    measured = metrics.evaluate(model, images, labels)
    one_by_one = [metrics.cross_entropy(model(x), y) for x, y in zip(images, labels, strict=True)]
    assert jnp.allclose(measured["cross_entropy"], jnp.mean(jnp.stack(one_by_one)), rtol=1e-5)
    accuracy = np.mean(np.argmax(np.asarray(jax.vmap(model)(images)), axis=1) == np.asarray(labels))
    assert jnp.allclose(measured["accuracy"], accuracy)
