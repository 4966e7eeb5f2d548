"""A multilayer perceptron that is 1-Lipschitz by construction."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from robust_mnist.models._base import AbstractClassifier, AbstractParametrised
from robust_mnist.models.mlp import MLP, Dense


class Orthonormal(AbstractParametrised):
    """An MLP whose weights have orthonormal rows or columns, whatever its variables are.

    With an activation of slopes up to 1 no logit moves faster than the image, and with `abs`, whose
    slopes are all 1 or -1, gradients keep their length as well. Two logits then approach each other
    by at most the square root of 2 per unit of L2: `lipschitz-global-l2` measures the weights that
    come out, and relies on nothing said here.

    Reference:
        Anil, Lucas and Grosse, "Sorting out Lipschitz function approximation", ICML 2019; Trockman
        and Kolter, "Orthogonalizing convolutional layers with the Cayley transform", ICLR 2021.

    Attributes:
        free: An MLP of the same shape, whose weights may be any.
    """

    free: MLP

    def __init__(
        self, sizes: tuple[int, ...], activation: str = "abs", *, key: PRNGKeyArray
    ) -> None:
        """Draw the initial weights.

        Args:
            sizes: Width of every layer, input and output included, each at least 1.
            activation: Name in `ACTIVATIONS`.
            key: Randomness of the weights.

        Raises:
            InputError: Fewer than two sizes, a width below 1, or an unknown activation.
        """
        self.free = MLP(sizes, activation, key=key)

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.network()(x)

    def network(self) -> AbstractClassifier:
        layers = tuple(Dense(orthonormal(one.weight), one.bias) for one in self.free.layers)
        return eqx.tree_at(lambda model: model.layers, self.free, layers)


def orthonormal(weight: Float[Array, "out in"]) -> Float[Array, "out in"]:
    """A matrix of the same shape whose singular values are all 1, less 1e-6 or so for rounding.

    Cayley's transform of `A = U - U^T + V^T V`, U the upper square of the matrix, or of its
    transpose, and V the rest: `(I + A)^-1 (I - A)` above `-2 V (I + A)^-1` has orthonormal columns,
    and `I + A` can always be inverted. One step of Bjorck, which squares what is left of an error,
    takes away what the solution of large equations lost. All of it is in float32 at least: two
    digits of bfloat16 would leave nothing orthonormal.
    """
    kept = weight.dtype
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T
    tall = tall.astype(jnp.promote_types(kept, jnp.float32))
    columns = tall.shape[1]
    upper, rest = tall[:columns], tall[columns:]
    skew = upper - upper.T + rest.T @ rest
    eye = jnp.eye(columns, dtype=tall.dtype)
    # An inverse and a product take a fraction of the time of equations with 784 right sides.
    found = jnp.concatenate([eye - skew, -2 * rest]) @ jnp.linalg.inv(eye + skew)
    found = 1.5 * found - 0.5 * found @ (found.T @ found)
    found = found * (1 - 16 * float(jnp.finfo(found.dtype).eps))
    return (found if weight.shape[0] >= weight.shape[1] else found.T).astype(kept)
