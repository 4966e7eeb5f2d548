"""The exact worst margin of a small ReLU network, by mixed-integer programming."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import optimize, sparse

from robust_mnist.certify._backward import Hidden, hidden_layers
from robust_mnist.errors import InputError
from robust_mnist.models import MLP
from robust_mnist.threat import Linf


# Hidden neurons of the largest network whose programs are ever solved in minutes.
MOST = 256
_OUT_OF_TIME = 1  # of SciPy's statuses
_HEARD_AFTER = 0.1  # seconds


def exact_margin(
    model: MLP, x: Float[np.ndarray, " pixels"], y: int, *, eps: float, seconds: float = 60.0
) -> float:
    """The smallest margin in the Linf ball and box, to the tolerances of HiGHS, about 1e-6.

    What every other bound is measured against. A neuron that CROWN shows to be on one side of 0 is
    linear; each other one gets a binary variable, and the effort grows with their number: seconds
    for 784-50-50-10 at eps 0.02, out of reach for much more.

    Reference:
        Tjeng, Xiao and Tedrake, "Evaluating robustness of neural networks with mixed integer
        programming", ICLR 2019.

    Args:
        model: Network with ReLU.
        x: Clean image, pixels in [0, 1].
        y: True class.
        eps: Radius, at least 0.
        seconds: Time for each other class.

    Raises:
        InputError: The network has another activation, or too many neurons.
        TimeoutError: A program was not solved in time.
    """
    check_small(model)
    even = _balanced(model)
    program, last = _Program(even, np.asarray(x, np.float64), eps), even.layers[-1]
    weight, bias = np.asarray(last.weight, np.float64), np.asarray(last.bias, np.float64)

    def least(row: np.ndarray) -> float:
        unit = np.max(np.abs(row)) or 1.0
        return unit * program.least(row / unit, seconds)

    return min(
        least(weight[y] - weight[other]) + bias[y] - bias[other]
        for other in range(len(bias))
        if other != y
    )


def _balanced(model: MLP) -> MLP:
    """The same function, with weights and biases of each hidden neuron of up to 1 or 2.

    HiGHS has absolute tolerances. ReLU lets a positive factor through, and powers of 2 are exact.
    """
    leaves, carried = [], np.ones(model.layers[0].weight.shape[1])
    for at, layer in enumerate(model.layers):
        weight, bias = (np.asarray(array, np.float64) for array in (layer.weight, layer.bias))
        weight = weight / carried[None]
        if at < len(model.layers) - 1:
            largest = np.maximum(np.max(np.abs(weight), axis=1), np.abs(bias))
            carried = 2.0 ** -np.floor(np.log2(np.where(largest > 0, largest, 1.0)))
            weight, bias = carried[:, None] * weight, carried * bias
        leaves += [weight, bias]
    return jax.tree.unflatten(jax.tree.structure(model), leaves)


def check_small(model: MLP) -> None:
    """Refuse a network whose exact margins are out of reach.

    Args:
        model: The network.

    Raises:
        InputError: It has another activation than ReLU, or too many neurons.
    """
    if model.activation != "relu":
        raise InputError(
            f"exact margins are known for relu, got {model.activation}; certifiers bound others"
        )
    neurons = sum(layer.bias.size for layer in model.layers[:-1])
    if neurons > MOST:
        raise InputError(
            f"exact margins are known of networks with up to {MOST} hidden neurons, got {neurons}; "
            "certifiers bound those of larger ones"
        )


class _Program:
    """Pixels, outputs of all hidden neurons, and a binary for each: whether it is on."""

    def __init__(self, model: MLP, x: np.ndarray, eps: float) -> None:
        layers = _bounded(model, x, eps)
        neurons = sum(layer.bias.size for layer in layers)
        self.size = x.size + 2 * neurons
        self.low, self.high = np.zeros(self.size), np.ones(self.size)
        self.low[: x.size] = np.maximum(x - eps, 0.0)
        self.high[: x.size] = np.minimum(x + eps, 1.0)
        self.constraints: list[optimize.LinearConstraint] = []
        below, start = 0, x.size
        for layer in layers:
            self._add(layer, below, start, start + neurons)
            below, start = start, start + layer.bias.size
        self.last, self.binary = below, np.arange(self.size) >= x.size + neurons

    def _add(self, layer: Hidden, below: int, start: int, switch: int) -> None:
        """The constraints of a layer whose inputs, outputs and binaries start at these places."""
        low, high, count = layer.low, layer.high, layer.bias.size
        own = slice(start, start + count)
        self.high[own] = np.maximum(high, 0.0)
        # A neuron on one side of 0 has no choice.
        self.low[switch : switch + count] = low >= 0
        self.high[switch : switch + count] = (high > 0) | (low >= 0)
        least, most = np.minimum(low, 0.0), np.maximum(high, 0.0)
        over = np.zeros((count, self.size))  # a - z, but for the bias
        over[:, own] = np.eye(count)
        over[:, below : below + layer.weight.shape[1]] -= layer.weight
        on = np.zeros((count, self.size))
        on[:, switch : switch + count] = np.eye(count)
        capped = -most[:, None] * on
        capped[:, own] += np.eye(count)
        # a >= z; a <= high on; a <= z - low (1 - on).
        self.constraints += [
            optimize.LinearConstraint(sparse.csr_array(over), lb=layer.bias),
            optimize.LinearConstraint(sparse.csr_array(capped), ub=0.0),
            optimize.LinearConstraint(
                sparse.csr_array(over - least[:, None] * on), ub=layer.bias - least
            ),
        ]

    def least(self, weights: np.ndarray, seconds: float) -> float:
        """The least weighted sum of the last hidden layer's outputs."""
        goal = np.zeros(self.size)
        goal[self.last : self.last + weights.size] = weights
        found = _interruptible(
            lambda: optimize.milp(
                goal,
                integrality=self.binary.astype(np.int64),
                bounds=optimize.Bounds(self.low, self.high),
                constraints=self.constraints,
                options={"time_limit": seconds, "mip_rel_gap": 0.0},
            )
        )
        if found.status == _OUT_OF_TIME:
            raise TimeoutError(f"no exact margin within {seconds:g} s: {found.message}")
        if found.status != 0:  # the clean image is in every ball, so something is broken
            raise RuntimeError(f"HiGHS solved no program: {found.message}")
        return float(found.fun)


def _interruptible(solve: Callable[[], Any]) -> Any:
    """What `solve` returns; a Ctrl-C is heard while it works, which native code alone would not.

    The thread that solves is left behind then, and ends by its own limit or with the process.
    """
    found: Future[Any] = Future()

    def work() -> None:
        try:
            found.set_result(solve())
        except BaseException as reason:  # noqa: BLE001 whoever waits gets it
            found.set_exception(reason)

    threading.Thread(target=work, daemon=True).start()
    while True:
        with contextlib.suppress(TimeoutError):
            return found.result(timeout=_HEARD_AFTER)


def _bounded(model: MLP, x: np.ndarray, eps: float) -> list[Hidden]:
    with jax.enable_x64(True):
        # By NumPy: XLA on a CPU takes float32 numbers below 1e-38 for 0.
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), model)
        bound = jax.jit(lambda x, e: hidden_layers(wide, Linf(), x, e, refine=True))
        return jax.device_get(bound(jnp.asarray(x), jnp.asarray(eps, jnp.float64)))
