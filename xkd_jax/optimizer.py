"""AdamW with the paper's gradient clipping and decay mask, on parameters stacked by layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Params = Any


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
    max_norm: float, clipped: Callable[[list[str]], bool]
) -> optax.GradientTransformation:
    """Scales each parameter tensor's gradient to a norm of `max_norm` at most.

    This is not clipping by the global norm: every weight matrix and bias of every layer is
    clipped by itself (section 5 of docs/method.md).

    Args:
      max_norm: the largest norm.
      clipped: tells from a parameter's names, outermost first, whether it is clipped.
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


def adamw(
    learning_rate: optax.Schedule,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    clipped: Callable[[list[str]], bool],
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) after per-tensor clipping; `clip_norm` 0 for none."""
    clip = clip_each_tensor(clip_norm, clipped) if clip_norm else optax.identity()
    return optax.chain(
        clip,
        optax.adamw(
            learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decay_mask
        ),
    )
