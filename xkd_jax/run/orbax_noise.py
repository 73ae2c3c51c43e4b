"""Silences what Orbax and Python print about a damaged checkpoint: the exception is enough.

Orbax reads all arrays at once, in tasks of an event loop that it closes at the first failure. For
each of the other tasks, Python prints a traceback when the task ends or is collected.
"""

import contextlib
import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

_LOGGERS = ("absl", "asyncio")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Silences a block that reads, and that keeps only the message of an exception."""
    _ignore_abandoned_reads()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(_reject)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_reject)


def let_out() -> None:
    """Collects failed tasks, which print their errors then. Call it inside `silenced`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # from tasks that have not begun
        gc.collect()


def _reject(record: logging.LogRecord) -> bool:
    return False


def _ignore_abandoned_reads() -> None:
    """Silences abandoned reads for the rest of the process, because some end much later."""
    previous = sys.unraisablehook
    if getattr(previous, "owner", None) == __name__:
        return

    def hook(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # only a coroutine has it
        is_coroutine = code is not None and "orbax" in code.co_filename
        is_callback = str(unraisable.exc_value) == "Event loop is closed"  # from TensorStore
        if not is_coroutine and not is_callback:
            previous(unraisable)

    hook.owner = __name__
    sys.unraisablehook = hook
