"""Damage as disks and networks do it: a bit that flips, an end that is missing.

The tests that do it are marked `faults`. How many damages they made is said at the end of a run.
"""

from collections.abc import Iterator

import numpy as np

_made = 0


def damages(data: bytes, count: int, seed: int = 0, cut: bool = True) -> Iterator[bytes]:
    """Copies of a file, each damaged at one place, none the same as the file.

    Args:
        data: Content of the file, not empty.
        count: How many with a flipped bit: at its beginning, its end, and anywhere.
        seed: Seed of the draw of the places.
        cut: Whether there are some that end early, too.

    Yields:
        `count` copies with a flipped bit, and then four that end early.
    """
    global _made
    rng = np.random.default_rng(seed)
    near = min(64, len(data))
    for number in range(count):
        first, last = ((0, near), (len(data) - near, len(data)), (0, len(data)))[number % 3]
        place = int(rng.integers(first, last))
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        _made += 1
        yield bytes(damaged)
    for end in (0, len(data) // 3, len(data) // 2, len(data) - 1) if cut else ():
        _made += 1
        yield data[:end]


def made() -> int:
    """How many damages this process has made."""
    return _made
