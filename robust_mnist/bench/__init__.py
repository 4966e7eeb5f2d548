"""Facts about the machine and its devices, without which no timing means anything."""

from robust_mnist.bench._environment import devices as devices, environment as environment
