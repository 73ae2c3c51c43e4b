"""Log-mels agree with the authors' release, and with librosa.

Reference vectors are every *.npz with `mel_global` in the directories of $XKD_REFERENCE_VECTORS
(colon-separated), by default those kept beside the tests.
"""

import os
import pathlib

import librosa
import numpy as np
import pytest
import tensorflow as tf

from configs import base
from input_pipeline import spectrogram
from xkd_jax.encoders import preprocessing

TOLERANCE = 1e-3
AUDIO = base.get_config().views.audio
DIRECTORIES = os.environ.get(
    "XKD_REFERENCE_VECTORS", str(pathlib.Path(__file__).parent / "reference")
)


def vectors():
    for directory in DIRECTORIES.split(":"):
        for path in sorted(pathlib.Path(directory).glob("*.npz")):
            with np.load(path) as arrays:
                if "mel_global" in arrays:
                    yield pytest.param(
                        {k: v for k, v in arrays.items() if k != "meta"},
                        id=f"{path.parent.name}/{path.stem}",
                    )


VECTORS = list(vectors())


def worst_difference(vector):
    """Largest absolute difference over all waves that a vector has log-mels of."""
    differences = []
    for name in vector:
        if name.startswith("mel_"):
            wave, mel = vector[name.replace("mel_", "wave_")], vector[name]
            ours = spectrogram.log_mel(tf.constant(wave), mel.shape[1], AUDIO).numpy()
            assert ours.shape == mel.shape
            differences.append(np.abs(ours - mel).max())
    # A plain max() would let a NaN through.
    return np.max(differences)


def test_there_are_vectors():
    assert VECTORS, f"no *.npz with mel_global in {DIRECTORIES}"


@pytest.mark.parametrize("vector", VECTORS)
def test_agrees_with_the_release(vector):
    assert worst_difference(vector) <= TOLERANCE


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("size", [0.1, np.nan])
def test_one_changed_number_is_noticed(vector, size):
    for name in vector:
        for place in np.random.default_rng(0).integers(vector[name].size, size=3):
            changed = vector[name].copy()
            changed.flat[place] += size
            assert not worst_difference({**vector, name: changed}) <= TOLERANCE, (name, place)


@pytest.mark.parametrize("samples", [16_000, 64_000])
def test_agrees_with_librosa(samples):
    rng = np.random.default_rng(samples)
    # Noise and a sweep, silent for the last third: loud, quiet and empty bands and frames.
    time = np.arange(samples) / AUDIO.sample_rate
    wave = 0.3 * np.sin(2 * np.pi * 900 * time**2) + 0.01 * rng.standard_normal(samples)
    wave[samples * 2 // 3 :] = 0
    mel = librosa.feature.melspectrogram(
        y=wave.astype(np.float32),
        sr=AUDIO.sample_rate,
        n_fft=AUDIO.window,
        hop_length=AUDIO.hop,
        n_mels=AUDIO.mel_bands,
        fmax=AUDIO.max_frequency,
    )
    expected = (np.log(mel + AUDIO.log_offset) - AUDIO.mean) / AUDIO.std
    ours = spectrogram.log_mel(tf.constant(wave, tf.float32), expected.shape[1], AUDIO).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("rate", "window", "bands"), [(16_000, 1024, 80), (22_050, 512, 40)])
def test_mel_filters_are_those_of_librosa(rate, window, bands):
    expected = librosa.filters.mel(sr=rate, n_fft=window, n_mels=bands, fmax=rate / 2)
    ours = spectrogram.mel_filters(rate, window, bands, rate / 2)
    np.testing.assert_allclose(ours, expected.T, rtol=0, atol=1e-7)


def test_silence_is_the_offset():
    silence = spectrogram.log_mel(tf.zeros(16_000), 112, AUDIO).numpy()
    np.testing.assert_allclose(silence, (np.log(AUDIO.log_offset) - AUDIO.mean) / AUDIO.std)


def test_refuses_more_frames_than_there_are():
    with pytest.raises(ValueError, match="112 log-mel frames, not 113"):
        spectrogram.log_mel(tf.zeros(16_000), 113, AUDIO)


@pytest.mark.parametrize(("sample_rate", "samples"), [(44100, 70001), (22050, 100_001)])
def test_a_resampled_waveform_has_views_as_librosa_resamples_it(sample_rate, samples):
    waveform = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    audio = {**AUDIO, "frames": 448, "seconds": 2.0}
    resampled = librosa.resample(waveform, orig_sr=sample_rate, target_sr=16_000)
    for place in (0.5, 1.0):
        [found] = preprocessing.audio_views(waveform, sample_rate, audio, [place])
        [expected] = preprocessing.audio_views(resampled, 16_000, audio, [place])
        np.testing.assert_allclose(found, expected, atol=1e-6)
