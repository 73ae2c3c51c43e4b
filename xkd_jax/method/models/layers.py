"""Layers whose backward pass moves fewer bytes than the one that JAX derives.

Memory traffic limits the step on GPUs, so each layer here saves little for its backward pass and
makes few copies (docs/performance.md, "The step on GPUs"). Values and gradients equal those of
Flax's layers up to rounding.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = jnp.dtype
Saved = tuple[jax.Array, ...]  # what a forward pass keeps for the backward pass
xavier = nn.initializers.xavier_uniform()

EPSILON = 1e-5  # of LayerNorm; the usual value for ViTs in PyTorch


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """Computes the exact GELU, `x * Phi(x)`, of any shape and float dtype; saves only `x`.

    It is computed in float32 by one `erf`. Flax's GELU takes `erfc`, whose 64 operations limit a
    GPU more than its memory does, for more digits of values below 1e-6 (`x` below -5).
    """
    wide = x.astype(jnp.float32)
    return (wide * (0.5 + 0.5 * jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


@jax.custom_vjp
def softmax(x: jax.Array) -> jax.Array:
    """Computes the softmax over the last axis, of any shape; saves only its result."""
    return jax.nn.softmax(x, axis=-1)


def _softmax_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    result = softmax(x)
    return result, result


def _softmax_backward(result: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    weighted = result * gradient
    return (weighted - result * weighted.sum(axis=-1, keepdims=True),)


softmax.defvjp(_softmax_forward, _softmax_backward)


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, which saves only two float32 statistics per token.

    Attributes:
        dtype: Dtype of the output; statistics and parameters are float32.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., D) to (..., D) of `dtype`."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return _layer_norm(x.astype(self.dtype), scale, bias)


@jax.custom_vjp
def _layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return _layer_norm_forward(x, scale, bias)[0]


def _layer_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, Saved]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1)
    rate = jax.lax.rsqrt(jnp.square(wide - mean[..., None]).mean(axis=-1) + EPSILON)
    unit = (wide - mean[..., None]) * rate[..., None]
    return (unit * scale + bias).astype(x.dtype), (x, mean, rate, scale)


def _layer_norm_backward(saved: Saved, gradient: jax.Array) -> tuple[jax.Array, ...]:
    x, mean, rate, scale = saved
    # Without the barrier, XLA computes the statistics again, in a separate kernel that writes all
    # of `unit` in float32.
    mean, rate = jax.lax.optimization_barrier((mean, rate))
    unit = (x.astype(jnp.float32) - mean[..., None]) * rate[..., None]
    gradient = gradient.astype(jnp.float32)
    tokens = tuple(range(x.ndim - 1))
    scale_gradient, bias_gradient = (gradient * unit).sum(tokens), gradient.sum(tokens)
    gradient *= scale
    along_unit = (gradient * unit).mean(axis=-1, keepdims=True)
    x_gradient = gradient - gradient.mean(axis=-1, keepdims=True) - unit * along_unit
    return (x_gradient * rate[..., None]).astype(x.dtype), scale_gradient, bias_gradient


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class QueryKeyValue(nn.Module):
    """Computes queries, keys and values with one kernel (D, 3 D) without bias.

    The forward pass makes three products, one per output: the result of a single product would be
    copied into the three arrays that attention takes. The backward pass makes one product, because
    the results of three would have to be added.

    Attributes:
        heads: H, the number of heads; divides D.
        dtype: Dtype of the computation; the kernel is float32.
    """

    heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps tokens (B, N, D) to three (B, N, H, D / H) of `dtype`."""
        width = tokens.shape[-1]
        kernel = self.param("kernel", xavier, (width, 3 * width))
        shape = (*tokens.shape[:-1], self.heads, width // self.heads)
        thirds = _thirds(tokens.astype(self.dtype), kernel.astype(self.dtype))
        query, key, value = (third.reshape(shape) for third in thirds)
        return query, key, value


@jax.custom_vjp
def _thirds(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(x @ third for third in jnp.split(kernel, 3, axis=1))


def _thirds_forward(x: jax.Array, kernel: jax.Array) -> tuple[tuple[jax.Array, ...], Saved]:
    return _thirds(x, kernel), (x, kernel)


def _thirds_backward(saved: Saved, gradients: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    _, pull_back = jax.vjp(jnp.matmul, *saved)
    return pull_back(jnp.concatenate(gradients, axis=-1))


_thirds.defvjp(_thirds_forward, _thirds_backward)
