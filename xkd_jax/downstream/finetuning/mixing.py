"""Mixup and cutmix: mix each example, and its target, with another one of the batch.

Zhang et al. 2018 (arXiv 1710.09412) and Yun et al. 2019 (arXiv 1905.04899), as usual in finetuning
vision transformers. The first example of a batch is mixed with the last, the second with the second
to last, and so on. Each example draws its own kind of mixing and its own shares.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections


class Draws(NamedTuple):
    """Random choices for a batch; `draw` returns those of one example, without the axis B.

    Attributes:
        own: (B,) float32. Weight of an example's own target.
        box: (B, 4) int32. Top, left, bottom and right of the cutmix box, in rows and columns.
            Empty if there is none.
        blends: (B,) bool. Whether to blend all values (mixup) instead of replacing a box (cutmix).
    """

    own: jax.Array
    box: jax.Array
    blends: jax.Array


def draw(key: jax.Array, config: ml_collections.ConfigDict, extents: tuple[int, int]) -> Draws:
    """Draws how to mix one example.

    Args:
        key: Typed random key. Use `jax.vmap` over keys to draw for many examples.
        config: Section with `mixup` and `cutmix`, the parameters of their symmetric Beta
            distributions (0 turns one off); `probability` that an example is mixed at all; and
            `switch_probability` of cutmix if both are on.
        extents: Numbers of rows and columns of an example.

    Returns:
        Draws without the leading axis.
    """
    done_key, switch_key, share_key, place_key = jax.random.split(key, 4)
    unmixed = jnp.float32(1.0), jnp.zeros(4, jnp.int32), jnp.bool(True)
    if not config.mixup and not config.cutmix:
        return Draws(*unmixed)
    switch = config.switch_probability if config.mixup else 1.0
    cuts = jax.random.bernoulli(switch_key, switch if config.cutmix else 0.0)
    # x / (x + y) of two Gamma(a) variables x and y is Beta(a, a). Logarithms do not underflow.
    alpha = jnp.where(cuts, config.cutmix, config.mixup)
    log_x, log_y = jax.random.loggamma(share_key, alpha, (2,))
    share = jax.nn.sigmoid(log_x - log_y)
    box = draw_box(place_key, share, extents)
    area = (box[2] - box[0]) * (box[3] - box[1])
    cut = 1 - area / (extents[0] * extents[1]), box, jnp.bool(False)
    mixed = _choose(cuts, cut, (share, *unmixed[1:]))
    return Draws(*_choose(jax.random.bernoulli(done_key, config.probability), mixed, unmixed))


def draw_box(key: jax.Array, share: jax.Array, extents: tuple[int, int]) -> jax.Array:
    """Draws a box with an example's aspect ratio, clipped to the example.

    Args:
        key: Typed random key.
        share: () float in [0, 1]. Share of the example's area outside the box, before clipping.
        extents: Numbers of rows and columns of the example.

    Returns:
        (4,) int32. Top, left, bottom and right.
    """
    extents = jnp.asarray(extents)
    center = jax.random.randint(key, (2,), 0, extents)
    half = jnp.floor(extents * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    return jnp.concatenate([jnp.maximum(center - half, 0), jnp.minimum(center + half, extents)])


def mix(draws: Draws, examples: jax.Array, axis: int) -> jax.Array:
    """Mixes each example with its partner.

    Args:
        draws: Draws of the batch.
        examples: (B, ...) float or uint8. Partners may be on different devices.
        axis: Axis of `examples` that holds the rows; the next axis holds the columns. All other
            axes, such as time, share the box.

    Returns:
        (B, ...) float32.
    """
    partners = examples[::-1]

    def indices(axis: int) -> jax.Array:
        """Makes the indices along an axis, in a shape that broadcasts against the batch."""
        shape = [1] * examples.ndim
        shape[axis] = examples.shape[axis]
        return jnp.arange(examples.shape[axis]).reshape(shape)

    def per_example(values: jax.Array) -> jax.Array:
        """Reshapes (B,) values to broadcast against the batch."""
        return values.reshape(-1, *[1] * (examples.ndim - 1))

    rows, columns = indices(axis), indices(axis + 1)
    top, left, bottom, right = (per_example(draws.box[:, i]) for i in range(4))
    in_box = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    own = jnp.where(per_example(draws.blends), per_example(draws.own), 1.0)
    examples, partners = examples.astype(jnp.float32), partners.astype(jnp.float32)
    return jnp.where(in_box, partners, own * examples + (1 - own) * partners)


def mix_targets(own: jax.Array, targets: jax.Array) -> jax.Array:
    """Mixes targets with the weights that their examples were mixed with.

    Args:
        own: (B,) float32. Weight of an example's own target, as in `Draws`.
        targets: (B, C) float32.

    Returns:
        (B, C) float32.
    """
    own = own[:, None]
    return own * targets + (1 - own) * targets[::-1]


def smooth(targets: jax.Array, smoothing: float) -> jax.Array:
    """Smooths one-hot targets.

    Args:
        targets: (B, C). 1 for the class and 0 for the others.
        smoothing: Share of the target that is spread evenly over all classes.

    Returns:
        (B, C) float32. Each row sums to 1.
    """
    return (1 - smoothing) * targets.astype(jnp.float32) + smoothing / targets.shape[-1]


def _choose(
    condition: jax.Array, if_true: tuple[jax.Array, ...], if_false: tuple[jax.Array, ...]
) -> tuple[jax.Array, ...]:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), if_true, if_false)
