import warnings

import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from configs import base
from xkd_jax.method import augment
from xkd_jax.method.models import patches
from xkd_jax.report import reconstructions

AUDIO = base.get_config().views.audio
VIDEO_PATCH, AUDIO_PATCH = (2, 8, 8), (4, 16)


def video_picture(views, predictions, dropped):
    rows = reconstructions.reconstruct_video(views, predictions, dropped, VIDEO_PATCH)
    return reconstructions.video_montage(rows, frame_rate=8.0)


def audio_picture(log_mels, predictions, dropped):
    rows = reconstructions.reconstruct_audio(log_mels, predictions, dropped, AUDIO_PATCH)
    return reconstructions.audio_montage(rows, AUDIO)


@pytest.fixture
def video(rng):
    """Returns two random views as pixels and normalized, and perfect predictions for them."""
    pixels = rng.integers(0, 256, (2, 4, 16, 16, 3), dtype=np.uint8)
    clips = np.asarray(augment.normalize(pixels))
    targets, _, _ = patches.normalize_patches(patches.patchify(clips, VIDEO_PATCH))
    dropped = np.zeros((2, 8), np.float32)
    dropped[0, 1] = dropped[1, 6:] = 1
    return pixels, clips, targets, dropped


@pytest.fixture
def audio(rng):
    log_mels = rng.normal(size=(2, 80, 448)).astype(np.float32)
    targets, _, _ = patches.normalize_patches(patches.patchify(log_mels, AUDIO_PATCH))
    return log_mels, targets, rng.random((2, 560)) < 0.8


def test_a_perfect_prediction_gives_back_the_video(video):
    pixels, clips, targets, dropped = video
    rows = reconstructions.reconstruct_video(clips, targets, dropped, VIDEO_PATCH)
    assert rows.shape == (3, *pixels.shape)
    np.testing.assert_array_equal(rows[0], pixels)
    np.testing.assert_array_equal(rows[2], pixels)


def test_only_the_dropped_patches_of_a_video_are_gray_or_predicted(video):
    pixels, clips, targets, dropped = video
    _, masked, reconstructed = reconstructions.reconstruct_video(
        clips, np.zeros_like(targets), dropped, VIDEO_PATCH
    )
    # Token 1 of a (2, 2, 2) grid: first frames, top right.
    assert (masked[0, :2, :8, 8:] == 128).all()
    np.testing.assert_array_equal(masked[0, :2, 8:], pixels[0, :2, 8:])
    np.testing.assert_array_equal(masked[0, 2:], pixels[0, 2:])
    # Tokens 6 and 7: last frames, bottom.
    assert (masked[1, 2:, 8:] == 128).all()
    # A prediction of zeros is the mean of the original patch, over all its channels.
    assert len(np.unique(augment.normalize(reconstructed[0, :2, :8, 8:]).round(1))) <= 3
    np.testing.assert_array_equal(reconstructed[0, 2:], pixels[0, 2:])


def test_the_video_picture_holds_the_pixels_under_their_times(video):
    pixels, clips, targets, dropped = video
    picture = video_picture(jnp.asarray(clips), jnp.asarray(targets), jnp.asarray(dropped))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[-1] == 3
    # 16 pixels are enlarged seven times; look for a row of pixels of the last frame.
    wanted = pixels[1, 3, 5].repeat(7, axis=0)
    found = np.lib.stride_tricks.sliding_window_view(picture, len(wanted), axis=1)
    y, x = np.nonzero((found == wanted.T[None, None]).all(axis=(2, 3)))
    assert len(y) >= 7  # in the original and the reconstruction of the second example
    assert (x == picture.shape[1] - 8 - 16 * 7).all()


def test_a_perfect_prediction_gives_back_the_log_mel(audio):
    log_mels, targets, dropped = audio
    rows = reconstructions.reconstruct_audio(log_mels, targets, dropped, AUDIO_PATCH)
    np.testing.assert_array_equal(rows[0], log_mels)
    np.testing.assert_allclose(rows[2], log_mels, atol=1e-5)
    hidden = np.isnan(patches.patchify(rows[1], AUDIO_PATCH))
    np.testing.assert_array_equal(hidden, np.broadcast_to(dropped[..., None], hidden.shape))
    np.testing.assert_array_equal(rows[1][~np.isnan(rows[1])], log_mels[~np.isnan(rows[1])])


def test_low_frequencies_are_at_the_bottom_and_time_runs_to_the_right():
    log_mel = np.full((1, 80, 448), -1.0, np.float32)
    log_mel[:, :40, :224] = 1.0  # low and early
    picture = audio_picture(log_mel, np.zeros((1, 560, 64)), np.zeros((1, 560)))
    bright = picture.sum(axis=-1)
    left, right, top, bottom = 70, 540, 30, 128  # in the first panel
    panel = bright[top:bottom, left:right]
    height, width = panel.shape
    corner = panel[height // 2 + 8 : height - 8, 8 : width // 2 - 8]
    others = panel[8 : height // 2 - 8, 8:-8], panel[8:-8, width // 2 + 8 : -8]
    assert corner.min() > max(other.max() for other in others)


def test_the_seconds_of_neighboring_log_mels_do_not_touch(rng):
    log_mels = rng.normal(size=(2, 80, 224)).astype(np.float32)  # 2 s: a label at the very end
    picture = audio_picture(log_mels, np.zeros((2, 280, 64)), np.zeros((2, 280)))
    labels = picture[-50:-35]
    assert (labels[:, 520:535] < 128).any() and (labels[:, 545:560] < 128).any()
    assert (labels[:, 535:545] > 250).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_log_mels_is_drawn_with_masked_places_gray(audio, count):
    log_mels, targets, dropped = (np.repeat(x, 3, axis=0)[:count] for x in audio)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = audio_picture(log_mels, targets, dropped)
    assert picture.dtype == np.uint8
    is_gray = (np.abs(picture.astype(int) - 128) <= 1).all(axis=-1)
    assert is_gray.mean() > 0.1


def test_silence_and_a_diverged_network_still_make_a_picture(video):
    _, clips, targets, dropped = video
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        video_picture(clips, targets * np.nan, dropped)
        silence, dropped = np.full((1, 80, 448), -1.9, np.float32), np.ones((1, 560))
        nan = np.full((1, 560, 64), np.nan)
        audio_picture(silence, nan, dropped)


def test_bands_are_at_the_frequencies_of_slaneys_scale():
    centers = librosa.mel_frequencies(n_mels=82, fmin=0, fmax=8000)[1:-1]
    bands = [reconstructions.band_of(hz, 80, 8000.0) for hz in centers]
    np.testing.assert_allclose(bands, np.arange(80), atol=1e-9)
