"""Layers whose backward pass moves fewer bytes than the one that JAX derives.

Memory bounds the step on GPUs, so each layer here keeps little for its backward pass and makes few
copies (docs/performance.md, "The step on GPUs"). Values and gradients are those of Flax's layers,
up to rounding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = jnp.dtype
xavier = nn.initializers.xavier_uniform()

EPSILON = 1e-5  # of LayerNorm: the field's for ViTs in PyTorch


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU, `x * Phi(x)`, of any shape and dtype; keeps `x` alone."""
    return nn.gelu(x, approximate=False)


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, with statistics in float32, of which it keeps two a token.

    Attributes:
        dtype: Of the input and the output; parameters are float32.
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


def _layer_norm_forward(x, scale, bias):
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1)
    rate = jax.lax.rsqrt(jnp.square(wide - mean[..., None]).mean(axis=-1) + EPSILON)
    unit = (wide - mean[..., None]) * rate[..., None]
    return (unit * scale + bias).astype(x.dtype), (x, mean, rate, scale)


def _layer_norm_backward(kept, gradient):
    x, mean, rate, scale = kept
    # Otherwise XLA computes the statistics anew, in a kernel of their own that writes all of `unit`
    # in float32.
    mean, rate = jax.lax.optimization_barrier((mean, rate))
    unit = (x.astype(jnp.float32) - mean[..., None]) * rate[..., None]
    gradient = gradient.astype(jnp.float32)
    tokens = tuple(range(x.ndim - 1))
    of_scale, of_bias = (gradient * unit).sum(tokens), gradient.sum(tokens)
    gradient *= scale
    along_unit = (gradient * unit).mean(axis=-1, keepdims=True)
    of_x = gradient - gradient.mean(axis=-1, keepdims=True) - unit * along_unit
    return (of_x * rate[..., None]).astype(x.dtype), of_scale, of_bias


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class QueryKeyValue(nn.Module):
    """Queries, keys and values by one kernel (D, 3 D) without bias, each in an array of its own.

    Attention takes three arrays, so one product for all three would be copied afterwards. The
    backward pass is one product: three would be added up.

    Attributes:
        heads: H; divides D.
        dtype: Of the computation; the kernel is float32.
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


def _thirds_forward(x, kernel):
    return _thirds(x, kernel), (x, kernel)


def _thirds_backward(kept, gradients):
    _, pull_back = jax.vjp(jnp.matmul, *kept)
    return pull_back(jnp.concatenate(gradients, axis=-1))


_thirds.defvjp(_thirds_forward, _thirds_backward)
