"""Resizing of learned position embeddings to other token grids (docs/method.md, section 2).

Coordinates are mapped as in the authors' release on a CPU, with the scale factor (n + 0.1) / N from
`N` stored to `n` wanted cells: half-pixel centers, clamped edges, no antialiasing. Each axis has a
small constant matrix, so a resize is one small matrix product per axis.
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
        stored: Grid that the positions were learned on. (time, height, width) is resized linearly
            along each axis whose length changes; (frequency, time) is resized cubically along time.
        wanted: Grid to resize to, of the same length as `stored`.

    Returns:
        (product of wanted, D) float.

    Raises:
        ValueError: The frequency axes differ in length.
    """
    table = positions.reshape(*stored, -1)
    if len(stored) == 3:
        matrices = [linear_weights(n, w) for n, w in zip(stored, wanted, strict=True)]
        table = jnp.einsum("thwd,xt,yh,zw->xyzd", table, *matrices)
    else:
        if stored[0] != wanted[0]:
            raise ValueError(
                f"audio must have {stored[0]} patches along frequency, as in the encoder's "
                f"training, not {wanted[0]}"
            )
        table = jnp.einsum("ftd,xt->fxd", table, cubic_weights(stored[1], wanted[1]))
    return table.reshape(-1, positions.shape[-1])


def _source(stored: int, wanted: int) -> np.ndarray:
    """Returns the centers of the wanted cells, (wanted,), in coordinates of the stored cells."""
    scale = (wanted + 0.1) / stored
    return (np.arange(wanted) + 0.5) / scale - 0.5


def linear_weights(stored: int, wanted: int) -> np.ndarray:
    """Computes the weights, (wanted, stored) float32, of a linear resize from `stored` cells.

    Equal lengths give the identity: on a CPU, PyTorch's linear interpolation does not change an
    axis that keeps its length, whatever the scale factor. On a GPU it moves such an axis too if
    another one changes, by at most 0.09 of a cell. This code does what the CPU does.
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
    """Computes the weights (wanted, stored) float32 of a cubic convolution (Keys 1981)."""
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
