"""Cuts video and log-mel spectrograms into patches, and joins the patches again.

The tokens of a video are ordered by (time, height, width), and the values of a patch by (time,
height, width, channel), the last axis fastest. The tokens of a log-mel and the values of its
patches are ordered by (frequency, time). Every function takes a NumPy or a JAX array, and returns
an array of the same kind and dtype.
"""

from collections.abc import Sequence
from typing import TypeVar

import einops
import jax
import numpy as np

Array = TypeVar("Array", np.ndarray, jax.Array)


def patchify_video(video: Array, patch: Sequence[int]) -> Array:
    """Cuts videos into cuboids.

    Args:
        video: `(B, T, H, W, C)`, any dtype.
        patch: `(t, h, w)`, frames and pixels of one patch.

    Returns:
        `(B, T/t * H/h * W/w, t * h * w * C)`.

    Raises:
        ValueError: The patch does not divide the video.
    """
    _require_divisible(video.shape[1:4], patch, "video (time, height, width)")
    t, h, w = patch
    pattern = "b (nt t) (nh h) (nw w) c -> b (nt nh nw) (t h w c)"
    return einops.rearrange(video, pattern, t=t, h=h, w=w)


def unpatchify_video(patches: Array, grid: Sequence[int], patch: Sequence[int]) -> Array:
    """Joins cuboids to videos: the inverse of `patchify_video`.

    Args:
        patches: `(B, nt * nh * nw, t * h * w * C)`.
        grid: `(nt, nh, nw)`, the number of patches along each axis.
        patch: `(t, h, w)`, frames and pixels of one patch.

    Returns:
        `(B, nt * t, nh * h, nw * w, C)`.
    """
    (nt, nh, nw), (t, h, w) = grid, patch
    pattern = "b (nt nh nw) (t h w c) -> b (nt t) (nh h) (nw w) c"
    return einops.rearrange(patches, pattern, nt=nt, nh=nh, nw=nw, t=t, h=h, w=w)


def patchify_audio(log_mel: Array, patch: Sequence[int]) -> Array:
    """Cuts log-mel spectrograms into tiles.

    Args:
        log_mel: `(B, F, T)`, mel bands by time steps, any dtype.
        patch: `(f, t)`, mel bands and time steps of one patch.

    Returns:
        `(B, F/f * T/t, f * t)`.

    Raises:
        ValueError: The patch does not divide the spectrogram.
    """
    _require_divisible(log_mel.shape[1:3], patch, "log-mel (frequency, time)")
    f, t = patch
    return einops.rearrange(log_mel, "b (nf f) (nt t) -> b (nf nt) (f t)", f=f, t=t)


def unpatchify_audio(patches: Array, grid: Sequence[int], patch: Sequence[int]) -> Array:
    """Joins tiles to log-mels: the inverse of `patchify_audio`.

    Args:
        patches: `(B, nf * nt, f * t)`.
        grid: `(nf, nt)`, the number of patches along each axis.
        patch: `(f, t)`, mel bands and time steps of one patch.

    Returns:
        `(B, nf * f, nt * t)`.
    """
    (nf, nt), (f, t) = grid, patch
    pattern = "b (nf nt) (f t) -> b (nf f) (nt t)"
    return einops.rearrange(patches, pattern, nf=nf, nt=nt, f=f, t=t)


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


def _require_divisible(shape: Sequence[int], patch: Sequence[int], name: str) -> None:
    if len(shape) != len(patch) or any(n % p for n, p in zip(shape, patch, strict=True)):
        raise ValueError(
            f"patch is {tuple(patch)}; allowed: divisors of the {name}, which is {tuple(shape)}"
        )
