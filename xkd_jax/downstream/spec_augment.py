"""SpecAugment: time warp, frequency masks and time masks of log-mels, on the accelerator.

Park et al. 2019 (arXiv 1904.08779). Each example has draws of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Draws(NamedTuple):
    """What is done to one log-mel of F bands and W frames, or to several with leading axes `...`.

    Attributes:
        moved: `(..., 2)` float32, the frame that is moved and where to; equal for no warp.
        bands: `(..., n, 2)` int32, first band and number of bands of each frequency mask.
        frames: `(..., m, 2)` int32, first frame and number of frames of each time mask.
    """

    moved: jax.Array
    bands: jax.Array
    frames: jax.Array


def draw(key, config, size):
    """Draws what is done to one log-mel.

    Args:
        key: a typed key; `jax.vmap` over keys draws for many.
        config: with `frequency_masks` and `time_masks`, their numbers; `frequency_mask_bands` and
            `time_mask_frames`, what the extent of each is less than; and `time_warp`, by how many
            frames at most one is moved, 0 for none.
        size: (F, W).

    Returns:
        `Draws` without leading axes.
    """
    warp_key, band_key, frame_key = jax.random.split(key, 3)
    bands, frames = size
    return Draws(
        moved=draw_warp(warp_key, config.time_warp, frames),
        bands=draw_masks(band_key, config.frequency_masks, config.frequency_mask_bands, bands),
        frames=draw_masks(frame_key, config.time_masks, config.time_mask_frames, frames),
    )


def draw_warp(key, window, frames):
    """Draws which frame is moved where: one at least `window` from both ends, by at most so much.

    Returns:
        `(2,)` float32; equal numbers where the log-mel is no longer than two windows.
    """
    if not window or frames <= 2 * window:
        return jnp.full(2, frames / 2, jnp.float32)
    at, by = jax.random.uniform(key, (2,))
    start = window + at * (frames - 2 * window)
    return jnp.stack([start, start + (2 * by - 1) * window])


def draw_masks(key, count, limit, extent):
    """Draws masks along an axis: extents in [0, limit), then places.

    Args:
        key: a typed key.
        count: number of masks.
        limit: what their extents are less than; cut to the axis.
        extent: of the axis.

    Returns:
        `(count, 2)` int32: start and extent.
    """
    extent_key, place_key = jax.random.split(key)
    extents = jax.random.randint(extent_key, (count,), 0, min(limit, extent + 1))
    starts = jax.random.randint(place_key, (count,), 0, extent - extents + 1)
    return jnp.stack([starts, extents], axis=-1)


def augment(draws, log_mels):
    """Warps time, then masks bands and frames with the mean of the log-mel.

    Args:
        draws: with a leading axis B.
        log_mels: `(B, F, W)` float32.

    Returns:
        `(B, F, W)` float32.
    """
    return jax.vmap(_augment_one)(draws, log_mels)


def _augment_one(draws, log_mel):
    warped = warp_time(log_mel, draws.moved)
    bands, frames = log_mel.shape
    hidden = _covered(draws.bands, bands)[:, None] | _covered(draws.frames, frames)
    return jnp.where(hidden, warped.mean(), warped)


def warp_time(log_mel, moved):
    """Stretches what is before a frame and squeezes what is after it, or the reverse.

    Args:
        log_mel: `(F, W)`.
        moved: `(2,)`, the place, in [0, W], that is moved and where to. The ends stay. Between
            frames, whose centers are at halves, the interpolation is linear.

    Returns:
        `(F, W)`.
    """
    frames = log_mel.shape[-1]
    start, end = moved
    center = jnp.arange(frames) + 0.5
    before = center * (start / end)
    after = start + (center - end) * ((frames - start) / (frames - end))
    place = jnp.clip(jnp.where(center < end, before, after) - 0.5, 0, frames - 1)
    left = jnp.minimum(jnp.floor(place).astype(jnp.int32), frames - 2)
    share = place - left
    return (1 - share) * log_mel[:, left] + share * log_mel[:, left + 1]


def _covered(masks, extent):
    """Which of `extent` places any of the masks `(n, 2)` covers."""
    place = jnp.arange(extent)[:, None]
    start, length = masks[:, 0], masks[:, 1]
    return ((place >= start) & (place < start + length)).any(axis=1)
