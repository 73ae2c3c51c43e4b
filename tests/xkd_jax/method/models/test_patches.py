import jax.numpy as jnp
import numpy as np
import pytest

from xkd_jax.method.models import patches


def test_a_video_token_is_a_cuboid_in_pixel_order(rng):
    video = rng.normal(size=(2, 4, 6, 9, 3)).astype(np.float32)
    tokens = patches.patchify(video, (2, 3, 3))
    assert tokens.shape == (2, 2 * 2 * 3, 2 * 3 * 3 * 3)
    # Token (time 1, height 0, width 2) of a (2, 2, 3) grid.
    cuboid = video[1, 2:4, 0:3, 6:9]
    np.testing.assert_array_equal(tokens[1, 1 * 6 + 0 * 3 + 2], cuboid.reshape(-1))


def test_an_audio_token_is_a_tile_and_frequency_is_the_slow_axis(rng):
    log_mel = rng.normal(size=(2, 8, 48)).astype(np.float32)
    tokens = patches.patchify(log_mel, (4, 16))
    assert tokens.shape == (2, 2 * 3, 4 * 16)
    np.testing.assert_array_equal(tokens[0, 1 * 3 + 2], log_mel[0, 4:8, 32:48].reshape(-1))


@pytest.mark.parametrize(
    ("view", "patch", "grid"), [((4, 6, 9, 3), (2, 3, 3), (2, 2, 3)), ((8, 48), (4, 16), (2, 3))]
)
def test_sizes_are_those_of_the_patches(view, patch, grid):
    tokens = patches.patchify(np.zeros((1, *view)), patch)
    assert patches.token_grid(view, patch) == grid
    assert tokens.shape == (1, np.prod(grid), patches.patch_values(patch))


@pytest.mark.parametrize("xp", [np, jnp])
def test_unpatchify_is_the_inverse_and_keeps_the_kind_of_array(xp, rng):
    video = xp.asarray(rng.normal(size=(2, 4, 6, 9, 3)), dtype=xp.float32)
    tokens = patches.patchify(video, (2, 3, 3))
    again = patches.unpatchify(tokens, (2, 2, 3), (2, 3, 3))
    assert type(again) is type(video)
    np.testing.assert_array_equal(again, video)

    log_mel = xp.asarray(rng.normal(size=(2, 8, 48)), dtype=xp.float32)
    tokens = patches.patchify(log_mel, (4, 16))
    again = patches.unpatchify(tokens, (2, 3), (4, 16))
    assert type(again) is type(log_mel)
    np.testing.assert_array_equal(again, log_mel)


@pytest.mark.parametrize("xp", [np, jnp])
def test_patches_are_normalized_by_unbiased_variance_with_eps_in_the_root(xp, rng):
    values = rng.normal(3.0, 0.01, size=(2, 5, 16)).astype(np.float32)
    values[0, 0] = 7.0  # a flat patch: only eps keeps it finite
    normalized, mean, std = patches.normalize_patches(xp.asarray(values))
    centered = values - values.mean(-1, keepdims=True)
    expected = np.sqrt((centered**2).sum(-1, keepdims=True) / 15 + 1e-6)
    np.testing.assert_allclose(std, expected, rtol=1e-5)
    np.testing.assert_allclose(normalized, centered / expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(normalized * std + mean, values, rtol=1e-6)
    np.testing.assert_array_equal(normalized[0, 0], 0)
    assert normalized.dtype == np.float32


def test_a_patch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"patch is \(2, 5, 3\); allowed: divisors.*\(4, 6, 9\)"):
        patches.patchify(np.zeros((1, 4, 6, 9, 3)), (2, 5, 3))
    with pytest.raises(ValueError, match=r"patch is \(4, 16\); allowed: divisors.*\(8, 40\)"):
        patches.patchify(np.zeros((1, 8, 40)), (4, 16))
