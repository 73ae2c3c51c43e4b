"""Settings of the process that programs make, and checks that they have in common."""

import logging as python_logging
import os
import pathlib
import sys
from collections.abc import Callable

from absl import logging

from input_pipeline.files import atomic, user_cache

# Share of a device's memory that programs may use. The rest is for the runtime, and for batches
# that `sharding.Prefetch` is copying. On TPU v5e, the compiler allows programs 15.75 of 16 GiB.
USABLE_MEMORY = 0.95


def quieten_libraries() -> None:
    """Silences libraries, so that their logs do not bury those of the run. Call it before JAX.

    Errors that libraries log with a traceback are raised too, and reported in one line. If one
    array of a checkpoint cannot be read, Python would print an error for each of the others.
    XKD_TRACEBACK=1 shows everything.
    """
    if os.environ.get("XKD_TRACEBACK"):
        return
    for logger in (logging.get_absl_logger(), python_logging.getLogger("asyncio")):
        logger.addFilter(lambda record: not record.exc_info)
    sys.unraisablehook = lambda _: None


def use_most_memory_of_gpus() -> None:
    """Lets JAX use `USABLE_MEMORY` of each GPU instead of three quarters. Call it before JAX.

    It does not change the environment variables that JAX reads if the user has set them.
    """
    if not os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION"):  # its former name
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", str(USABLE_MEMORY))


def keep_compiled_programs() -> None:
    """Makes JAX cache compiled programs on the disk, so that the next start is fast."""
    import jax

    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = chosen or str(user_cache.folder() / "compiled")
    jax.config.update("jax_compilation_cache_dir", folder)


def check_output(output: pathlib.Path, file: str = "") -> None:
    """Refuses an --output that cannot be written, before the program begins to compute.

    Args:
        output: Path of the output, a file or a folder.
        file: Name of a file in the folder; empty if the output is a file.

    Raises:
        ValueError: The output cannot be written; the message says why.
    """
    try:
        atomic.check_writable(output / file)
    except OSError as error:
        raise ValueError(f"--output={output} cannot be written: {error.strerror}") from error


def exit_code(program: Callable[[], None]) -> int:
    """Runs a program in this process, and returns its exit code.

    Args:
        program: Function that may call `sys.exit`; a message is printed to stderr.

    Returns:
        The exit code that the program would have as a process.
    """
    try:
        program()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0
