"""Cuts video and log-mel spectrograms into patches, and joins the patches again.

The tokens of a video are ordered by (time, height, width), and the values of a patch by (time,
height, width, channel), the last axis fastest. The tokens of a log-mel and the values of its
patches are ordered by (frequency, time). The number of a patch's axes says which it is. Functions
take NumPy or JAX arrays, and return arrays of the same kind and dtype.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import einops
import jax
import numpy as np

Array = TypeVar("Array", np.ndarray, jax.Array)


class _Layout(NamedTuple):
    """How the axes of a view become patches, in the notation of einops.

    Attributes:
        name: Name of the view and of its axes, for messages.
        view: Axes of views. `nt` patches of `t` frames are along the time, and so on.
        patches: Axes of patches.
        grid: Names of the grid's axes.
        patch: Names of a patch's axes.
        channels: Number of values at each place of a view.
    """

    name: str
    view: str
    patches: str
    grid: tuple[str, ...]
    patch: tuple[str, ...]
    channels: int


# By the number of a patch's axes.
_LAYOUTS = {
    3: _Layout(
        name="video (time, height, width)",
        view="b (nt t) (nh h) (nw w) c",
        patches="b (nt nh nw) (t h w c)",
        grid=("nt", "nh", "nw"),
        patch=("t", "h", "w"),
        channels=3,
    ),
    2: _Layout(
        name="log-mel (frequency, time)",
        view="b (nf f) (nt t)",
        patches="b (nf nt) (f t)",
        grid=("nf", "nt"),
        patch=("f", "t"),
        channels=1,
    ),
}


def token_grid(view: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Returns the number of patches along each axis of a view.

    Args:
        view: Shape of a view, `(T, H, W)` or `(F, T)`; axes that follow are ignored.
        patch: Extents of a patch, `(t, h, w)` or `(f, t)`.

    Raises:
        ValueError: The patch does not divide the view.
    """
    extents = tuple(view)[: len(patch)]
    if len(extents) != len(patch) or any(n % p for n, p in zip(extents, patch, strict=True)):
        raise ValueError(
            f"patch is {tuple(patch)}; allowed: divisors of the {_LAYOUTS[len(patch)].name}, "
            f"which is {extents}"
        )
    return tuple(n // p for n, p in zip(extents, patch, strict=True))


def patch_values(patch: Sequence[int]) -> int:
    """Returns P, the number of values in a patch: `3 * t * h * w` or `f * t`."""
    return math.prod(patch) * _LAYOUTS[len(patch)].channels


def patchify(views: Array, patch: Sequence[int]) -> Array:
    """Cuts videos into cuboids, and log-mels into tiles.

    Args:
        views: `(B, T, H, W, 3)` videos or `(B, F, T)` log-mels, any dtype.
        patch: Extents of a patch: `(t, h, w)` frames and pixels, or `(f, t)` mel bands and time
            steps.

    Returns:
        `(B, N, P)`.

    Raises:
        ValueError: The patch does not divide the views.
    """
    token_grid(views.shape[1:], patch)
    layout = _LAYOUTS[len(patch)]
    extents = dict(zip(layout.patch, patch, strict=True))
    return einops.rearrange(views, f"{layout.view} -> {layout.patches}", **extents)


def unpatchify(patches: Array, grid: Sequence[int], patch: Sequence[int]) -> Array:
    """Joins patches to videos or log-mels: the inverse of `patchify`.

    Args:
        patches: `(B, N, P)`.
        grid: Number of patches along each axis, see `token_grid`.
        patch: Extents of a patch, as for `patchify`.

    Returns:
        `(B, T, H, W, 3)` or `(B, F, T)`.
    """
    layout = _LAYOUTS[len(patch)]
    extents = dict(zip((*layout.grid, *layout.patch), (*grid, *patch), strict=True))
    return einops.rearrange(patches, f"{layout.patches} -> {layout.view}", **extents)


def normalize_patches(patches: Array, eps: float = 1e-6) -> tuple[Array, Array, Array]:
    """Gives each patch zero mean and unit variance (docs/method.md, section 3).

    The variance is unbiased and `eps` is inside the root, as in masked autoencoders (He et al.,
    arXiv 2111.06377). `normalized * std + mean` restores the patches.

    Args:
        patches: `(..., P)` float, `P` values per patch.
        eps: Number that is added to the variance, in squared units of the patches.

    Returns:
        normalized: `(..., P)`, the normalized patches.
        mean: `(..., 1)`, the mean of each patch.
        std: `(..., 1)`, the root of each patch's variance plus `eps`.
    """
    mean = patches.mean(axis=-1, keepdims=True)
    std = (patches.var(axis=-1, ddof=1, keepdims=True) + eps) ** 0.5
    return (patches - mean) / std, mean, std
