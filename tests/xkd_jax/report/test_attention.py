"""Attention maps drawn over frames and spectrograms."""

import numpy as np

from xkd_jax.method import losses
from xkd_jax.report import attention


def test_heat_is_where_the_weight_is():
    frames = np.full((8, 32, 32, 3), 100, np.uint8)
    weights = np.zeros((2, 4, 4), np.float32)
    weights[1, 0, 3] = 1  # late, top right
    picture = attention.over_frames(frames, weights.ravel(), (2, 4, 4)).astype(int)
    side = picture.shape[0]
    assert picture.shape == (side, attention.SHOWN_FRAMES * side, 3)
    quiet, hot = picture[:, :side], picture[:, -side:]
    assert np.ptp(quiet) == 0
    row, column = np.unravel_index(hot.sum(axis=-1).argmax(), (side, side))
    assert row < side / 4
    assert column > 3 * side / 4


def test_low_bands_are_at_the_bottom():
    log_mel = np.zeros((16, 64), np.float32)
    log_mel[0] = 5
    assert (
        attention.spectrogram(log_mel[None])[0][-1].sum()
        > attention.spectrogram(log_mel[None])[0][0].sum()
    )
    weights = np.zeros((4, 4), np.float32)
    weights[0, 0] = 1  # low and early
    picture = attention.over_spectrogram(np.zeros((16, 64), np.float32), weights.ravel(), (4, 4))
    height, width, _ = picture.shape
    row, column = np.unravel_index(picture.sum(axis=-1).argmax(), (height, width))
    assert row > 3 * height / 4
    assert column < width / 4


def test_masked_places_are_gray():
    log_mel = np.zeros((1, 16, 64), np.float32)
    log_mel[0, :, 32:] = np.nan
    assert (np.unique(attention.spectrogram(log_mel)[0][:, -1]) == 128).all()


def test_maps_are_the_means_and_some_heads(rng):
    rows = rng.random((12, 20)).astype(np.float32)
    names = [x.name for x in attention.maps(rows, 2 * rows)]
    assert names[:2] == ["mean of heads", "mean of heads, refined (0.0% moved)"]
    assert names[2] == "head 1"
    assert names[-1] == "head 12"
    assert not [x for x in attention.maps(rows, None) if "refined" in x.name]


def test_the_refined_mean_is_named_with_what_it_moves():
    rows = np.eye(2, dtype=np.float32)
    [_, refined, *_] = attention.maps(rows, np.diag([3.0, 1.0]))
    assert refined.name == "mean of heads, refined (25.0% moved)"


def test_refinement_moves_weight_between_heads_that_differ(rng):
    attended, other = rng.random((2, 3, 4, 20)).astype(np.float32)
    assert attention.shift(attended, 3 * attended) < 1e-6
    other[:, 0] *= 50  # the other modality's first head has much attention
    refined = np.asarray(losses.cross_modal_attention(attended, other))
    assert attention.shift(attended, refined) > 0.1
