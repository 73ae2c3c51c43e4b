"""RandAugment of video on the accelerator, with PIL's operations.

Cubuk et al. 2020 (arXiv 1909.13719). The fifteen operations and their scales are those usual in
finetuning vision transformers: the increasing set of the library timm (`inc1`), in which operations
with a scale change a view more at larger magnitudes. In timm's plain set, posterize and solarize
change it less, and color, contrast, brightness and sharpness go from much less of each to much
more. A fixed number of operations is drawn with replacement. Each is applied with a given
probability, at a normally distributed magnitude from 0 to 10. All frames of a view share the draws.
The interpolation is bilinear.

Each operation takes a view's frames `clip`, (T, H, W, 3) float32 with integer values from 0 to 255,
and a `Level`. It returns frames in the same form: like PIL's, it rounds its result down.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from xkd_jax.method.augment import MEAN
from xkd_jax.sharding import BATCH_AXES

LARGEST = 10.0  # magnitude
# Color of the pixels that a warp leaves empty: ImageNet's mean.
FILL = np.round(255 * MEAN)


class Draws(NamedTuple):
    """Random choices for a view, or for several views along leading axes `...`.

    Attributes:
        operation: (..., n) int32. Indices into `OPERATIONS`, in the order of application.
        done: (..., n) bool. Whether each operation is applied.
        magnitude: (..., n) float32 in [0, 10].
        negative: (..., n) bool. Whether to take the negative of an operation's two directions.
            Operations with one direction ignore it.
    """

    operation: jax.Array
    done: jax.Array
    magnitude: jax.Array
    negative: jax.Array


class Level(NamedTuple):
    """How an operation is applied.

    Attributes:
        share: () float32 in [0, 1]. Magnitude over the largest magnitude.
        sign: () float32, 1 or -1. Which of an operation's two directions to take.
        increasing: Whether larger magnitudes change a view more, whatever the operation.
    """

    share: jax.Array
    sign: jax.Array
    increasing: bool


def draw(key: jax.Array, config: ml_collections.ConfigDict) -> Draws:
    """Draws the operations for one view.

    Args:
        key: Typed random key. Use `jax.vmap` over keys to draw for many views.
        config: Section with `operations` (how many to draw), `probability`, `magnitude` and
            `magnitude_std`.

    Returns:
        Draws without leading axes.
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


def augment(draws: Draws, clips: jax.Array, mesh: Mesh, increasing: bool) -> jax.Array:
    """Augments a batch of views. A view costs only the operations drawn for it.

    Args:
        draws: Draws with a leading axis B.
        clips: (B, T, H, W, 3) uint8, sharded over the mesh along the first axis.
        mesh: Device mesh of the run.
        increasing: As in `Level`.

    Returns:
        (B, T, H, W, 3) uint8, sharded like `clips`.
    """

    # One view at a time: vectorized, the switch would compute all fifteen operations for each view.
    # Each device loops over its own views; a loop over the whole batch would fetch other devices'.
    def augment_shard(draws: Draws, clips: jax.Array) -> jax.Array:
        return jax.lax.map(lambda pair: augment_clip(*pair, increasing), (draws, clips))

    over_batch = P(BATCH_AXES)
    return jax.shard_map(augment_shard, mesh=mesh, in_specs=over_batch, out_specs=over_batch)(
        draws, clips
    )


def augment_clip(draws: Draws, clip: jax.Array, increasing: bool) -> jax.Array:
    """Applies the drawn operations to one view.

    Args:
        draws: Draws without leading axes.
        clip: (T, H, W, 3) uint8.
        increasing: As in `Level`.

    Returns:
        (T, H, W, 3) uint8.
    """

    def branch(operation: Operation) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
        return lambda clip, share, sign: operation(clip, Level(share, sign, increasing))

    branches = [lambda clip, share, sign: clip, *map(branch, OPERATIONS)]

    def step(clip: jax.Array, draw: Draws) -> tuple[jax.Array, None]:
        index = jnp.where(draw.done, draw.operation + 1, 0)
        sign = jnp.where(draw.negative, -1.0, 1.0)
        return jax.lax.switch(index, branches, clip, draw.magnitude / LARGEST, sign), None

    return jax.lax.scan(step, clip.astype(jnp.float32), draws)[0].astype(jnp.uint8)


