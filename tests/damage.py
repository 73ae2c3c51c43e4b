"""Damage as disks and networks do it: a bit that flips, an end that is missing."""

from collections.abc import Iterator

import numpy as np


def damages(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Copies of a file, each damaged at one place, none the same as the file.

    Args:
        data: Content of the file.
        count: How many with a flipped bit: at its beginning, its end, and anywhere.
        seed: Of the places.

    Yields:
        `count` such copies and then four that end early.
    """
    rng = np.random.default_rng(seed)
    near = min(64, len(data))
    for number in range(count):
        first, last = ((0, near), (len(data) - near, len(data)), (0, len(data)))[number % 3]
        place = int(rng.integers(first, last))
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        yield bytes(damaged)
    for end in (0, len(data) // 3, len(data) // 2, len(data) - 1):
        yield data[:end]
