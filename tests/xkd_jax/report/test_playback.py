"""Reconstructions that play show the clips as they are."""

import numpy as np
import pytest

from configs import base
from xkd_jax.encoders import preprocessing
from xkd_jax.method import augment
from xkd_jax.method.models import patches
from xkd_jax.report import playback

VIEWS = base.get_config().views
PATCHES = {"video": (2, 8, 8), "audio": (4, 16)}
SIZE, SCALE = 16, 7  # 16 pixels are enlarged to 112


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).integers(0, 256, (2, 4, SIZE, SIZE, 3), dtype=np.uint8)


def output(views, patch):
    """Perfect predictions of views, and masks that drop every other patch."""
    targets, _, _ = patches.normalize_patches(patches.patchify(views, patch))
    dropped = np.arange(targets.shape[1]) % 2 * np.ones((len(views), 1))
    return views, targets, dropped


@pytest.fixture(scope="module")
def figures(clips):
    seconds = np.arange(4 * VIEWS.audio.sample_rate) / VIEWS.audio.sample_rate
    tones = [0.5 * np.sin(2 * np.pi * hz * seconds).astype(np.float32) for hz in (500, 1500)]
    settings = {**VIEWS.audio, "frames": VIEWS.audio.global_frames, "seconds": 4.0}
    log_mels = np.stack([preprocessing.log_mel(tone, settings) for tone in tones])
    outputs = {
        "video": output(np.asarray(augment.normalize(clips)), PATCHES["video"]),
        "audio": output(log_mels, PATCHES["audio"]),
    }
    return playback.figures(outputs, PATCHES, VIEWS, plays=True)


def test_a_video_shows_the_frames_the_masked_ones_and_the_predicted_ones(figures, clips):
    shown = figures.videos["reconstruction/clips"]
    assert shown.shape == (2, 4, SIZE * SCALE, 3 * SIZE * SCALE, 3)
    assert figures.frame_rate == 8
    original, masked, predicted = np.split(shown[:, :, ::SCALE, ::SCALE], 3, axis=3)
    np.testing.assert_array_equal(original, clips)
    np.testing.assert_array_equal(predicted, clips)
    np.testing.assert_array_equal(masked[..., :8, :], clips[..., :8, :])
    assert (masked[..., 8:, :] == 128).all()  # every other patch, from left to right


def test_sounds_have_the_pitch_of_the_log_mels(figures):
    assert figures.sample_rate == 16000
    for name in ("original", "reconstructed"):
        sounds = figures.audios[f"reconstruction/sound/{name}"]
        assert sounds.shape[0] == 2 and sounds.shape[2] == 1 and sounds.dtype == np.float32
        for sound, hz in zip(sounds[..., 0], (500, 1500), strict=True):
            strongest = np.abs(np.fft.rfft(sound)).argmax() * 16000 / len(sound)
            assert strongest == pytest.approx(hz, rel=0.05)
            assert 0.3 < np.abs(sound).max() <= 1.0


def test_predictions_that_are_far_too_loud_make_no_noise_and_no_error():
    rows = np.random.default_rng(0).normal(size=(3, 1, 80, 64)).astype(np.float32)
    rows[2] *= 1000
    sounds = playback.sounds(rows, VIEWS.audio)
    assert np.isfinite(sounds["reconstructed"]).all()
    assert np.abs(sounds["reconstructed"]).max() <= 1


def test_without_trackers_there_are_pictures_alone(clips):
    outputs = {"video": output(np.asarray(augment.normalize(clips)), PATCHES["video"])}
    figures = playback.figures(outputs, PATCHES, VIEWS, plays=False)
    assert set(figures.images) == {"reconstruction/video"}
    assert not figures.videos and not figures.audios
