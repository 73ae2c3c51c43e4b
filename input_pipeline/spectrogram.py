"""Log-mel spectrograms on TensorFlow ops, equal to librosa's."""

import functools
import math

import ml_collections
import numpy as np
import tensorflow as tf

# Hz per mel below the break, the break in Hz and in mels, and mels per factor e above it.
_LINEAR, _BREAK = 200 / 3, 1000.0
_BREAK_MEL, _LOGARITHMIC = _BREAK / _LINEAR, 27 / math.log(6.4)

_FILTER_GROUPS = 5  # 3 to 8 are about as fast


def log_mel(waveform: tf.Tensor, frames: int, audio: ml_collections.ConfigDict) -> tf.Tensor:
    """Computes the normalized log-mel spectrogram.

    Power spectra of Hann windows centered on every `hop`-th sample, the sound continued by zeros,
    Slaney's mel filters up to `max_frequency`, then (log(mel + log_offset) - mean) / std.

    Args:
        waveform: (S,) float32, S known when the graph is built.
        frames: Number of frames W, the first of the 1 + S // hop there are.
        audio: `views.audio` of the run's config.

    Returns:
        (mel_bands, W) float32.

    Raises:
        ValueError: The sound is too short for so many frames.
    """
    available = 1 + waveform.shape[0] // audio.hop
    if frames > available:
        raise ValueError(
            f"{waveform.shape[0]} samples make {available} log-mel frames, not {frames}"
        )
    windowed = _windows(waveform, frames, audio.window, audio.hop) * _hann(audio.window)
    spectrum = tf.signal.rfft(windowed)
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    filters = mel_filters(audio.sample_rate, audio.window, audio.mel_bands, audio.max_frequency)
    mel = tf.concat(
        [
            tf.matmul(part, power[:, first : first + part.shape[1]], transpose_b=True)
            for first, part in _filter_groups(filters)
        ],
        axis=0,
    )
    return (tf.math.log(mel + audio.log_offset) - audio.mean) / audio.std


def _filter_groups(filters: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Splits filters (bins, bands) into groups of neighbors, without the bins that a group ignores.

    Most of a filter is zeros: a few small products cost less than half of the whole one.

    Returns:
        First bin, and (bands, bins) float32, of each group, in order.
    """
    groups = []
    for part in np.array_split(filters, _FILTER_GROUPS, axis=1):
        used = np.flatnonzero(part.any(axis=1))
        first, last = (used[0], used[-1]) if len(used) else (0, 0)
        groups.append((int(first), np.ascontiguousarray(part[first : last + 1].T)))
    return groups


def _windows(waveform: tf.Tensor, count: int, length: int, hop: int) -> tf.Tensor:
    """Cuts out windows centered on every `hop`-th sample, zeros around the sound.

    A window is a run of rows of the sound written `hop` samples a row, so that a few slices make
    all of them: several times faster than gathering.

    Returns:
        (count, length) float32.
    """
    rows = math.ceil(length / hop)
    total = (count + rows - 1) * hop
    before = length // 2
    padded = tf.pad(waveform, [(before, max(0, total - before - waveform.shape[0]))])
    by_hop = tf.reshape(padded[:total], [-1, hop])
    parts = [by_hop[row : row + count] for row in range(rows)]
    parts[-1] = parts[-1][:, : length - (rows - 1) * hop]
    return tf.concat(parts, axis=1)


@functools.cache
def _hann(length: int) -> np.ndarray:
    """(length,) float32 periodic Hann window."""
    return np.hanning(length + 1)[:-1].astype(np.float32)


@functools.cache
def mel_filters(sample_rate: int, window: int, bands: int, max_frequency: float) -> np.ndarray:
    """Makes Slaney's mel filter bank from 0 Hz up, the default of librosa.

    Triangles, evenly spaced in mels, each of area 1 over frequency in Hz. Mels are linear up to
    1 kHz, at 66.7 Hz, and logarithmic above, at 27 for a factor of 6.4 (Slaney, Auditory Toolbox,
    1998). Written out because importing librosa takes seconds; the tests compare the two.

    Args:
        sample_rate: Of the sound, in Hz.
        window: Length of the power spectrum's window, in samples.
        bands: Number of filters.
        max_frequency: Upper edge of the highest filter, in Hz.

    Returns:
        (window // 2 + 1, bands) float32.
    """
    mels = np.linspace(0, _mel_of_hertz(max_frequency), bands + 2)
    edges = _hertz_of_mel(mels)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    frequency = np.fft.rfftfreq(window, 1 / sample_rate)[:, None]
    rising, falling = (frequency - low) / (center - low), (high - frequency) / (high - center)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (high - low)).astype(np.float32)


def _mel_of_hertz(hertz: float) -> float:
    if hertz < _BREAK:
        return hertz / _LINEAR
    return _BREAK_MEL + _LOGARITHMIC * math.log(hertz / _BREAK)


def _hertz_of_mel(mel: np.ndarray) -> np.ndarray:
    above = _BREAK * np.exp((mel - _BREAK_MEL) / _LOGARITHMIC)
    return np.where(mel < _BREAK_MEL, mel * _LINEAR, above)
