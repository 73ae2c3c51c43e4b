"""Video augmentation on the accelerator, inside the jitted step: flip, color, gray, blur.

The host cuts the views out and sends them as uint8; the pixel arithmetic is here. The transforms
are those of torchvision on floats in [0, 1]. Random numbers are shared by all frames of a view, and
independent between examples and views (docs/method.md, section 1).

Nothing mixes examples and there is no loop over them, so a batch-sharded input needs no
communication. Internally, views are color planes `(3, ..., T, H, W)` in [0, 1]: with channels last,
rows of three values would prevent a CPU from using its vector units.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.typing import DTypeLike

from xkd_jax import sharding

Array = TypeVar("Array", np.ndarray, jax.Array)

# Mean and standard deviation of ImageNet's RGB values in [0, 1].
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Draws(NamedTuple):
    """Random numbers for a batch of views, whose axes are the leading axes `...`.

    Attributes:
        flip: `(...)` bool, whether the view is mirrored left to right.
        factors: `(..., 3)` float32, factors of brightness, contrast and saturation; 1 changes
            nothing.
        hue: `(...)` float32, shift of the hue in turns of the color wheel.
        order: `(..., 4)` int32, order of the color transforms.
        gray: `(...)` bool, whether the view becomes gray.
        blur: `(...)` bool, whether the view is blurred.
        sigma: `(...)` float32, standard deviation of the blur in pixels.
    """

    flip: jax.Array
    factors: jax.Array
    hue: jax.Array
    order: jax.Array
    gray: jax.Array
    blur: jax.Array
    sigma: jax.Array


def draw(key: jax.Array, config: ml_collections.ConfigDict) -> Draws:
    """Draws the random numbers of one view.

    Args:
        key: Typed key of the view. Use `jax.vmap` over keys to draw for many views.
        config: `config.views.video`.

    Returns:
        `Draws` without leading axes. A global view ignores gray and blur.
    """
    keys = Draws(*jax.random.split(key, len(Draws._fields)))
    *jitter, hue = config.color_jitter
    jitter = jnp.asarray(jitter)
    low, high = config.local_blur_sigma
    return Draws(
        flip=jax.random.bernoulli(keys.flip, config.flip_probability),
        factors=jax.random.uniform(keys.factors, (3,), minval=1 - jitter, maxval=1 + jitter),
        hue=jax.random.uniform(keys.hue, minval=-hue, maxval=hue),
        order=jax.random.permutation(keys.order, 4),
        gray=jax.random.bernoulli(keys.gray, config.local_gray_probability),
        blur=jax.random.bernoulli(keys.blur, config.local_blur_probability),
        sigma=jax.random.uniform(keys.sigma, minval=low, maxval=high),
    )


def augment_global(
    keys: jax.Array,
    pixels: jax.Array,
    config: ml_collections.ConfigDict,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Augments global views: flip, color jitter and ImageNet's normalization.

    Args:
        keys: `(B,)` typed keys of purpose `VIDEO_GLOBAL`, one per example.
        pixels: `(B, T, H, W, 3)` uint8.
        config: `config.views.video`.
        dtype: Dtype of the result; the arithmetic is float32.

    Returns:
        `(B, T, H, W, 3)` of `dtype`.
    """
    draws = jax.vmap(lambda key: draw(key, config))(keys)
    planes = _to_planes(flip(pixels, draws.flip))
    planes = jitter_color(planes, draws.factors, draws.hue, draws.order)
    return _to_normalized(planes, dtype)


