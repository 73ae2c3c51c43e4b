"""SpecAugment: time warp, frequency masks and time masks of log-mels, on the accelerator.

Park et al. 2019 (arXiv 1904.08779). Each example has its own draws.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections


class Draws(NamedTuple):
    """Random choices for a log-mel of F bands and W frames, or for several along axes `...`.

    Attributes:
        moved: (..., 2) float32. Position in time that the warp moves, and its new position, in
            frames. Equal if there is no warp.
        bands: (..., n, 2) int32. First band and number of bands of each frequency mask.
        frames: (..., m, 2) int32. First frame and number of frames of each time mask.
    """

    moved: jax.Array
    bands: jax.Array
    frames: jax.Array


def draw(key: jax.Array, config: ml_collections.ConfigDict, size: tuple[int, int]) -> Draws:
    """Draws the augmentation of one log-mel.

    Args:
        key: Typed random key. Use `jax.vmap` over keys to draw for many log-mels.
        config: Section with `frequency_masks` and `time_masks`, the numbers of masks;
            `frequency_mask_bands` and `time_mask_frames`, exclusive upper bounds of their extents;
            and `time_warp`, the largest shift in frames (0 turns the warp off).
        size: F and W.

    Returns:
        Draws without leading axes.
    """
    warp_key, band_key, frame_key = jax.random.split(key, 3)
    bands, frames = size
    return Draws(
        moved=draw_warp(warp_key, config.time_warp, frames),
        bands=draw_masks(band_key, config.frequency_masks, config.frequency_mask_bands, bands),
        frames=draw_masks(frame_key, config.time_masks, config.time_mask_frames, frames),
    )


def draw_warp(key: jax.Array, limit: int, frames: int) -> jax.Array:
    """Draws a position in time and where to move it.

    Args:
        key: Typed random key.
        limit: Largest shift, and smallest distance of the position from both ends, in frames.
            0 turns the warp off.
        frames: W, the length of the log-mel.

    Returns:
        (2,) float32. Old and new position in frames. They are equal if the log-mel is not longer
        than twice `limit`.
    """
    if not limit or frames <= 2 * limit:
        return jnp.full(2, frames / 2, jnp.float32)
    position, shift = jax.random.uniform(key, (2,))
    start = limit + position * (frames - 2 * limit)
    return jnp.stack([start, start + (2 * shift - 1) * limit])


def draw_masks(key: jax.Array, count: int, limit: int, extent: int) -> jax.Array:
    """Draws masks along an axis: extents in [0, limit), then starts.

    Args:
        key: Typed random key.
        count: Number of masks.
        limit: Exclusive upper bound of the masks' extents. No mask is longer than the axis.
        extent: Length of the axis.

    Returns:
        (count, 2) int32. Start and extent of each mask.
    """
    extent_key, place_key = jax.random.split(key)
    extents = jax.random.randint(extent_key, (count,), 0, min(limit, extent + 1))
    starts = jax.random.randint(place_key, (count,), 0, extent - extents + 1)
    return jnp.stack([starts, extents], axis=-1)


def augment(draws: Draws, log_mels: jax.Array) -> jax.Array:
    """Warps time, then fills masked bands and frames with the mean of the warped log-mel.

    Args:
        draws: Draws with a leading axis B.
        log_mels: (B, F, W) float32.

    Returns:
        (B, F, W) float32.
    """
    return jax.vmap(_augment_one)(draws, log_mels)


def _augment_one(draws: Draws, log_mel: jax.Array) -> jax.Array:
    warped = warp_time(log_mel, draws.moved)
    bands, frames = log_mel.shape
    masked = _covered(draws.bands, bands)[:, None] | _covered(draws.frames, frames)
    return jnp.where(masked, warped.mean(), warped)


def warp_time(log_mel: jax.Array, moved: jax.Array) -> jax.Array:
    """Moves one position in time, and stretches or squeezes the parts before and after it.

    The two ends stay in place. The interpolation is linear between the frames' centers, which are
    at half-integer positions.

    Args:
        log_mel: (F, W) float.
        moved: (2,) float in [0, W]. Old and new position in frames.

    Returns:
        (F, W) float.
    """
    frames = log_mel.shape[-1]
    start, end = moved
    center = jnp.arange(frames) + 0.5
    before = center * (start / end)
    after = start + (center - end) * ((frames - start) / (frames - end))
    source = jnp.clip(jnp.where(center < end, before, after) - 0.5, 0, frames - 1)
    left = jnp.minimum(jnp.floor(source).astype(jnp.int32), frames - 2)
    share = source - left
    return (1 - share) * log_mel[:, left] + share * log_mel[:, left + 1]


def _covered(masks: jax.Array, extent: int) -> jax.Array:
    """Computes which of `extent` indices are in any of the masks (n, 2), as (extent,) bool."""
    index = jnp.arange(extent)[:, None]
    start, length = masks[:, 0], masks[:, 1]
    return ((index >= start) & (index < start + length)).any(axis=1)