# Operations on single values or on a frame's histogram.


def auto_contrast(clip: jax.Array, level: Level) -> jax.Array:
    """Stretches each channel of each frame to the range 0 to 255."""
    low, high = (f(clip, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max))
    stretched = jnp.floor((clip - low) * 255 / jnp.maximum(high - low, 1))
    return jnp.where(high > low, stretched, clip)


def equalize(clip: jax.Array, level: Level) -> jax.Array:
    """Equalizes the histogram of each channel of each frame."""
    frames, height, width, channels = clip.shape
    values = jnp.moveaxis(clip, -1, 1).reshape(frames, channels, -1).astype(jnp.int32)
    # XLA fuses the comparison with its sum. A scatter-add would be slow on accelerators.
    counts = jnp.sum(values[..., None] == jnp.arange(256), axis=2)
    below = jnp.cumsum(counts, axis=-1) - counts
    highest = jnp.take_along_axis(counts, values.max(axis=2, keepdims=True), axis=2)
    step = (height * width - highest) // 255
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    table = jnp.where(step > 0, table, jnp.arange(256))
    mapped = jnp.take_along_axis(table, values, axis=2).reshape(frames, channels, height, width)
    return jnp.moveaxis(mapped, 1, -1).astype(jnp.float32)


def invert(clip: jax.Array, level: Level) -> jax.Array:
    """Inverts all values."""
    return 255 - clip


def posterize(clip: jax.Array, level: Level) -> jax.Array:
    """Keeps the upper 4 to 0 bits of each value."""
    bits = jnp.floor(level.share * 4)
    size = 2.0 ** (8 - (4 - bits if level.increasing else bits))
    return jnp.floor(clip / size) * size


def solarize(clip: jax.Array, level: Level) -> jax.Array:
    """Inverts values at or above a threshold from 256 to 0."""
    distance = jnp.floor(level.share * 256)
    threshold = 256 - distance if level.increasing else distance
    return jnp.where(clip < threshold, clip, 255 - clip)


def solarize_add(clip: jax.Array, level: Level) -> jax.Array:
    """Adds 0 to 110 to values below 128."""
    return jnp.where(clip < 128, clip + jnp.floor(level.share * 110), clip)


# Operations that move frames toward or away from a degenerate version of themselves.


def color(clip: jax.Array, level: Level) -> jax.Array:
    """Changes the saturation: the distance from gray."""
    return _blend(_gray(clip)[..., None], clip, level)


def contrast(clip: jax.Array, level: Level) -> jax.Array:
    """Changes the contrast: the distance from the mean gray of each frame."""
    mean = jnp.floor(_gray(clip).mean(axis=(1, 2)) + 0.5)
    return _blend(mean[:, None, None, None], clip, level)


def brightness(clip: jax.Array, level: Level) -> jax.Array:
    """Changes the brightness: the distance from black."""
    return _blend(0.0, clip, level)


