"""SpecAugment and a random resized crop of log-mels, on the accelerator.

Time warp, frequency masks and time masks are those of Park et al. 2019 (arXiv 1904.08779). The crop
comes last, and is that of the local views of pretraining (BYOL-A, arXiv 2103.06695). Each example
has its own draws.
"""

from collections.abc import Sequence
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
        crop: (..., 4) int32. First band, first frame, number of bands and number of frames of the
            crop, on its canvas.
    """

    moved: jax.Array
    bands: jax.Array
    frames: jax.Array
    crop: jax.Array


def draw(key: jax.Array, config: ml_collections.ConfigDict, size: tuple[int, int]) -> Draws:
    """Draws the augmentation of one log-mel.

    Args:
        key: Typed random key. Use `jax.vmap` over keys to draw for many log-mels.
        config: Section with `frequency_masks` and `time_masks`, the numbers of masks;
            `frequency_mask_bands` and `time_mask_frames`, exclusive upper bounds of their extents;
            `time_warp`, the largest shift in frames (0 turns the warp off); `crop_extent`, the
            smallest and largest extent of the crop; and `crop_canvas`, the extents (frequency,
            time) of the canvas that it is taken from, both relative to the log-mel's.
        size: F and W.

    Returns:
        Draws without leading axes.
    """
    warp_key, band_key, frame_key, crop_key = jax.random.split(key, 4)
    bands, frames = size
    return Draws(
        moved=draw_warp(warp_key, config.time_warp, frames),
        bands=draw_masks(band_key, config.frequency_masks, config.frequency_mask_bands, bands),
        frames=draw_masks(frame_key, config.time_masks, config.time_mask_frames, frames),
        crop=draw_crop(crop_key, config.crop_extent, size, canvas_size(config.crop_canvas, size)),
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


def canvas_size(canvas: Sequence[float], size: Sequence[int]) -> tuple[int, int]:
    """Computes numbers of bands and frames from extents relative to those of a log-mel."""
    bands, frames = (int(extent * n) for extent, n in zip(canvas, size, strict=True))
    return bands, frames


def draw_crop(
    key: jax.Array, extent: Sequence[float], size: Sequence[int], canvas: Sequence[int]
) -> jax.Array:
    """Draws a crop of the canvas that holds a log-mel.

    Args:
        key: Typed random key.
        extent: Smallest and largest extent of the crop, as fractions of the log-mel's. It is drawn
            uniformly and independently for the two axes, then limited to the canvas.
        size: F and W.
        canvas: Numbers of bands and frames of the canvas.

    Returns:
        (4,) int32. First band, first frame, number of bands and number of frames of the crop, on
        the canvas.
    """
    extents, places = jax.random.uniform(key, (2, 2))
    low, high = extent
    whole = jnp.asarray(canvas, jnp.float32)
    crop = jnp.floor((low + (high - low) * extents) * jnp.asarray(size))
    crop = jnp.clip(crop, 1, whole)
    corner = jnp.floor(places * (whole - crop + 1))
    return jnp.concatenate([corner, crop]).astype(jnp.int32)


def augment(draws: Draws, log_mels: jax.Array, canvas: Sequence[float]) -> jax.Array:
    """Warps time, fills masks with the mean of the warped log-mel, and cuts and resizes a crop.

    Args:
        draws: Draws with a leading axis B.
        log_mels: (B, F, W) float32, normalized.
        canvas: Extents (frequency, time) of the crop's canvas, relative to the log-mel's.

    Returns:
        (B, F, W) float32.
    """
    extents = canvas_size(canvas, log_mels.shape[1:])
    masked = jax.vmap(_warp_and_mask)(draws, log_mels)
    return jax.vmap(lambda log_mel, box: resized_crop(log_mel, box, extents))(masked, draws.crop)


def _warp_and_mask(draws: Draws, log_mel: jax.Array) -> jax.Array:
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


def resized_crop(log_mel: jax.Array, box: jax.Array, canvas: Sequence[int]) -> jax.Array:
    """Centers a log-mel on a canvas of zeros, cuts a crop out of the canvas and resizes it.

    The interpolation is bicubic with a = -0.75 and clamped edges, and the outermost values of the
    crop map to the outermost values of the result, as in the local views of pretraining
    (`input_pipeline.views.resized_audio_crop`).

    Args:
        log_mel: (F, W) float, normalized: its mean over the data is 0, like the canvas.
        box: (4,) int32. First band, first frame, number of bands and number of frames of the crop,
            on the canvas.
        canvas: Numbers of bands and frames of the canvas, no less than the log-mel's.

    Returns:
        (F, W) float.
    """
    margins = [whole - part for whole, part in zip(canvas, log_mel.shape, strict=True)]
    on_canvas = jnp.pad(log_mel, [(n // 2, n - n // 2) for n in margins])
    # Products with the weights of both axes, since accelerators gather slowly.
    over_bands, over_frames = (
        _cubic_weights(box[axis], box[axis + 2], log_mel.shape[axis], canvas[axis])
        for axis in (0, 1)
    )
    return jnp.linalg.multi_dot([over_bands, on_canvas, over_frames.T], precision="highest")


def _cubic_weights(start: jax.Array, length: jax.Array, count: int, extent: int) -> jax.Array:
    """Computes the weights (count, extent) that resize a part of an axis to `count` values."""
    position = jnp.arange(count) * (length - 1)
    steps = max(count - 1, 1)
    offsets = jnp.arange(-1, 3)
    shares = _cubic(offsets - (position % steps)[:, None] / steps)
    clamped = start + jnp.clip((position // steps)[:, None] + offsets, 0, length - 1)
    return jnp.sum(shares[..., None] * (clamped[..., None] == jnp.arange(extent)), axis=1)


def _cubic(distance: jax.Array) -> jax.Array:
    """Computes Keys' cubic convolution kernel with a = -0.75 for distances of at most 2."""
    a, x = -0.75, jnp.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return jnp.where(x <= 1, near, far)
