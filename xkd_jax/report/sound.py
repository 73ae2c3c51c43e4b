"""Conversion of log-mels to playable sound: waveforms by Griffin-Lim, and MP3 by FFmpeg."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FIT_ITERATIONS = 30  # for the spectra; 100 reduce the log-mel's error by only 3%
_PHASE_ITERATIONS = 32
_MOMENTUM = 0.99  # as Perraudin et al. (2013) recommend; 0 is the method of 1984
BIT_RATE = 40_000  # MP3, bits per second
_PEAK = 0.7


def waveforms(
    log_mels: Sequence[np.ndarray], audio: Mapping[str, Any], seed: int = 0
) -> list[np.ndarray]:
    """Computes waveforms whose log-mels are close to given ones.

    The phases are found by the method of Griffin and Lim (1984).

    Args:
        log_mels: (F, W) float each, normalized; NaN becomes silence.
        audio: "preprocessing" of the audio encoder.
        seed: Seed of the initial phases, which are the same for all waveforms.

    Returns:
        (S,) float32 each, at the encoder's sample rate.
    """
    # Imported here because these imports take seconds.
    import librosa
    from sklearn.decomposition import non_negative_factorization

    power = np.exp(np.stack(log_mels) * audio["std"] + audio["mean"], dtype=np.float32)
    power = np.maximum(np.nan_to_num(power) - np.float32(audio["log_offset"]), 0)
    count, bands, windows = power.shape
    filters = librosa.filters.mel(
        sr=audio["sample_rate"], n_fft=audio["window"], n_mels=bands, fmax=audio["max_frequency"]
    )
    # Fit power spectra to the powers of the mel bands. The Kullback-Leibler divergence weighs an
    # error relative to the power, as ears do. Least squares (librosa's mel_to_stft) would fit only
    # the loud parts and take some fifty times as long.
    spectra, _, _ = non_negative_factorization(
        power.swapaxes(1, 2).reshape(count * windows, bands),
        H=filters.T,
        n_components=filters.shape[1],
        update_H=False,
        solver="mu",
        beta_loss="kullback-leibler",
        tol=0,
        max_iter=_FIT_ITERATIONS,
    )
    magnitudes = np.sqrt(spectra).reshape(count, windows, -1).swapaxes(1, 2)
    return [*_with_phases(magnitudes, audio["window"], audio["hop"], seed)]


def _with_phases(magnitudes: np.ndarray, window: int, hop: int, seed: int) -> np.ndarray:
    """Finds waveforms by the magnitudes of their spectra.

    It alternates between spectra with the given magnitudes and spectra of a waveform (Griffin and
    Lim, 1984), and goes on beyond each projection by the momentum of Perraudin, Balazs and
    Sondergaard (2013).

    Args:
        magnitudes: (N, window // 2 + 1, W) float32; column `t` is centered at sample `t * hop`.
        window: Samples per window.
        hop: Samples from the middle of a window to that of the next.
        seed: Seed of the initial phases, which are the same for all waveforms.

    Returns:
        (N, (W - 1) * hop) float32.
    """
    # librosa.griffinlim would compile its helpers for 15 to 20 s where it runs first.
    from scipy.signal import ShortTimeFFT, get_window

    transform = ShortTimeFFT(get_window("hann", window), hop, fs=1.0, phase_shift=None)
    columns = magnitudes.shape[-1]
    # The inverse takes its first column as the first that reaches into the waveform.
    margin = [(0, 0), (0, 0), (-transform.p_min, transform.p_max((columns - 1) * hop) - columns)]

    def waveform(spectra: np.ndarray) -> np.ndarray:
        return transform.istft(np.pad(spectra, margin), k1=(columns - 1) * hop)

    draws = np.random.default_rng(seed).random(magnitudes.shape[1:])
    phases = np.exp(2j * np.pi * draws)
    before = 0.0
    for _ in range(_PHASE_ITERATIONS):
        projected = transform.stft(waveform(magnitudes * phases), p0=0, p1=columns)
        beyond = projected + _MOMENTUM * (projected - before)
        phases = beyond / np.maximum(np.abs(beyond), np.finfo(np.float32).tiny)
        before = projected
    return waveform(magnitudes * phases).astype(np.float32)


def leveled(*waveforms: np.ndarray) -> list[np.ndarray]:
    """Scales waveforms by one factor, which brings the first one's peak to 0.7.

    Args:
        waveforms: (S,) float32 each; the first is the original.

    Returns:
        (S,) float32 each, clipped to [-1, 1].
    """
    peak = max(float(np.abs(waveforms[0]).max()), 1e-4)
    return [np.clip(x * (_PEAK / peak), -1, 1).astype(np.float32) for x in waveforms]


def mp3(samples: np.ndarray, sample_rate: int) -> bytes:
    """Encodes a waveform as MP3, which every browser plays.

    Args:
        samples: (S,) float32 in [-1, 1].
        sample_rate: Sample rate in Hz.

    Returns:
        The content of an MP3 file.
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=sample_rate, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
