"""SpecAugment agrees with plain NumPy, and its draws have the right statistics."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from xkd_jax.downstream.finetuning import spec_augment

CONFIG = ml_collections.ConfigDict(
    {
        "time_masks": 2,
        "time_mask_frames": 20,
        "frequency_masks": 2,
        "frequency_mask_bands": 10,
        "time_warp": 20,
    }
)
SIZE = (80, 448)


@pytest.fixture(scope="module")
def draws():
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(jax.vmap(lambda key: spec_augment.draw(key, CONFIG, SIZE)))
    return jax.tree.map(np.asarray, draw(keys))


@pytest.mark.parametrize(("name", "limit", "extent"), [("bands", 10, 80), ("frames", 20, 448)])
def test_draws_of_masks(draws, name, limit, extent):
    starts, extents = np.moveaxis(getattr(draws, name), -1, 0)
    assert starts.shape == (4000, 2)
    counts = np.bincount(extents.ravel(), minlength=limit)
    np.testing.assert_allclose(counts / counts.sum(), 1 / limit, rtol=0.2)  # [0, limit)
    assert starts.min() == 0 and (starts + extents).max() == extent
    assert (starts / (extent - extents)).mean() == pytest.approx(0.5, abs=0.01)
    assert not np.array_equal(starts[:, 0], starts[:, 1])


def test_draws_of_the_warp(draws):
    start, end = draws.moved.T
    assert 20 <= start.min() < 22 and 426 < start.max() <= 428
    assert start.mean() == pytest.approx(224, abs=6)
    assert -20 <= (end - start).min() < -19.8 and 19.8 < (end - start).max() <= 20
    assert (end - start).mean() == pytest.approx(0, abs=0.6)


def warped_by_numpy(log_mel, start, end):
    frames = log_mel.shape[1]
    center = np.arange(frames) + 0.5
    source = np.interp(center, [0, end, frames], [0, start, frames])
    return np.stack([np.interp(source, center, band) for band in log_mel])


@pytest.mark.parametrize(("start", "end"), [(20.0, 31.5), (30.0, 12.0), (25.0, 25.0)])
def test_the_warp_is_piecewise_linear(start, end):
    log_mel = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    warped = jax.jit(spec_augment.warp_time)(log_mel, jnp.array([start, end]))
    np.testing.assert_allclose(warped, warped_by_numpy(log_mel, start, end), atol=1e-4)


def test_the_moved_frame_arrives():
    log_mel = np.zeros((1, 60), np.float32)
    log_mel[0, 30] = 1.0
    warped = spec_augment.warp_time(log_mel, jnp.array([30.5, 40.5]))
    assert np.argmax(warped[0]) == 40 and warped[0, 40] == pytest.approx(1.0)


def test_masks_are_filled_with_the_mean():
    log_mels = np.random.default_rng(1).normal(3.0, size=(2, 12, 40)).astype(np.float32)
    still = [20.0, 20.0]
    draws = spec_augment.Draws(
        moved=jnp.array([still, [10.0, 14.0]]),
        bands=jnp.array([[[2, 3], [9, 3]], [[0, 0], [5, 1]]]),
        frames=jnp.array([[[0, 4], [38, 2]], [[7, 0], [0, 0]]]),
    )
    made = np.asarray(jax.jit(spec_augment.augment)(draws, log_mels))
    expected = log_mels[0].copy()
    expected[2:5] = expected[9:12] = log_mels[0].mean()
    expected[:, :4] = expected[:, 38:] = log_mels[0].mean()
    np.testing.assert_allclose(made[0], expected, rtol=1e-5)
    expected = warped_by_numpy(log_mels[1], 10.0, 14.0)
    expected[5] = expected.mean()
    np.testing.assert_allclose(made[1], expected, atol=1e-4)


def test_nothing_is_done_where_nothing_is_asked_for():
    none = dict.fromkeys(CONFIG, 0) | {"time_mask_frames": 1, "frequency_mask_bands": 1}
    log_mels = np.random.default_rng(2).normal(size=(3, 8, 30)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    config = ml_collections.ConfigDict(none)
    draws = jax.vmap(lambda key: spec_augment.draw(key, config, (8, 30)))(keys)
    np.testing.assert_allclose(spec_augment.augment(draws, log_mels), log_mels, atol=1e-6)


def test_a_log_mel_too_short_to_warp_is_not_warped():
    assert spec_augment.draw_warp(jax.random.key(0), 20, 40).tolist() == [20.0, 20.0]
