"""Log-mel spectrograms on TensorFlow ops, equal to librosa's."""

import functools
import math

import ml_collections
import numpy as np
import tensorflow as tf

# Hz per mel below the break, the break in Hz and in mels, and mels per factor of e above it.
_LINEAR, _BREAK = 200 / 3, 1000.0
_BREAK_MEL, _LOGARITHMIC = _BREAK / _LINEAR, 27 / math.log(6.4)

_FILTER_GROUPS = 5  # 3 to 8 are about as fast


def log_mel(waveform: tf.Tensor, frames: int, audio: ml_collections.ConfigDict) -> tf.Tensor:
    """Computes the normalized log-mel spectrogram.

    It takes the power spectra of Hann windows centered on every `hop`-th sample, with zeros beyond
    both ends of the waveform, applies Slaney's mel filters up to `max_frequency` and returns
    (log(mel + log_offset) - mean) / std.

    Args:
        waveform: (S,) float32. S is known when the graph is built.
        frames: Number of frames W to keep, from the first of the 1 + S // hop frames.
        audio: `views.audio` section of the run's config.

    Returns:
        (mel_bands, W) float32.

    Raises:
        ValueError: The waveform is too short for that many frames.
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
    """Splits filters (bins, bands) into groups of neighbors, without the bins a group ignores.

    Most of a filter is zeros. A few small products take less than half the time of the whole one.

    Returns:
        First bin and (bands, bins) float32 filters of each group, in order.
    """
    groups = []
    for part in np.array_split(filters, _FILTER_GROUPS, axis=1):
        used = np.flatnonzero(part.any(axis=1))
        first, last = (used[0], used[-1]) if len(used) else (0, 0)
        groups.append((int(first), np.ascontiguousarray(part[first : last + 1].T)))
    return groups


def _windows(waveform: tf.Tensor, count: int, length: int, hop: int) -> tf.Tensor:
    """Cuts out windows centered on every `hop`-th sample, with zeros around the waveform.

    With `hop` samples in a row, a window is a run of rows. A few slices then give all windows,
    which is several times faster than gathering.

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
    """Returns the periodic Hann window, (length,) float32."""
    return np.hanning(length + 1)[:-1].astype(np.float32)


@functools.cache
def mel_filters(sample_rate: int, window: int, bands: int, max_frequency: float) -> np.ndarray:
    """Makes Slaney's mel filter bank from 0 Hz up, librosa's default.

    The filters are triangles, evenly spaced in mels, each of area 1 over frequency in Hz. The mel
    scale is linear up to 1 kHz, with 66.7 Hz per mel, and logarithmic above, with 27 mels per
    factor of 6.4 (Slaney, Auditory Toolbox, 1998). Importing librosa takes seconds, so the formula
    is written out here. The tests compare the two.

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        window: Length of the FFT window, in samples.
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
