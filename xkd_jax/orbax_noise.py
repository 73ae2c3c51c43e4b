"""Keeps what Orbax prints of a damaged checkpoint off the terminal: its exception says it all.

Orbax reads all arrays at once, in tasks of an event loop that it closes at the first failure. Of
each of the others Python then prints a traceback, when it ends or is collected.
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
def kept_off() -> Iterator[None]:
    """For a block that reads, and that keeps nothing of an exception but its words."""
    _ignore_abandoned_reads()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(_nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_nothing)


def let_out() -> None:
    """Collects the tasks that have failed, inside of `kept_off`: that is when they complain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of those that had not begun
        gc.collect()


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _ignore_abandoned_reads() -> None:
    """Has Python say nothing of reads that were given up, for good: some end much later."""
    others = sys.unraisablehook
    if getattr(others, "of", None) == __name__:
        return

    def hook(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of a coroutine
        is_coroutine = code is not None and "orbax" in code.co_filename
        is_callback = str(unraisable.exc_value) == "Event loop is closed"  # of TensorStore's
        if not is_coroutine and not is_callback:
            others(unraisable)

    hook.of = __name__
    sys.unraisablehook = hook
