"""Progress bars, which take one line of a terminal."""

from collections.abc import Iterable

import tqdm


def bar(
    title: str,
    total: int | None,
    unit: str,
    items: Iterable | None = None,
    done: int = 0,
    shown: bool = True,
) -> tqdm.tqdm:
    """Makes a progress bar. It disappears at the end, and a file or a pipe never shows it.

    Args:
        title: What is going on.
        total: Number of items; None if it is unknown.
        unit: What an item is.
        items: Items to iterate over; None if `update` counts them.
        done: Number of items that an interrupted run has done.
        shown: Whether to show the bar: of several processes, one should.

    Returns:
        The bar, which is an iterable and a context manager.
    """
    return tqdm.tqdm(
        items,
        title,
        total,
        initial=done,
        unit=unit,
        disable=None if shown else True,  # None: unless it is a terminal
        leave=False,
        dynamic_ncols=True,  # a line that is too long would wrap, and the bar would scroll
    )
