"""Facts about the machine, its devices and a program, without which no timing means anything."""

from robust_mnist.arithmetic import (
    matmul_flops as matmul_flops,
    matmul_numbers as matmul_numbers,
    products as products,
)
from robust_mnist.bench._device import (
    check_device as check_device,
    device_in_use as device_in_use,
    wrong_device as wrong_device,
)
from robust_mnist.bench._environment import (
    devices as devices,
    environment as environment,
    environment_key as environment_key,
)
from robust_mnist.bench._peaks import (
    measure_peaks as measure_peaks,
    own_rate as own_rate,
    seconds_per_call as seconds_per_call,
)
from robust_mnist.bench._stages import Program as Program, compile_in_stages as compile_in_stages
