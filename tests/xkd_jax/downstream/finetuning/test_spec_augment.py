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
        "crop_extent": (0.6, 1.5),
        "crop_canvas": (1.0, 1.5),
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
        crop=jnp.array([[0, 0, 12, 40]] * 2),
    )
    made = np.asarray(jax.jit(lambda *given: spec_augment.augment(*given, (1, 1)))(draws, log_mels))
    expected = log_mels[0].copy()
    expected[2:5] = expected[9:12] = log_mels[0].mean()
    expected[:, :4] = expected[:, 38:] = log_mels[0].mean()
    np.testing.assert_allclose(made[0], expected, rtol=1e-5)
    expected = warped_by_numpy(log_mels[1], 10.0, 14.0)
    expected[5] = expected.mean()
    np.testing.assert_allclose(made[1], expected, atol=1e-4)


def test_nothing_is_done_where_nothing_is_asked_for():
    none = dict.fromkeys(CONFIG, 0) | {"time_mask_frames": 1, "frequency_mask_bands": 1}
    none |= dict.fromkeys(("crop_extent", "crop_canvas"), (1.0, 1.0))
    log_mels = np.random.default_rng(2).normal(size=(3, 8, 30)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    config = ml_collections.ConfigDict(none)
    draws = jax.vmap(lambda key: spec_augment.draw(key, config, (8, 30)))(keys)
    made = spec_augment.augment(draws, log_mels, config.crop_canvas)
    np.testing.assert_allclose(made, log_mels, atol=1e-6)


def test_a_log_mel_too_short_to_warp_is_not_warped():
    assert spec_augment.draw_warp(jax.random.key(0), 20, 40).tolist() == [20.0, 20.0]


def test_draws_of_the_crop(draws):
    first_band, first_frame, bands, frames = draws.crop.T
    assert bands.min() == 48 and bands.max() == 80  # limited to the canvas
    assert np.mean(bands == 80) == pytest.approx(0.5 / 0.9, abs=0.02)
    assert 268 <= frames.min() < 272 and 668 < frames.max() <= 672
    assert frames.mean() == pytest.approx(1.05 * 448, abs=6)
    for first, extent, whole in ((first_band, bands, 80), (first_frame, frames, 672)):
        assert first.min() == 0 and (first + extent).max() == whole
        share = first[extent < whole] / (whole - extent[extent < whole])
        assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(bands, frames)[0, 1]) < 0.05


def resized_by_numpy(values, count):
    """Bicubic interpolation of (n, ...) to (count, ...) by its definition, with aligned ends."""

    def kernel(x, a=-0.75):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    n = len(values)
    resized = []
    for i in range(count):
        source = i * (n - 1) / (count - 1)
        taps = range(int(np.floor(source)) - 1, int(np.floor(source)) + 3)
        resized.append(sum(kernel(source - k) * values[min(max(k, 0), n - 1)] for k in taps))
    return np.stack(resized)


@pytest.fixture(scope="module")
def boxes():
    """Twenty drawn boxes of a canvas of 12 by 60."""
    keys = jax.random.split(jax.random.key(3), 20)
    return np.asarray(
        jax.vmap(lambda key: spec_augment.draw_crop(key, (0.6, 1.5), (12, 40), (12, 60)))(keys)
    )


def cropped(log_mel, boxes):
    crop = jax.vmap(lambda box: spec_augment.resized_crop(log_mel, box, (12, 60)))
    return np.asarray(jax.jit(crop)(jnp.asarray(boxes)))


def test_the_crop_is_bicubic(boxes):
    log_mel = np.random.default_rng(3).normal(size=(12, 40)).astype(np.float32)
    canvas = np.pad(log_mel.astype(float), [(0, 0), (10, 10)])
    for made, (band, frame, bands, frames) in zip(cropped(log_mel, boxes), boxes, strict=True):
        part = canvas[band : band + bands, frame : frame + frames]
        expected = resized_by_numpy(resized_by_numpy(part, 12).T, 40).T
        np.testing.assert_allclose(made, expected, atol=1e-5)


def test_the_crop_is_that_of_pretraining(boxes):
    from input_pipeline import views

    log_mel = np.random.default_rng(4).normal(size=(12, 40)).astype(np.float32)
    for made, box in zip(cropped(log_mel, boxes), boxes, strict=True):
        # TensorFlow rounds positions to 1/1024.
        expected = views.resized_audio_crop(log_mel, box, (12, 60))
        np.testing.assert_allclose(made, expected, atol=5e-3)


def test_crops_of_what_is_constant():
    ones = np.ones((12, 40), np.float32)
    inside, outside = cropped(ones, [[3, 12, 7, 30], [0, 0, 12, 10]])
    np.testing.assert_allclose(inside, 1, atol=1e-6)
    np.testing.assert_array_equal(outside, 0)


def test_a_crop_of_a_single_value_is_that_value_everywhere():
    log_mel = np.arange(480, dtype=np.float32).reshape(12, 40)
    np.testing.assert_allclose(cropped(log_mel, [[5, 10 + 7, 1, 1]])[0], log_mel[5, 7], rtol=1e-6)


def test_masks_are_cropped_with_the_rest():
    """A masked band of a crop of the lower half is twice as broad."""
    log_mels = np.random.default_rng(5).normal(size=(1, 13, 40)).astype(np.float32)
    none = jnp.zeros((1, 1, 2), jnp.int32)
    draws = spec_augment.Draws(
        moved=jnp.full((1, 2), 20.0),
        bands=jnp.array([[[2, 3]]]),
        frames=none,
        crop=jnp.array([[0, 0, 7, 40]]),
    )
    made = spec_augment.augment(draws, log_mels, (1.0, 1.0))[0]
    np.testing.assert_allclose(made[4:9:2], log_mels.mean(), atol=1e-5)
    np.testing.assert_allclose(made[10], log_mels[0, 5], atol=1e-5)