def augment_local(
    keys: jax.Array,
    pixels: jax.Array,
    config: ml_collections.ConfigDict,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Augments local views: flip, color jitter, gray, blur and ImageNet's normalization.

    Args:
        keys: `(B,)` typed keys of purpose `VIDEO_LOCAL`, one per example.
        pixels: `(B, n, T, H, W, 3)` uint8, `n` views per example.
        config: `config.views.video`.
        dtype: Dtype of the result; the arithmetic is float32.

    Returns:
        `(B, n, T, H, W, 3)` of `dtype`.
    """

    def draw_view(key: jax.Array, view: jax.Array) -> Draws:
        # Not `split`: the numbers of one view must not depend on the number of views.
        return draw(jax.random.fold_in(key, view), config)

    view = jnp.arange(pixels.shape[1])
    draws = jax.vmap(jax.vmap(draw_view, (None, 0)), (0, None))(keys, view)
    planes = _to_planes(flip(pixels, draws.flip))
    planes = jitter_color(planes, draws.factors, draws.hue, draws.order)
    planes = remove_color(planes, draws.gray)
    planes = blur(planes, draws.blur, draws.sigma, config.local_blur_kernel)
    return _to_normalized(planes, dtype)


def normalize(pixels: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Normalizes uint8 pixels `(..., 3)` by ImageNet's mean and deviation; returns `dtype`."""
    return ((pixels.astype(jnp.float32) / 255 - MEAN) / STD).astype(dtype)


def denormalize(pixels: Array) -> Array:
    """Maps normalized pixels `(..., 3)`, in a NumPy or JAX array, back to [0, 1]."""
    return pixels * STD + MEAN


def flip(pixels: jax.Array, where: jax.Array) -> jax.Array:
    """Mirrors the views `(..., T, H, W, 3)` for which `where`, `(...)` bool, is true."""
    return jnp.where(_over_pixels(where)[..., None], pixels[..., ::-1, :], pixels)


def jitter_color(
    planes: jax.Array, factors: jax.Array, hue: jax.Array, order: jax.Array
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue, in any order (torchvision's ColorJitter).

    Each view has its own order, so a batch cannot take one branch. Each of the four steps computes
    both a blend (brightness, contrast and saturation are blends) and a shift of the hue for all
    views, and selects one of them per view. The loop is a `scan` because XLA for CPUs would fuse
    four unrolled steps, and compute the earlier steps again for every channel that needs them. XLA
    for GPUs does not do this, and there a loop would copy all pixels at each step.

    Args:
        planes: `(3, ..., T, H, W)` float32 in [0, 1].
        factors: `(..., 3)`, factors of brightness, contrast and saturation; 1 changes nothing.
        hue: `(...)`, shift of the hue in turns of the color wheel.
        order: `(..., 4)` int, permutations of `BRIGHTNESS`, `CONTRAST`, `SATURATION` and `HUE`.

    Returns:
        `(3, ..., T, H, W)` in [0, 1].
    """

    def step(planes: jax.Array, turn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        transform, factor = turn
        is_hue = _over_pixels(transform == HUE)
        pairs = zip(shift_hue(planes, hue), _blend(planes, factor, transform), strict=True)
        # Selects plane by plane: on the stacked planes, XLA for CPUs is five times as slow.
        return jnp.stack([jnp.where(is_hue, shifted, blended) for shifted, blended in pairs]), None

    unused = jnp.ones_like(hue)[..., None]  # the hue step has no factor
    factor = jnp.take_along_axis(jnp.concatenate([factors, unused], axis=-1), order, axis=-1)
    turns = jnp.moveaxis(order, -1, 0), jnp.moveaxis(factor, -1, 0)
    unroll = len(turns[0]) if sharding.platform() == "gpu" else 1
    return jax.lax.scan(step, planes, turns, unroll=unroll)[0]


def shift_hue(planes: jax.Array | Sequence[jax.Array], turns: jax.Array) -> list[jax.Array]:
    """Shifts the hue of each view.

    This takes no detour over HSV: a channel is the pixel's maximum minus its chroma times a
    trapezoid function of the hue. The functions of two channels are a third of a turn apart.

    Args:
        planes: `(3, ..., T, H, W)` in [0, 1], or three planes.
        turns: `(...)`, the shift in turns of the color wheel.

    Returns:
        Three planes `(..., T, H, W)` in [0, 1].
    """
    red, green, blue = planes
    high = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = high - jnp.minimum(jnp.minimum(red, green), blue)
    # The hue in sixths of a turn from red. A gray pixel has no hue: any number will do.
    divisor = jnp.where(chroma == 0, 1, chroma)
    hue = jnp.where(
        high == red,
        (green - blue) / divisor,
        jnp.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue += 6 * _over_pixels(turns)

    def channel(start: int) -> jax.Array:
        sixth = hue + start
        sixth -= 6 * jnp.floor(sixth / 6)  # `%` calls a library for each pixel: ten times as slow
        return high - chroma * jnp.clip(jnp.minimum(sixth, 4 - sixth), 0, 1)

    return [channel(5), channel(3), channel(1)]


def remove_color(planes: jax.Array, where: jax.Array) -> jax.Array:
    """Makes the views `(3, ..., T, H, W)` gray for which `where`, `(...)` bool, is true."""
    return jnp.where(_over_pixels(where), _gray(planes), planes)


def blur(planes: jax.Array, where: jax.Array, sigma: jax.Array, size: int) -> jax.Array:
    """Blurs each frame of some views with a Gaussian (torchvision's GaussianBlur).

    Args:
        planes: `(3, ..., T, H, W)`; `H` and `W` are larger than `size // 2`.
        where: `(...)` bool, which views to blur; the others do not change.
        sigma: `(...)`, standard deviation in pixels.
        size: Width of the kernel in pixels, odd. Frames are padded by reflection.

    Returns:
        `(3, ..., T, H, W)`.
    """
    offset = jnp.arange(size) - size // 2
    kernel = jnp.exp(-0.5 * (offset / sigma[..., None]) ** 2)
    kernel = kernel / kernel.sum(axis=-1, keepdims=True)
    kernel = jnp.where(where[..., None], kernel, offset == 0)
    return _correlate(_correlate(planes, kernel, axis=-2), kernel, axis=-1)


def _correlate(planes: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    """Correlates each view, `(3, ..., T, H, W)`, along one axis with its kernel, `(..., size)`.

    The result is a sum of shifted copies, which XLA fuses. A convolution would need one kernel for
    all views.
    """
    size, length = kernel.shape[-1], planes.shape[axis]
    pad = [(0, 0)] * planes.ndim
    pad[axis] = (size // 2, size // 2)
    padded = jnp.pad(planes, pad, mode="reflect")
    return sum(
        _over_pixels(kernel[..., i]) * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
        for i in range(size)
    )


def _blend(planes: jax.Array, factor: jax.Array, transform: jax.Array) -> list[jax.Array]:
    """Changes brightness, contrast or saturation; `factor` and `transform` are `(...)`.

    Each is a blend of the frame with another: black, the frame's mean gray, or the pixels' gray.
    Every frame has its own mean gray, as in torchvision for a stack of frames.
    """
    gray = _gray(planes)
    mean_gray = gray.mean(axis=(-2, -1), keepdims=True)
    transform, factor = _over_pixels(transform), _over_pixels(factor)
    other = jnp.where(transform == CONTRAST, mean_gray, jnp.where(transform == SATURATION, gray, 0))
    return [jnp.clip(factor * c + (1 - factor) * other, 0, 1) for c in planes]


def _gray(planes: Iterable[jax.Array]) -> jax.Array:
    """Computes the luma `(..., T, H, W)` of three color planes, with the weights of BT.601."""
    red, green, blue = planes
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _to_planes(pixels: jax.Array) -> jax.Array:
    """Converts uint8 pixels `(..., 3)` to float32 color planes `(3, ...)` in [0, 1]."""
    return jnp.moveaxis(pixels, -1, 0).astype(jnp.float32) / 255


def _to_normalized(planes: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Converts color planes `(3, ...)` in [0, 1] to normalized pixels `(..., 3)` of `dtype`."""
    return ((jnp.moveaxis(planes, 0, -1) - MEAN) / STD).astype(dtype)


def _over_pixels(numbers: jax.Array) -> jax.Array:
    """Adds axes for frames, rows and columns to one number per view: `(..., 1, 1, 1)`."""
    return numbers[..., None, None, None]
