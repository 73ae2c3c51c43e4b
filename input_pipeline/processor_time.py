"""Processor time of some threads of this process, where the system tells (Linux)."""

import contextlib
import math
import os
from collections.abc import Iterator

_TASKS = "/proc/self/task"
_USER, _SYSTEM = 11, 12  # places in /proc/self/task/N/stat, counted from the state of the thread


class ThreadMeter:
    """Measures the processor time of the threads that start within `starting`."""

    def __init__(self) -> None:
        self._threads: set[str] = set()
        self._ticks: dict[str, int] = {}

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Adds the threads that start inside and are still there at its end."""
        before = _list_threads()
        yield
        self._threads |= _list_threads() - before

    def seconds(self) -> float:
        """Returns the processor time of the threads so far, in seconds.

        It is NaN before any thread has started, and where the system does not tell. Threads that
        have ended count as far as the last call saw them.
        """
        for thread in self._threads:
            # A thread that has ended has no file.
            with contextlib.suppress(OSError), open(f"{_TASKS}/{thread}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                self._ticks[thread] = int(fields[_USER]) + int(fields[_SYSTEM])
        if not self._ticks:
            return math.nan
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")


def _list_threads() -> set[str]:
    with contextlib.suppress(OSError):
        return set(os.listdir(_TASKS))
    return set()
