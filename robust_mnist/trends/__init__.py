"""What result files of the benchmarks say together: across devices, and along time. No JAX."""

from robust_mnist.trends._accelerators import (
    TOPICS as TOPICS,
    Comparison as Comparison,
    compare as compare,
    topic as topic,
)
from robust_mnist.trends._agreement import Agreement as Agreement, arithmetic as arithmetic
from robust_mnist.trends._changes import change_points as change_points, penalty as penalty
from robust_mnist.trends._environments import Environment as Environment, group as group
from robust_mnist.trends._history import (
    ENOUGH as ENOUGH,
    History as History,
    history as history,
    one_key as one_key,
)
from robust_mnist.trends._inference import (
    Bound as Bound,
    Crossover as Crossover,
    batch_of as batch_of,
    bound as bound,
    crossover as crossover,
    crossover_of as crossover_of,
)
from robust_mnist.trends._ratio import Ratio as Ratio, ratio as ratio
