"""AdamW with the paper's gradient clipping and decay mask, on parameters stacked by layer."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xkd_jax import schedules

Params = Any


@flax.struct.dataclass
class Hyperparameters:
    """AdamW's numbers and the learning rate's course, () float32 each; inputs of a program.

    Attributes:
        learning_rate: Peak of the learning rate.
        final_learning_rate: Learning rate at the end of the run.
        warmup_steps: Steps from 0 to the peak.
        total_steps: Steps of the run.
        b1: Decay of the gradients' mean.
        b2: Decay of the squared gradients' mean.
        eps: What is added to the root of the latter.
        weight_decay: Share of a weight that decays at a learning rate of 1.
        clip_norm: Largest norm of a tensor's gradient; infinity for no clipping.
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
        """Learning rate of a step, () float32."""
        return schedules.warmup_cosine(
            step, self.learning_rate, self.warmup_steps, self.total_steps, self.final_learning_rate
        )


def _names(path: tuple[Any, ...]) -> list[str]:
    return [entry.key for entry in path]


def tensor_norms(path: tuple[Any, ...], tensor: jax.Array) -> jax.Array:
    """Norm of a parameter tensor's gradient, one a layer where layers are stacked.

    Returns:
        Float32 of the tensor's rank, every axis 1 but the layers' axis of a stacked tensor.
    """
    axes = tuple(range(1 if "blocks" in _names(path) else 0, tensor.ndim))
    return jnp.sqrt(jnp.sum(jnp.square(tensor.astype(jnp.float32)), axis=axes, keepdims=True))


def clip_each_tensor(
    max_norm: jax.typing.ArrayLike, clipped: Callable[[list[str]], bool]
) -> optax.GradientTransformation:
    """Scales each parameter tensor's gradient to a norm of `max_norm` at most.

    This is not clipping by the global norm: every weight matrix and bias of every layer is
    clipped by itself (section 5 of docs/method.md).

    Args:
        max_norm: The largest norm.
        clipped: Tells from a parameter's names, outermost first, whether it is clipped.
    """

    def clip(path, gradient):
        if not clipped(_names(path)):
            return gradient
        # The small number is that of PyTorch's clipping.
        return gradient * jnp.minimum(1.0, max_norm / (tensor_norms(path, gradient) + 1e-6))

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(clip, updates))


def decay_mask(params: Params) -> Params:
    """Which parameters decay: those of two axes or more, layers' axis not counted.

    Biases and norms do not; positions, CLS and mask tokens, of shape (n, D), do.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x.ndim - ("blocks" in _names(path)) >= 2, params
    )


def decay_mask_of_weights(params: Params) -> Params:
    """Which parameters decay in finetuning: those of `decay_mask` but positions and CLS."""
    mask = decay_mask(params)
    kept = ("position_embedding", "cls_token")
    return jax.tree_util.tree_map_with_path(
        lambda path, decays: decays and _names(path)[-1] not in kept, mask
    )


def scale_by_depth(decay: jax.typing.ArrayLike, depth: int) -> optax.GradientTransformation:
    """Scales the updates of an encoder with a head by `decay ** (depth + 1 - id)`.

    So what is near the input changes least (Clark et al. 2020; Bao et al. 2022). The id of the
    embeddings, CLS and positions is 0, that of block i, from 0, is i + 1, and that of the final
    norm and of all that is not the encoder's is depth + 1. After AdamW this scales learning rate
    and decay alike.

    Args:
        decay: Factor from one id to the one below.
        depth: Number of blocks, which are stacked along a leading axis.
    """
    inputs = ("patch_embedding", "position_embedding", "cls_token")

    def scale(path, update):
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
    """AdamW (Loshchilov and Hutter 2019) after per-tensor clipping.

    Args:
        hyperparameters: Numbers of the run, which may be traced.
        clipped: Tells from a parameter's names, outermost first, whether its gradient is clipped.
            None clips nothing.
        decays: Maps parameters to a tree of bools, True where weight decay applies.
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
