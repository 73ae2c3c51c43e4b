"""Position resizing compared to a loop over cells; the release's vectors test it, too."""

import jax.numpy as jnp
import numpy as np
import pytest

from xkd_jax.method.models import positions


def source(stored, wanted, i):
    return (i + 0.5) * stored / (wanted + 0.1) - 0.5


@pytest.mark.parametrize(("stored", "wanted"), [(8, 2), (7, 6), (7, 14), (1, 3)])
def test_linear(stored, wanted):
    values = np.random.default_rng(0).normal(size=stored)
    expected = np.interp(
        [source(stored, wanted, i) for i in range(wanted)], np.arange(stored), values
    )
    result = positions.linear_weights(stored, wanted) @ values
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_cubic_passes_through_cells_and_reproduces_lines_inside():
    weights = positions.cubic_weights(28, 7)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
    line = weights @ np.arange(28.0)
    # Keys' kernel with a = -0.75 bends lines a little, by less than a fifth of a cell.
    expected = [source(28, 7, i) for i in range(7)]
    np.testing.assert_allclose(line, expected, atol=0.2)


def test_cubic_by_hand():
    x = source(4, 2, 0)  # 0.452: taps at cells -1 (clamped to 0), 0, 1 and 2
    a, f = -0.75, x - np.floor(x)
    far = lambda d: a * (d**3 - 5 * d**2 + 8 * d - 4)  # noqa: E731
    near = lambda d: (a + 2) * d**3 - (a + 3) * d**2 + 1  # noqa: E731
    expected = [far(1 + f) + near(f), near(1 - f), far(2 - f), 0]
    np.testing.assert_allclose(positions.cubic_weights(4, 2)[0], expected, rtol=1e-5, atol=1e-6)


def test_only_the_video_axes_that_change_length_are_resized():
    table = jnp.asarray(np.random.default_rng(0).normal(size=(8 * 7 * 7, 3)))
    result = positions.resize_positions(table, (8, 7, 7), (8, 14, 7)).reshape(8, 14, 7, 3)
    h = positions.linear_weights(7, 14)
    expected = np.einsum("thwd,yh->tywd", np.reshape(table, (8, 7, 7, 3)), h)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_audio_is_resized_along_time_alone():
    table = jnp.asarray(np.random.default_rng(0).normal(size=(5 * 8, 3)))
    result = positions.resize_positions(table, (5, 8), (5, 2)).reshape(5, 2, 3)
    for band in range(5):
        expected = positions.cubic_weights(8, 2) @ np.reshape(table, (5, 8, 3))[band]
        np.testing.assert_allclose(result[band], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="frequency"):
        positions.resize_positions(table, (5, 8), (4, 8))
