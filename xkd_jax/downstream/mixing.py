"""Mixup and cutmix: examples mixed with others of the batch, and their targets alike.

Zhang et al. 2018 (arXiv 1710.09412) and Yun et al. 2019 (arXiv 1905.04899), as usual in finetuning
vision transformers: the first example of a batch meets the last, the second the one before it, and
so on. Each draws for itself how, and how much, of the other it takes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Draws(NamedTuple):
    """How examples take of others; all with a leading axis B.

    Attributes:
        own: `(B,)` float32, the share of an example's own target.
        box: `(B, 4)` int32: top, left, bottom and right of the cutmix box, in rows and columns;
            empty where there is none.
        blends: `(B,)` bool, whether all values are blended (mixup), not those of a box
            replaced.
    """

    own: jax.Array
    box: jax.Array
    blends: jax.Array


def draw(key, config, extents):
    """Draws how one example is mixed.

    Args:
        key: a typed key; `jax.vmap` over keys draws for many.
        config: with `mixup` and `cutmix`, the parameters of their symmetric Beta distributions, 0
            for none of it; `probability` of either; `switch_probability` of cutmix where there are
            both.
        extents: rows and columns of an example.

    Returns:
        `Draws` without the leading axis.
    """
    done_key, switch_key, share_key, place_key = jax.random.split(key, 4)
    none = jnp.float32(1.0), jnp.zeros(4, jnp.int32), jnp.bool(True)
    if not config.mixup and not config.cutmix:
        return Draws(*none)
    switch = config.switch_probability if config.mixup else 1.0
    cuts = jax.random.bernoulli(switch_key, switch if config.cutmix else 0.0)
    # Beta(a, a) is the share of one of two gamma variables; in logarithms none of them is 0.
    alpha = jnp.where(cuts, config.cutmix, config.mixup)
    one, other = jax.random.loggamma(share_key, alpha, (2,))
    share = jax.nn.sigmoid(one - other)
    box = draw_box(place_key, share, extents)
    area = (box[2] - box[0]) * (box[3] - box[1])
    cut = 1 - area / (extents[0] * extents[1]), box, jnp.bool(False)
    mixed = _choose(cuts, cut, (share, *none[1:]))
    return Draws(*_choose(jax.random.bernoulli(done_key, config.probability), mixed, none))


def draw_box(key, share, extents):
    """Draws a box of the frame's proportions, cut off at its edges.

    Args:
        key: a typed key.
        share: `()` in [0, 1], of the frame that is outside the box while none of it is cut off.
        extents: rows and columns of the frame.

    Returns:
        `(4,)` int32: top, left, bottom, right.
    """
    extents = jnp.asarray(extents)
    center = jax.random.randint(key, (2,), 0, extents)
    half = jnp.floor(extents * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    return jnp.concatenate([jnp.maximum(center - half, 0), jnp.minimum(center + half, extents)])


def mix(draws, examples, axis):
    """Mixes each example with its partner.

    Args:
        draws: of the batch.
        examples: `(B, ...)` float or uint8. Partners may be on other devices.
        axis: of the rows of one example, counted in the batch; columns are the next axis. All other
            axes, such as time, share the box.

    Returns:
        `(B, ...)` float32.
    """
    partners = examples[::-1]

    def along(values, rank_axis):
        """Indices along an axis, in a shape that goes with the batch."""
        shape = [1] * examples.ndim
        shape[rank_axis] = values
        return jnp.arange(values).reshape(shape)

    def each(values):
        return values.reshape(-1, *[1] * (examples.ndim - 1))

    rows, columns = (along(examples.shape[a], a) for a in (axis, axis + 1))
    top, left, bottom, right = (each(draws.box[:, i]) for i in range(4))
    in_box = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    own = jnp.where(each(draws.blends), each(draws.own), 1.0)
    examples, partners = examples.astype(jnp.float32), partners.astype(jnp.float32)
    return jnp.where(in_box, partners, own * examples + (1 - own) * partners)


def mix_targets(draws, targets):
    """Mixes targets `(B, C)` float32 in the shares in which examples were mixed."""
    own = draws.own[:, None]
    return own * targets + (1 - own) * targets[::-1]


def smooth(targets, smoothing):
    """Takes a share of each target of one class away, and gives it to all classes evenly.

    Args:
        targets: `(B, C)`, 1 for the class and 0 for the others.
        smoothing: the share.

    Returns:
        `(B, C)` float32, rows of sum 1.
    """
    return (1 - smoothing) * targets.astype(jnp.float32) + smoothing / targets.shape[-1]


def _choose(condition, one, other):
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)
