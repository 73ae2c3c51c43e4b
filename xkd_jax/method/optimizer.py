"""AdamW with the release's gradient clipping and decay mask, for parameters stacked by layer."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xkd_jax.method import schedules

Params = Any


@flax.struct.dataclass
class Hyperparameters:
    """Numbers of AdamW and of the learning rate schedule, () float32 each; may be traced.

    Attributes:
        learning_rate: Peak of the learning rate.
        final_learning_rate: Learning rate at the end of the run.
        warmup_steps: Steps in which the learning rate rises from 0 to its peak.
        total_steps: Steps of the run.
        b1: Decay rate of the mean of gradients.
        b2: Decay rate of the mean of squared gradients.
        eps: Number that is added to the root of the mean of squared gradients.
        weight_decay: Share of a weight that one step removes, per unit of learning rate.
        clip_norm: Largest norm of one tensor's gradient; infinity clips nothing.
    """

    learning_rate: jax.typing.ArrayLike
    final_learning_rate: jax.typing.ArrayLike
    warmup_steps: jax.typing.ArrayLike
    total_steps: jax.typing.ArrayLike
    b1: jax.typing.ArrayLike
    b2: jax.typing.ArrayLike
    eps: jax.typing.ArrayLike
    weight_decay: jax.typing.ArrayLike
    clip_norm: jax.typing.ArrayLike

    def learning_rate_at(self, step: jax.Array) -> jax.Array:
        """Computes the learning rate of a step, () float32."""
        return schedules.warmup_cosine(
            step, self.learning_rate, self.warmup_steps, self.total_steps, self.final_learning_rate
        )


def _names(path: tuple[Any, ...]) -> list[str]:
    return [entry.key for entry in path]


def tensor_norms(path: tuple[Any, ...], tensor: jax.Array) -> jax.Array:
    """Computes the norm of a parameter's gradient, or of each layer's if layers are stacked.

    Args:
        path: Path of the parameter in its pytree.
        tensor: The gradient; stacked layers are along its first axis.

    Returns:
        Float32 of the tensor's rank. All axes have length 1, except the axis of stacked layers.
    """
    axes = tuple(range(1 if "blocks" in _names(path) else 0, tensor.ndim))
    return jnp.sqrt(jnp.sum(jnp.square(tensor.astype(jnp.float32)), axis=axes, keepdims=True))


def clip_each_tensor(
    max_norm: jax.typing.ArrayLike, clipped: Callable[[list[str]], bool]
) -> optax.GradientTransformation:
    """Clips the gradient of each parameter tensor to a norm of at most `max_norm`.

    This is not clipping by the global norm: every weight matrix and bias of every layer is
    clipped by itself (section 5 of docs/method.md).

    Args:
        max_norm: Largest norm of one tensor's gradient.
        clipped: Returns whether a parameter is clipped; its argument is the list of the names on
            the parameter's path, outermost first.

    Returns:
        The gradient transformation.
    """

    def clip(path: tuple[Any, ...], gradient: jax.Array) -> jax.Array:
        if not clipped(_names(path)):
            return gradient
        # 1e-6 is the epsilon of PyTorch's clipping.
        return gradient * jnp.minimum(1.0, max_norm / (tensor_norms(path, gradient) + 1e-6))

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(clip, updates))


def decay_mask(params: Params) -> Params:
    """Returns which parameters decay: those with two or more axes, not counting stacked layers.

    Biases and norms do not decay. Positions, CLS and mask tokens, of shape (n, D), do.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x.ndim - ("blocks" in _names(path)) >= 2, params
    )


def decay_mask_of_weights(params: Params) -> Params:
    """Returns which parameters decay in finetuning: as `decay_mask`, without positions and CLS."""
    mask = decay_mask(params)
    without_decay = ("position_embedding", "cls_token")
    return jax.tree_util.tree_map_with_path(
        lambda path, decays: decays and _names(path)[-1] not in without_decay, mask
    )


def scale_by_depth(decay: jax.typing.ArrayLike, depth: int) -> optax.GradientTransformation:
    """Scales the updates of an encoder with a head by `decay ** (depth + 1 - id)`.

    Layers near the input change least (Clark et al. 2020; Bao et al. 2022). The id is 0 for the
    patch embedding, the CLS token and the positions, i + 1 for block i (counted from 0), and
    depth + 1 for the final norm and everything outside the encoder. Applied after AdamW, this
    scales the learning rate and the weight decay alike.

    Args:
        decay: Ratio of the factors of one id and the next higher one.
        depth: Number of blocks, which are stacked along a leading axis.

    Returns:
        The gradient transformation.
    """
    inputs = ("patch_embedding", "position_embedding", "cls_token")

    def scale(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
        names = _names(path)
        if "blocks" in names:
            factors = decay ** (depth - jnp.arange(depth, dtype=jnp.float32))
            return update * factors.reshape(-1, *[1] * (update.ndim - 1))
        return update * decay ** (depth + 1) if any(name in inputs for name in names) else update

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def adamw(
    hyperparameters: Hyperparameters,
    clipped: Callable[[list[str]], bool] | None = None,
    decays: Callable[[Params], Params] = decay_mask,
) -> optax.GradientTransformation:
    """Builds AdamW (Loshchilov and Hutter 2019) with per-tensor clipping before it.

    Args:
        hyperparameters: Numbers of the run, which may be traced.
        clipped: Returns whether a parameter's gradient is clipped, see `clip_each_tensor`. None
            clips nothing.
        decays: Maps parameters to a tree of bools, true for those that decay.

    Returns:
        The gradient transformation.
    """
    h = hyperparameters
    return optax.chain(
        clip_each_tensor(h.clip_norm, clipped) if clipped else optax.identity(),
        optax.adamw(
            h.learning_rate_at,
            b1=h.b1,
            b2=h.b2,
            eps=h.eps,
            weight_decay=h.weight_decay,
            mask=decays,
        ),
    )


def for_pretraining(hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    """Builds AdamW, which clips the gradients of encoders and projectors but not of decoders."""
    return adamw(hyperparameters, clipped=lambda names: "decoder" not in names)
