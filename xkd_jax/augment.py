"""Video augmentation on the accelerator, inside the jitted step: flip, color, gray, blur.

Crops are made on the host, which then sends uint8; the pixel arithmetic is here. The transforms are
those of torchvision on floats in [0, 1]. Each draw is shared by all frames of a view, and
independent between examples and views (docs/method.md, section 1).

No pixel ever meets another example's, and there is no loop over examples: a batch-sharded input
needs no communication. Inside, clips are color planes `(3, ..., T, H, W)` in [0, 1]: with the
channels last, rows of three values would keep a CPU from using its vector units.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xkd_jax import sharding

# Of ImageNet's RGB values in [0, 1].
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Draws(NamedTuple):
    """What was drawn for each of some views; the leading axes `...` are those of the views.

    Attributes:
        flip: `(...)` bool, whether left and right change places.
        factors: `(..., 3)` float32, of brightness, contrast and saturation; 1 changes nothing.
        hue: `(...)` float32, the shift in turns of the color wheel.
        order: `(..., 4)` int32, the color transforms from the first to the last.
        gray: `(...)` bool, whether the view loses its colors.
        blur: `(...)` bool, whether it is blurred.
        sigma: `(...)` float32, of the blur, in pixels.
    """

    flip: jax.Array
    factors: jax.Array
    hue: jax.Array
    order: jax.Array
    gray: jax.Array
    blur: jax.Array
    sigma: jax.Array


def draw(key, config):
    """Draws everything that is random about one view.

    Args:
        key: A typed key; `jax.vmap` over keys draws for many views.
        config: `config.views.video`.

    Returns:
        `Draws` without leading axes. Of a global view, gray and blur are ignored.
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


def augment_global(keys, clips, config, dtype=jnp.float32):
    """Augments global views: flip and color jitter, then ImageNet's normalization.

    Args:
        keys: `(B,)` typed keys, one an example, of purpose `VIDEO_GLOBAL`.
        clips: `(B, T, H, W, 3)` uint8.
        config: `config.views.video`.
        dtype: Of the result; the arithmetic is float32.

    Returns:
        `(B, T, H, W, 3)` of `dtype`.
    """
    draws = jax.vmap(lambda key: draw(key, config))(keys)
    planes = _to_planes(flip(clips, draws.flip))
    planes = jitter_color(planes, draws.factors, draws.hue, draws.order)
    return _to_normalized(planes, dtype)


def augment_local(keys, clips, config, dtype=jnp.float32):
    """Augments local views: as the global ones, with gray and blur before the normalization.

    Args:
        keys: `(B,)` typed keys, one an example, of purpose `VIDEO_LOCAL`.
        clips: `(B, n, T, H, W, 3)` uint8, `n` views an example.
        config: `config.views.video`.
        dtype: Of the result; the arithmetic is float32.

    Returns:
        `(B, n, T, H, W, 3)` of `dtype`.
    """

    def draw_view(key, view):
        # Not `split`: what is drawn for a view must not depend on how many there are.
        return draw(jax.random.fold_in(key, view), config)

    view = jnp.arange(clips.shape[1])
    draws = jax.vmap(jax.vmap(draw_view, (None, 0)), (0, None))(keys, view)
    planes = _to_planes(flip(clips, draws.flip))
    planes = jitter_color(planes, draws.factors, draws.hue, draws.order)
    planes = remove_color(planes, draws.gray)
    planes = blur(planes, draws.blur, draws.sigma, config.local_blur_kernel)
    return _to_normalized(planes, dtype)


def normalize(clips, dtype=jnp.float32):
    """Maps uint8 pixels `(..., 3)` to ImageNet's zero mean and unit variance, in `dtype`."""
    return ((clips.astype(jnp.float32) / 255 - MEAN) / STD).astype(dtype)


def denormalize(clips):
    """Maps normalized pixels `(..., 3)` back to [0, 1]; NumPy and JAX arrays alike."""
    return clips * STD + MEAN


def flip(clips, where):
    """Mirrors clips `(..., T, H, W, 3)` left to right where `where (...)` says so."""
    return jnp.where(_over_pixels(where)[..., None], clips[..., ::-1, :], clips)


def jitter_color(planes, factors, hue, order):
    """Changes brightness, contrast, saturation and hue, in any order (torchvision's ColorJitter).

    Each view has its own order. At every step all views compute both a blend (of which the first
    three transforms are cases) and a shift of hue, and keep the one whose turn it is: a batch has
    no common branch to take. The loop is a `scan` because XLA for CPUs, seeing four steps in a row,
    fuses them and computes each channel's past anew for each channel that needs it. XLA for GPUs
    does not, and the loop would cost it a copy of all pixels at each step.

    Args:
        planes: `(3, ..., T, H, W)` float32 in [0, 1].
        factors: `(..., 3)`, of brightness, contrast and saturation; 1 changes nothing.
        hue: `(...)`, the shift in turns.
        order: `(..., 4)` int, permutations of `BRIGHTNESS`, `CONTRAST`, `SATURATION` and `HUE`.

    Returns:
        `(3, ..., T, H, W)` in [0, 1].
    """

    def step(planes, turn):
        transform, factor = turn
        is_hue = _over_pixels(transform == HUE)
        pairs = zip(shift_hue(planes, hue), _blend(planes, factor, transform), strict=True)
        # Plane by plane: on the stack of them XLA's code for CPUs is five times as slow.
        return jnp.stack([jnp.where(is_hue, shifted, blended) for shifted, blended in pairs]), None

    unused = jnp.ones_like(hue)[..., None]  # hue's own factor
    factor = jnp.take_along_axis(jnp.concatenate([factors, unused], axis=-1), order, axis=-1)
    turns = jnp.moveaxis(order, -1, 0), jnp.moveaxis(factor, -1, 0)
    unroll = len(turns[0]) if sharding.platform() == "gpu" else 1
    return jax.lax.scan(step, planes, turns, unroll=unroll)[0]


