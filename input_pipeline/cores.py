"""How many cores a process may use."""

import os


def count() -> int:
    """Returns the number of cores that this process may use (all, if the system does not tell)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
