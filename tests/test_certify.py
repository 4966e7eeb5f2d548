import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import grey_images, network, predicted

from robust_mnist import metrics
from robust_mnist.attacks import ATTACKS, AbstractBallAttack
from robust_mnist.certify import CERTIFIERS, IBP
from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.models.mlp import Dense
from robust_mnist.sweep import attack_batch, certify_batch, radii


def meetings():
    """Every certifier with every attack of its norm on tanh, and with one attack on the others."""
    for name, certifier in CERTIFIERS.items():
        norm = certifier.ball.name
        for attack, kind in ATTACKS.items():
            if isinstance(kind, AbstractBallAttack) and kind.ball.name == norm:
                yield name, attack, "tanh"
        for activation in sorted(certifier.activations - {"tanh"}):
            yield name, f"pgd40-{norm}", activation


@pytest.mark.parametrize(("certifier", "attack", "activation"), list(meetings()))
def test_no_attack_gets_below_a_certified_margin(certifier, attack, activation, getkey):
    model = network(getkey(), activation=activation)
    images, key = grey_images(getkey(), 8), getkey()
    x, y = jnp.asarray(images, jnp.float32) / 255, jnp.asarray(predicted(model, images), jnp.int32)

    @jax.jit
    def both(radius):
        z = attack_batch(ATTACKS[attack], model, x, y, ids=jnp.arange(8), eps=radius, key=key)
        reached = jax.vmap(lambda z, y: metrics.margin(model(z), y))(z, y)
        prove = lambda x, y, e: CERTIFIERS[certifier](model, x, y, eps=e)
        return jax.vmap(prove)(x, y, radius), reached

    for eps in (0.0, 0.01, 0.1, 5.0):
        bound, reached = both(jnp.full(8, eps, jnp.float32))
        assert jnp.all(bound <= reached)


def test_intervals_match_a_layer_worked_by_hand():
    """x in [0.4, 0.6]: z = 2x - 1 in [-0.2, 0.2], relu gives [0, 0.2]; margin = 3 relu(z) + 0.1."""
    layers = (
        Dense(jnp.array([[2.0]]), jnp.array([-1.0])),
        Dense(jnp.array([[3.0], [0.0]]), jnp.array([0.1, 0.0])),
    )
    model = MLP((1, 1, 2), "relu", key=jax.random.key(0))
    model = jax.tree.unflatten(jax.tree.structure(model), jax.tree.leaves(layers))
    bound = IBP()(model, jnp.array([0.5]), jnp.array(0), eps=jnp.array(0.1))
    assert jnp.allclose(bound, 0.1, atol=1e-5)
    other = IBP()(model, jnp.array([0.5]), jnp.array(1), eps=jnp.array(0.1))
    assert jnp.allclose(other, -0.7, atol=1e-5)


def test_bounds_are_exact_for_an_affine_network_inside_the_box(getkey):
    weight = jax.random.normal(getkey(), (10, 64)) / 8
    model = MLP((64, 10), key=getkey())
    model = jax.tree.unflatten(jax.tree.structure(model), [weight, jnp.zeros(10)])
    x, y, eps = jnp.full(64, 0.5), jnp.array(2), 0.1
    logits, others = weight @ x, jnp.delete(jnp.arange(10), 2, assume_unique_indices=True)
    slack = jnp.sum(jnp.abs(weight[2][None] - weight[others]), axis=1)
    expected = jnp.min(logits[2] - logits[others] - eps * slack)
    assert jnp.allclose(IBP()(model, x, y, eps=jnp.array(eps)), expected, atol=1e-4)


def test_the_box_tightens_the_bound(getkey):
    model, y = network(getkey()), jnp.array(0)
    bound = lambda x, eps: IBP()(model, x, y, eps=jnp.array(eps))
    # Beyond eps = 1 the ball holds the whole box, so nothing gets worse.
    assert bound(jnp.full(64, 0.5), 1.0) == bound(jnp.full(64, 0.5), 7.0)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_margins_of_samples_lie_above_the_bound(activation, getkey):
    model, x = network(getkey(), activation=activation), jax.random.uniform(getkey(), (64,))
    y = jnp.argmax(model(x))
    shifts = jax.random.uniform(getkey(), (10_000, 64), minval=-0.05, maxval=0.05)
    samples = jnp.clip(x[None] + shifts, 0, 1)
    lowest = jnp.min(jax.vmap(lambda z: metrics.margin(model(z), y))(samples))
    assert IBP()(model, x, y, eps=jnp.array(0.05)) <= lowest


def test_certificates_are_computed_in_float64_and_shrink_with_eps(getkey):
    model, images = network(getkey(), gain=1.0), grey_images(getkey(), 32)
    labels = predicted(model, images)
    prove = lambda eps: certify_batch(IBP(), model, images, labels, eps=eps, chunk=10)
    shares = [prove(eps).mean() for eps in (0.0, 0.001, 0.01, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert shares[-1] == 0.0


def test_rounding_cannot_certify_a_network_that_cancels(getkey):
    """Huge weights that cancel leave a margin below float32's error; no proof may come of it."""
    big = 1e8
    weight = jnp.array([[big, -big], [0.0, 0.0]])
    model = MLP((2, 2), key=getkey())
    model = jax.tree.unflatten(jax.tree.structure(model), [weight, jnp.array([1e-3, 0.0])])
    bound = IBP()(model, jnp.array([0.3, 0.3]), jnp.array(0), eps=jnp.array(0.0))
    assert bound < 0


def test_a_wrong_certifier_is_caught_by_an_attack(getkey, monkeypatch):
    from robust_mnist.records import Contradiction

    class Optimist(IBP.__mro__[1]):
        """Claims everything."""

        @property
        def about(self):
            return "claims everything"

        @property
        def ball(self):
            return CERTIFIERS["ibp-linf"].ball

        @property
        def activations(self):
            return frozenset({"tanh"})

        def __call__(self, model, x, y, *, eps):
            del model, y, eps
            return jnp.sum(x) * 0 + 1

    monkeypatch.setitem(CERTIFIERS, "optimist", Optimist())
    model, images = network(getkey(), gain=6.0), grey_images(getkey(), 8)
    part = Part(images, predicted(model, images), np.arange(8))
    with pytest.raises(Contradiction, match=r"optimist certifies radius 0\.3"):
        radii(model, part, norm="linf", methods=["optimist", "pgd40-linf"], eps=[0.3], key=getkey())