def shift_hue(planes, turns):
    """Turns the color wheel.

    Saturation and value are never formed: a channel is the pixel's maximum less its chroma times a
    trapezoid of the hue, displaced by a third of a turn from channel to channel.

    Args:
        planes: `(3, ..., T, H, W)` in [0, 1], or three planes.
        turns: `(...)`, the shift; 1 is once around.

    Returns:
        Three planes `(..., T, H, W)` in [0, 1].
    """
    red, green, blue = planes
    high = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = high - jnp.minimum(jnp.minimum(red, green), blue)
    # In sixths of a turn from red. A gray pixel has no hue, and any number will do.
    divisor = jnp.where(chroma == 0, 1, chroma)
    hue = jnp.where(
        high == red,
        (green - blue) / divisor,
        jnp.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue += 6 * _over_pixels(turns)

    def channel(start):
        sixth = hue + start
        sixth -= 6 * jnp.floor(sixth / 6)  # `%` is a library call a pixel, and ten times as slow
        return high - chroma * jnp.clip(jnp.minimum(sixth, 4 - sixth), 0, 1)

    return [channel(5), channel(3), channel(1)]


def remove_color(planes, where):
    """Makes views `(3, ..., T, H, W)` gray where `where (...)` says so."""
    return jnp.where(_over_pixels(where), _gray(planes), planes)


def blur(planes, where, sigma, size):
    """Blurs each frame with a Gaussian where `where` says so (torchvision's GaussianBlur).

    Args:
        planes: `(3, ..., T, H, W)`; `H` and `W` above `size // 2`.
        where: `(...)` bool; the other views come back as they are.
        sigma: `(...)`, standard deviation in pixels.
        size: Of the kernel in pixels, odd. Frames are continued by reflection at their edges.

    Returns:
        `(3, ..., T, H, W)`.
    """
    offset = jnp.arange(size) - size // 2
    kernel = jnp.exp(-0.5 * (offset / sigma[..., None]) ** 2)
    kernel = kernel / kernel.sum(axis=-1, keepdims=True)
    kernel = jnp.where(where[..., None], kernel, offset == 0)
    return _correlate(_correlate(planes, kernel, axis=-2), kernel, axis=-1)


def _correlate(planes, kernel, axis):
    """Correlates `planes (3, ..., T, H, W)` along one axis with a `kernel (..., size)` a view.

    A sum of shifted copies, which XLA fuses: every view has a kernel of its own.
    """
    size, length = kernel.shape[-1], planes.shape[axis]
    pad = [(0, 0)] * planes.ndim
    pad[axis] = (size // 2, size // 2)
    padded = jnp.pad(planes, pad, mode="reflect")
    return sum(
        _over_pixels(kernel[..., i]) * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
        for i in range(size)
    )


def _blend(planes, factor, transform):
    """Blends with black, the frame's mean gray or the pixel's gray, `factor` and `transform (...)`.

    That is brightness, contrast and saturation. Contrast's gray is each frame's own, as torchvision
    has it for a stack of frames.
    """
    gray = _gray(planes)
    mean_gray = gray.mean(axis=(-2, -1), keepdims=True)
    transform, factor = _over_pixels(transform), _over_pixels(factor)
    other = jnp.where(transform == CONTRAST, mean_gray, jnp.where(transform == SATURATION, gray, 0))
    return [jnp.clip(factor * c + (1 - factor) * other, 0, 1) for c in planes]


def _gray(planes):
    """Luma `(..., T, H, W)` of planes `(3, ..., T, H, W)`, with the weights of ITU-R BT.601."""
    red, green, blue = planes
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _to_planes(clips):
    """Takes uint8 clips `(..., 3)` apart: float32 `(3, ...)` in [0, 1]."""
    return jnp.moveaxis(clips, -1, 0).astype(jnp.float32) / 255


def _to_normalized(planes, dtype):
    """Puts planes `(3, ...)` in [0, 1] together: normalized `(..., 3)` of `dtype`."""
    return ((jnp.moveaxis(planes, 0, -1) - MEAN) / STD).astype(dtype)


def _over_pixels(numbers):
    """`(...)` to `(..., 1, 1, 1)`: one number a view, to go with frames, rows and columns."""
    return numbers[..., None, None, None]
