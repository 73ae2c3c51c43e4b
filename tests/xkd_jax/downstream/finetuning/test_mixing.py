"""Mixup and cutmix follow their definitions, and their draws have the right statistics."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from xkd_jax.downstream.finetuning import mixing


def config(mixup=0.6, cutmix=0.5, probability=1.0, switch_probability=0.5):
    return ml_collections.ConfigDict(locals())


def drawn(extents=(14, 20), **changes):
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(jax.vmap(lambda key: mixing.draw(key, config(**changes), extents)))
    return jax.tree.map(np.asarray, draw(keys))


def test_mixing_by_hand(rng):
    clips = rng.integers(0, 256, (4, 3, 6, 8, 3)).astype(np.uint8)
    draws = mixing.Draws(
        own=jnp.array([0.7, 0.75, 1.0, 0.0]),
        box=jnp.array([[0, 0, 0, 0], [1, 2, 4, 6], [0, 0, 0, 0], [0, 0, 0, 0]]),
        blends=jnp.array([True, False, True, True]),
    )
    mixed = np.asarray(jax.jit(lambda d, x: mixing.mix(d, x, 2))(draws, clips))
    whole = clips.astype(np.float32)
    np.testing.assert_allclose(mixed[0], 0.7 * whole[0] + 0.3 * whole[3], rtol=1e-5)
    expected = whole[1].copy()
    expected[:, 1:4, 2:6] = whole[2][:, 1:4, 2:6]  # the same box in every frame
    np.testing.assert_array_equal(mixed[1], expected)
    np.testing.assert_array_equal(mixed[2], whole[2])
    np.testing.assert_array_equal(mixed[3], whole[0])

    targets = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(
        mixing.mix_targets(draws.own, targets),
        [[0.7, 0, 0, 0.3], [0, 0.75, 0.25, 0], [0, 0, 1, 0], [1, 0, 0, 0]],
        rtol=1e-6,
    )


def test_log_mels_are_mixed_alike(rng):
    log_mels = rng.normal(size=(2, 5, 7)).astype(np.float32)
    draws = mixing.Draws(
        own=jnp.array([0.4, 1.0]),
        box=jnp.array([[0, 0, 0, 0], [2, 1, 5, 3]]),
        blends=jnp.array([True, False]),
    )
    mixed = mixing.mix(draws, log_mels, 1)
    np.testing.assert_allclose(mixed[0], 0.4 * log_mels[0] + 0.6 * log_mels[1], rtol=1e-5)
    expected = log_mels[1].copy()
    expected[2:5, 1:3] = log_mels[0, 2:5, 1:3]
    np.testing.assert_array_equal(mixed[1], expected)


def test_smoothing():
    targets = np.array([[0, 1, 0, 0], [1, 0, 0, 0]], bool)
    smoothed = mixing.smooth(targets, 0.1)
    np.testing.assert_allclose(smoothed[0], [0.025, 0.925, 0.025, 0.025], rtol=1e-6)
    np.testing.assert_array_equal(mixing.smooth(targets, 0.0), targets)


def test_draws_of_both():
    draws = drawn()
    cut = ~draws.blends
    assert cut.mean() == pytest.approx(0.5, abs=0.03)
    # Beta(0.6, 0.6) has mean 1/2 and variance 1 / (4 (2 * 0.6 + 1)).
    own = draws.own[draws.blends]
    assert own.mean() == pytest.approx(0.5, abs=0.03)
    assert own.var() == pytest.approx(1 / (4 * 2.2), abs=0.01)
    assert not draws.box[draws.blends].any()
    top, left, bottom, right = draws.box[cut].T
    assert (top >= 0).all() and (left >= 0).all() and (bottom <= 14).all() and (right <= 20).all()
    share = (bottom - top) * (right - left) / (14 * 20)
    np.testing.assert_allclose(draws.own[cut], 1 - share, rtol=1e-5, atol=1e-6)
    assert 0.1 < share.mean() < 0.5 and share.max() > 0.7


def test_boxes_have_the_frame_s_proportions_and_lie_anywhere():
    keys = jax.random.split(jax.random.key(1), 4000)
    boxes = np.asarray(jax.vmap(lambda key: mixing.draw_box(key, 0.75, (16, 24)))(keys))
    top, left, bottom, right = boxes.T
    inside = (top > 0) & (left > 0) & (bottom < 16) & (right < 24)
    np.testing.assert_array_equal((bottom - top)[inside], 8)  # half of the height
    np.testing.assert_array_equal((right - left)[inside], 12)
    assert {*top[inside]} == set(range(1, 8)) and {*left[inside]} == set(range(1, 12))
    assert (~inside).mean() > 0.3  # clipped at the edges


@pytest.mark.parametrize(
    ("changes", "blends", "mixed"),
    [
        ({"mixup": 0.0}, 0.0, 1.0),
        ({"mixup": 0.0, "cutmix": 0.0}, 1.0, 0.0),
        ({"mixup": 1.0, "cutmix": 0.0, "probability": 0.3}, 1.0, 0.3),
    ],
)
def test_draws_of_one_or_none(changes, blends, mixed):
    draws = drawn(**changes)
    assert draws.blends.mean() == blends
    if blends:
        assert (draws.own < 1).mean() == pytest.approx(mixed, abs=0.05)
    else:  # a box may be clipped to nothing
        assert (draws.own < 1).mean() > 0.7
