"""Settings of the C library's malloc for steps on CPUs, where the library is glibc."""

import ctypes
import os
from collections.abc import Callable

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_HEAP = 64 << 20  # bytes: a thread's memory comes in heaps of this size, and no buffer spans two


def give_back() -> None:
    """Returns the memory that compiling has freed to the system: 0.9 GB for the paper's model.

    Otherwise malloc would keep it, in pieces too small for the buffers of a step on a CPU.
    """
    if trim := _function("malloc_trim"):
        trim(0)


def keep() -> None:
    """Has malloc keep from now on what a step frees, for the next step: buffers of up to 64 MiB.

    Otherwise the system would map the pages of the step's temporaries in every step, and clear them
    (docs/performance.md, "The demo"). Larger temporaries are mapped in every step nonetheless.
    """
    if set_parameter := _function("mallopt"):
        set_parameter(_MMAP_THRESHOLD, 2 * _HEAP)  # maps no buffer that may fit into a heap
        set_parameter(_TOP_PAD, _HEAP)  # keeps heaps that have become empty
        set_parameter(_TRIM_THRESHOLD, _HEAP)  # keeps the free pages at the end of a heap


def _function(name: str) -> Callable[..., int] | None:
    """Returns a function of the C library, or None where the library has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