def sharpness(clip: jax.Array, level: Level) -> jax.Array:
    """Changes the sharpness: the distance from a smoothed version. Leaves border pixels alone."""
    height, width = clip.shape[1:3]
    if min(height, width) < 3:
        return clip
    shifted = [clip[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    smooth = jnp.floor((sum(shifted) + 4 * shifted[4]) / 13 + 0.5)
    return _blend(clip.at[:, 1:-1, 1:-1].set(smooth), clip, level)


def _blend(degenerate: jax.Array | float, clip: jax.Array, level: Level) -> jax.Array:
    """Moves from the degenerate version toward the frames by 0.1 to 1.9 of the distance."""
    if level.increasing:
        factor = jnp.maximum(1 + level.sign * level.share * 0.9, 0.1)
    else:
        factor = 0.1 + level.share * 1.8
    return jnp.floor(jnp.clip(degenerate + factor * (clip - degenerate), 0, 255))


def _gray(clip: jax.Array) -> jax.Array:
    """Computes the rounded luma (T, H, W) with the weights of ITU-R BT.601."""
    red, green, blue = (clip[..., i] for i in range(3))
    return jnp.floor((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536)


# Operations that move pixels.


def rotate(clip: jax.Array, level: Level) -> jax.Array:
    """Rotates by up to 30 degrees."""
    angle = -jnp.deg2rad(level.sign * level.share * 30)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = clip.shape[2] / 2, clip.shape[1] / 2
    return _warp(clip, (cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y))


def shear_x(clip: jax.Array, level: Level) -> jax.Array:
    """Shifts each row against the row above by up to 0.3 pixels."""
    return _warp(clip, (1.0, level.sign * level.share * 0.3, 0.0), (0.0, 1.0, 0.0))


def shear_y(clip: jax.Array, level: Level) -> jax.Array:
    """Shifts each column against the column to its left by up to 0.3 pixels."""
    return _warp(clip, (1.0, 0.0, 0.0), (level.sign * level.share * 0.3, 1.0, 0.0))


def translate_x(clip: jax.Array, level: Level) -> jax.Array:
    """Shifts left or right by up to 0.45 of the width."""
    distance = level.sign * level.share * 0.45 * clip.shape[2]
    return _warp(clip, (1.0, 0.0, distance), (0.0, 1.0, 0.0))


def translate_y(clip: jax.Array, level: Level) -> jax.Array:
    """Shifts up or down by up to 0.45 of the height."""
    distance = level.sign * level.share * 0.45 * clip.shape[1]
    return _warp(clip, (1.0, 0.0, 0.0), (0.0, 1.0, distance))


def _warp(
    clip: jax.Array,
    row_x: tuple[jax.Array | float, jax.Array | float, jax.Array | float],
    row_y: tuple[jax.Array | float, jax.Array | float, jax.Array | float],
) -> jax.Array:
    """Applies an affine transform with bilinear interpolation, and fills what falls outside.

    Pixel centers are at half-integer coordinates. The output at (x, y) is the input at
    (row_x . (x, y, 1), row_y . (x, y, 1)).

    Args:
        clip: (T, H, W, 3) float32.
        row_x: Coefficients of x, y and 1 for the source's x.
        row_y: Coefficients of x, y and 1 for the source's y.

    Returns:
        (T, H, W, 3) float32.
    """
    frames, height, width, _ = clip.shape
    y, x = jnp.arange(height)[:, None] + 0.5, jnp.arange(width) + 0.5
    from_x = row_x[0] * x + row_x[1] * y + row_x[2]
    from_y = row_y[0] * x + row_y[1] * y + row_y[2]
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    left, top = jnp.floor(from_x - 0.5), jnp.floor(from_y - 0.5)
    right_share, lower_share = from_x - 0.5 - left, from_y - 0.5 - top
    # Each row holds one pixel's values at all times, for few large fetches instead of many small.
    pixels = jnp.moveaxis(clip, 0, 2).reshape(height * width, frames * 3)

    def weighted_neighbor(right: int, lower: int) -> jax.Array:
        column = jnp.clip(left + right, 0, width - 1).astype(jnp.int32)
        row = jnp.clip(top + lower, 0, height - 1).astype(jnp.int32)
        share = (right_share if right else 1 - right_share) * (
            lower_share if lower else 1 - lower_share
        )
        return share[..., None] * pixels[row * width + column]

    warped = sum(weighted_neighbor(right, lower) for right in (0, 1) for lower in (0, 1))
    warped = jnp.moveaxis(warped.reshape(height, width, frames, 3), 2, 0)
    # The small number is for weights whose sum falls just short of 1.
    return jnp.where(inside[..., None], jnp.floor(warped + 1e-3), FILL)


Operation = Callable[[jax.Array, Level], jax.Array]
OPERATIONS: tuple[Operation, ...] = (
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
