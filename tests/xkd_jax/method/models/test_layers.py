"""The layers have the values and gradients of Flax's."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xkd_jax.method.models import layers

TOLERANCE = {"float32": 2e-6, "bfloat16": 2e-2}


class OneProduct(nn.Module):
    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens):
        batch, count, width = tokens.shape
        qkv = nn.Dense(3 * width, use_bias=False, dtype=self.dtype, name="qkv")(tokens)
        qkv = qkv.reshape(batch, count, 3, self.heads, width // self.heads)
        return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


class Named(nn.Module):
    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens):
        return layers.QueryKeyValue(self.heads, self.dtype, name="qkv")(tokens)


def assert_alike(ours, flaxs, dtype):
    """Compares values and gradients of two modules with the same parameters."""
    keys = jax.random.split(jax.random.key(0), 3)
    # Far from zero and with outliers, where sums of squares would lose precision.
    x = (5 + jax.random.normal(keys[0], (3, 7, 24)) ** 3).astype(dtype)
    params = flaxs.init(keys[1], x)
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(keys[2], p.shape), params)
    assert jax.tree.map(jnp.shape, ours.init(keys[1], x)) == jax.tree.map(jnp.shape, params)

    def run(module):
        values, pull_back = jax.vjp(module.apply, params, x)
        weights = [
            jax.random.normal(jax.random.fold_in(keys[2], n), value.shape, value.dtype)
            for n, value in enumerate(jax.tree.leaves(values))
        ]
        return values, pull_back(jax.tree.unflatten(jax.tree.structure(values), weights))

    def close(actual, expected):
        assert actual.dtype == expected.dtype
        actual, expected = (np.asarray(a, np.float32) for a in (actual, expected))
        np.testing.assert_allclose(
            actual, expected, atol=TOLERANCE[dtype] * np.abs(expected).max(), rtol=0
        )

    jax.tree.map(close, jax.jit(run, static_argnums=0)(ours), jax.jit(run, static_argnums=0)(flaxs))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_layer_norm(dtype):
    flaxs = nn.LayerNorm(epsilon=1e-5, dtype=dtype, use_fast_variance=False)
    assert_alike(layers.LayerNorm(jnp.dtype(dtype)), flaxs, dtype)


def test_layer_norm_of_a_token_without_variance():
    norm = layers.LayerNorm()
    x = jnp.full((1, 2, 8), 3.0)
    variables = norm.init(jax.random.key(0), x)
    value, gradient = jax.value_and_grad(lambda x: norm.apply(variables, x)[0, 0, 0])(x)
    assert value == 0 and np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_queries_keys_and_values(dtype):
    assert_alike(Named(4, jnp.dtype(dtype)), OneProduct(4, jnp.dtype(dtype)), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gelu_is_exact(dtype):
    x = jnp.linspace(-6, 6, 97).astype(dtype)
    assert layers.gelu(x).dtype == dtype
    wide = np.asarray(x, np.float64)
    phi = 0.5 * (1 + np.vectorize(math.erf)(wide / np.sqrt(2)))
    np.testing.assert_allclose(
        np.asarray(layers.gelu(x), np.float64), wide * phi, atol=TOLERANCE[dtype], rtol=0
    )
    slope = jax.vmap(jax.grad(layers.gelu))(x)
    expected = phi + wide * np.exp(-(wide**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(np.asarray(slope, np.float64), expected, atol=TOLERANCE[dtype])


def test_gelu_in_bfloat16_rounds_only_its_result():
    x = jnp.linspace(-4.5, 6, 2001).astype(jnp.bfloat16)
    wide = np.asarray(x, np.float64)
    exact = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / np.sqrt(2)))
    np.testing.assert_allclose(np.asarray(layers.gelu(x), np.float64), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_softmax(dtype):
    x, weights = (jax.random.normal(jax.random.key(n), (3, 5, 7)).astype(dtype) for n in (0, 1))
    x = (4 * x).at[0, 0].add(1000)  # its exponential is infinite
    values, pull_back = jax.vjp(layers.softmax, x)
    assert values.dtype == dtype
    assert [saved.shape for saved in jax.tree.leaves(pull_back)] == [x.shape]
    wide, weights = np.asarray(x, np.float64), np.asarray(weights, np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    expected = powers / powers.sum(axis=-1, keepdims=True)
    close = {"atol": TOLERANCE[dtype], "rtol": 0}
    np.testing.assert_allclose(np.asarray(values, np.float64), expected, **close)
    # The derivative of result i by input j is p_i (1[i = j] - p_j).
    derivatives = expected[..., None] * (np.eye(7) - expected[..., None, :])
    [gradient] = pull_back(jnp.asarray(weights, dtype))
    expected = np.einsum("abi,abij->abj", weights, derivatives)
    np.testing.assert_allclose(np.asarray(gradient, np.float64), expected, **close)
