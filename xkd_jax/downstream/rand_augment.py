"""RandAugment of clips on the accelerator: operations as PIL defines them, drawn once a clip.

Cubuk et al. 2020 (arXiv 1909.13719), with the fifteen operations and the scales of magnitude that
are usual in finetuning vision transformers (the set `rand` of the library timm): each of some
operations in a row, drawn with replacement, is done with a probability, at a magnitude that is
normal around a mean. All frames of a clip share the draw. The interpolation is bilinear.

A clip is `(T, H, W, 3)` float32 with the whole numbers 0 to 255, which is also what every operation
returns: as PIL does, each rounds down, so that none has to be undone for the next. Magnitudes are
on a scale from 0 to 10.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from xkd_jax.augment import MEAN
from xkd_jax.sharding import BATCH_AXES

LARGEST = 10.0
# Shown where a clip is moved away: the mean color of ImageNet.
FILL = np.round(255 * MEAN)


class Draws(NamedTuple):
    """What is done to a clip, or to several with leading axes `...`.

    Attributes:
        operation: `(..., n)` int32, indices into `OPERATIONS`, in the order of doing.
        done: `(..., n)` bool, whether each of them is done.
        magnitude: `(..., n)` float32 in [0, 10].
        negative: `(..., n)` bool, which of two directions is taken, where there are two.
    """

    operation: jax.Array
    done: jax.Array
    magnitude: jax.Array
    negative: jax.Array


def draw(key, config):
    """Draws what is done to one clip.

    Args:
        key: a typed key; `jax.vmap` over keys draws for many.
        config: with `operations`, their number in a row, `probability`, `magnitude` and
            `magnitude_std`.

    Returns:
        `Draws` without leading axes.
    """
    keys = Draws(*jax.random.split(key, len(Draws._fields)))
    shape = (config.operations,)
    noise = config.magnitude_std * jax.random.normal(keys.magnitude, shape)
    return Draws(
        operation=jax.random.randint(keys.operation, shape, 0, len(OPERATIONS)),
        done=jax.random.bernoulli(keys.done, config.probability, shape),
        magnitude=jnp.clip(config.magnitude + noise, 0, LARGEST),
        negative=jax.random.bernoulli(keys.negative, 0.5, shape),
    )


def augment(draws, clips, mesh: Mesh):
    """Augments clips. Each costs what is done to it, not what could have been.

    Args:
        draws: `Draws` with a leading axis B.
        clips: `(B, T, H, W, 3)` uint8, split over the mesh on the first axis.
        mesh: of the run.

    Returns:
        `(B, T, H, W, 3)` uint8, split likewise.
    """

    # Clip by clip, since a batch would compute all fifteen operations for every one of them; the
    # loop has to be over a device's own clips, or it would fetch those of the others.
    def of_device(draws, clips):
        return jax.lax.map(lambda pair: augment_clip(*pair), (draws, clips))

    over_batch = P(BATCH_AXES)
    return jax.shard_map(of_device, mesh=mesh, in_specs=over_batch, out_specs=over_batch)(
        draws, clips
    )


def augment_clip(draws, clip):
    """Does what was drawn for one clip `(T, H, W, 3)` uint8 to it."""
    branches = [lambda clip, magnitude, sign: clip, *OPERATIONS]

    def step(clip, turn):
        chosen = jnp.where(turn.done, turn.operation + 1, 0)
        sign = jnp.where(turn.negative, -1.0, 1.0)
        return jax.lax.switch(chosen, branches, clip, turn.magnitude, sign), None

    return jax.lax.scan(step, clip.astype(jnp.float32), draws)[0].astype(jnp.uint8)


# Of values and their distribution in a frame.


def auto_contrast(clip, magnitude, sign):
    """Stretches each channel of each frame to the whole range."""
    low, high = (f(clip, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max))
    stretched = jnp.floor((clip - low) * 255 / jnp.maximum(high - low, 1))
    return jnp.where(high > low, stretched, clip)


def equalize(clip, magnitude, sign):
    """Makes the values of each channel of each frame equally frequent."""
    frames, height, width, channels = clip.shape
    values = jnp.moveaxis(clip, -1, 1).reshape(frames, channels, -1).astype(jnp.int32)
    # Comparing is fused with its sum; adding at indices is not, and slow on accelerators.
    counts = jnp.sum(values[..., None] == jnp.arange(256), axis=2)
    below = jnp.cumsum(counts, axis=-1) - counts
    highest = jnp.take_along_axis(counts, values.max(axis=2, keepdims=True), axis=2)
    step = (height * width - highest) // 255
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    table = jnp.where(step > 0, table, jnp.arange(256))
    mapped = jnp.take_along_axis(table, values, axis=2).reshape(frames, channels, height, width)
    return jnp.moveaxis(mapped, 1, -1).astype(jnp.float32)


def invert(clip, magnitude, sign):
    """Takes the negative."""
    return 255 - clip


def posterize(clip, magnitude, sign):
    """Keeps 0 to 4 bits of each value."""
    size = 2.0 ** (8 - jnp.floor(magnitude / LARGEST * 4))
    return jnp.floor(clip / size) * size


def solarize(clip, magnitude, sign):
    """Inverts the values from a threshold, 0 to 256, on."""
    return jnp.where(clip < jnp.floor(magnitude / LARGEST * 256), clip, 255 - clip)


def solarize_add(clip, magnitude, sign):
    """Adds 0 to 110 to the values of the lower half."""
    return jnp.where(clip < 128, clip + jnp.floor(magnitude / LARGEST * 110), clip)


# Between a clip and a poorer form of it, and beyond.


def color(clip, magnitude, sign):
    """Changes the saturation."""
    return _blend(_gray(clip)[..., None], clip, magnitude)


def contrast(clip, magnitude, sign):
    """Changes the distance from each frame's mean gray."""
    mean = jnp.floor(_gray(clip).mean(axis=(1, 2)) + 0.5)
    return _blend(mean[:, None, None, None], clip, magnitude)


