"""JAX, ready for a command: with a device, and with the programs that were compiled before."""

from typing import Any

import jax

from robust_mnist.bench import check_device
from robust_mnist.files import cache_folder


def start_jax() -> None:
    """See that there is a device, and keep compiled programs: the second run compiles nothing.

    JAX reads and writes them in `xla` in the user's cache folder. `JAX_COMPILATION_CACHE_DIR` names
    another folder, `JAX_ENABLE_COMPILATION_CACHE=false` turns this off. A folder that cannot be
    written to does so as well.

    Raises:
        WrongDevice: JAX can use no device, or none that `JAX_PLATFORMS` asks for.
    """
    check_device()
    settings: Any = jax.config  # its values are attributes that no type checker sees
    if settings.jax_compilation_cache_dir is not None:
        return
    folder = cache_folder() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # slower, and no reason to stop
    settings.update("jax_compilation_cache_dir", str(folder))
    # By default only what took a second to compile is kept: none of our programs.
    settings.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    settings.update("jax_persistent_cache_min_entry_size_bytes", -1)
