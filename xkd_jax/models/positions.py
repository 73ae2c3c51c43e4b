"""Resizing of learned position embeddings to other token grids (docs/method.md, section 2).

Coordinates are mapped as the authors' release does, with the scale factor (n + 0.1) / N for `n`
wanted and `N` stored cells: half-pixel centres, clamped edges, no antialiasing. Each axis is a
small constant matrix, so the resize is a matrix product a axis and costs next to nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np


def resize_positions(
    positions: jax.Array, stored: tuple[int, ...], wanted: tuple[int, ...]
) -> jax.Array:
    """Resizes position embeddings from one token grid to another.

    Args:
        positions: (product of stored, D) float, without the CLS position.
        stored: The grid they were learned on: (time, height, width), resized trilinearly on those
            of the three axes whose length changes, or (frequency, time), resized bicubically along
            time.
        wanted: The grid to resize to, of the same length.

    Returns:
        (product of wanted, D) float.

    Raises:
        ValueError: If the frequency extents differ.
    """
    table = positions.reshape(*stored, -1)
    if len(stored) == 3:
        matrices = [linear_weights(n, w) for n, w in zip(stored, wanted, strict=True)]
        table = jnp.einsum("thwd,xt,yh,zw->xyzd", table, *matrices)
    else:
        if stored[0] != wanted[0]:
            raise ValueError(
                f"a sound must have {stored[0]} patches along frequency, as the encoder was "
                f"trained with, not {wanted[0]}"
            )
        table = jnp.einsum("ftd,xt->fxd", table, cubic_weights(stored[1], wanted[1]))
    return table.reshape(-1, positions.shape[-1])


def _source(stored: int, wanted: int) -> np.ndarray:
    """Coordinates (wanted,) in the stored cells of the wanted cells' centres."""
    scale = (wanted + 0.1) / stored
    return (np.arange(wanted) + 0.5) / scale - 0.5


def linear_weights(stored: int, wanted: int) -> np.ndarray:
    """Weights (wanted, stored) float32 of a linear resize; none where the extents are equal.

    PyTorch's linear interpolation leaves an axis alone that keeps its length, whatever the scale
    factor, and so does the release.
    """
    if wanted == stored:
        return np.eye(stored, dtype=np.float32)
    source = np.maximum(_source(stored, wanted), 0.0)
    low = np.minimum(np.floor(source).astype(int), stored - 1)
    high = np.minimum(low + 1, stored - 1)
    fraction = source - low
    weights = np.zeros((wanted, stored))
    rows = np.arange(wanted)
    np.add.at(weights, (rows, low), 1.0 - fraction)
    np.add.at(weights, (rows, high), fraction)
    return weights.astype(np.float32)


def cubic_weights(stored: int, wanted: int, a: float = -0.75) -> np.ndarray:
    """Weights (wanted, stored) float32 of a cubic convolution (Keys 1981) with parameter `a`."""
    source = _source(stored, wanted)
    weights = np.zeros((wanted, stored))
    rows = np.arange(wanted)
    for tap in range(-1, 3):
        cell = np.floor(source).astype(int) + tap
        x = np.abs(source - cell)
        near = (a + 2.0) * x**3 - (a + 3.0) * x**2 + 1.0
        far = a * (x**3 - 5.0 * x**2 + 8.0 * x - 4.0)
        np.add.at(weights, (rows, np.clip(cell, 0, stored - 1)), np.where(x <= 1.0, near, far))
    return weights.astype(np.float32)