def brightness(clip, magnitude, sign):
    """Changes the distance from black."""
    return _blend(0.0, clip, magnitude)


def sharpness(clip, magnitude, sign):
    """Changes the distance from a smoothed form, but for the outermost pixels."""
    height, width = clip.shape[1:3]
    if min(height, width) < 3:
        return clip
    shifted = [clip[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    smooth = jnp.floor((sum(shifted) + 4 * shifted[4]) / 13 + 0.5)
    return _blend(clip.at[:, 1:-1, 1:-1].set(smooth), clip, magnitude)


def _blend(poor, clip, magnitude):
    """Goes from the poorer form, by 0.1 to 1.9 of the distance, toward the clip."""
    factor = 0.1 + magnitude / LARGEST * 1.8
    return jnp.floor(jnp.clip(poor + factor * (clip - poor), 0, 255))


def _gray(clip):
    """Luma `(T, H, W)`, rounded, with the weights of ITU-R BT.601."""
    red, green, blue = (clip[..., i] for i in range(3))
    return jnp.floor((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536)


# Of places.


def rotate(clip, magnitude, sign):
    """Turns by up to 30 degrees."""
    angle = -jnp.deg2rad(sign * magnitude / LARGEST * 30)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = clip.shape[2] / 2, clip.shape[1] / 2
    return _warp(clip, (cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y))


def shear_x(clip, magnitude, sign):
    """Moves rows against each other, by up to 0.3 pixels a row."""
    return _warp(clip, (1.0, sign * magnitude / LARGEST * 0.3, 0.0), (0.0, 1.0, 0.0))


def shear_y(clip, magnitude, sign):
    """Moves columns against each other, by up to 0.3 pixels a column."""
    return _warp(clip, (1.0, 0.0, 0.0), (sign * magnitude / LARGEST * 0.3, 1.0, 0.0))


def translate_x(clip, magnitude, sign):
    """Moves left or right, by up to 0.45 of the width."""
    distance = sign * magnitude / LARGEST * 0.45 * clip.shape[2]
    return _warp(clip, (1.0, 0.0, distance), (0.0, 1.0, 0.0))


def translate_y(clip, magnitude, sign):
    """Moves up or down, by up to 0.45 of the height."""
    distance = sign * magnitude / LARGEST * 0.45 * clip.shape[1]
    return _warp(clip, (1.0, 0.0, 0.0), (0.0, 1.0, distance))


def _warp(clip, row_x, row_y):
    """Fetches each pixel from elsewhere, bilinearly, or fills it where that is outside.

    Args:
        clip: `(T, H, W, 3)`.
        row_x: three factors, of x, y and 1, whose sum is where a pixel's x comes from.
        row_y: likewise for y. Pixels' centers are at halves.
    """
    frames, height, width, _ = clip.shape
    y, x = jnp.arange(height)[:, None] + 0.5, jnp.arange(width) + 0.5
    from_x = row_x[0] * x + row_x[1] * y + row_x[2]
    from_y = row_y[0] * x + row_y[1] * y + row_y[2]
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    left, top = jnp.floor(from_x - 0.5), jnp.floor(from_y - 0.5)
    right_share, lower_share = from_x - 0.5 - left, from_y - 0.5 - top
    # A pixel's values at all times side by side: few fetches of much, where there would be many.
    pixels = jnp.moveaxis(clip, 0, 2).reshape(height * width, frames * 3)

    def fetched(right, lower):
        column = jnp.clip(left + right, 0, width - 1).astype(jnp.int32)
        row = jnp.clip(top + lower, 0, height - 1).astype(jnp.int32)
        share = (right_share if right else 1 - right_share) * (
            lower_share if lower else 1 - lower_share
        )
        return share[..., None] * pixels[row * width + column]

    warped = sum(fetched(right, lower) for right in (0, 1) for lower in (0, 1))
    warped = jnp.moveaxis(warped.reshape(height, width, frames, 3), 2, 0)
    # The small number is for sums of shares that fall just short of 1.
    return jnp.where(inside[..., None], jnp.floor(warped + 1e-3), FILL)


OPERATIONS = (
    auto_contrast,
    equalize,
    invert,
    rotate,
    posterize,
    solarize,
    solarize_add,
    color,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)
