"""Log-mels back to sound that can be played: Griffin-Lim, and MP3 or AAC by FFmpeg."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FIT_ITERATIONS = 30  # of the spectra; a hundred bring the log-mel 3% nearer
_PHASE_ITERATIONS = 32
BIT_RATE = 40_000  # bits per second of MP3
_PEAK = 0.7


def waveforms(
    log_mels: Sequence[np.ndarray], audio: Mapping[str, Any], seed: int = 0
) -> list[np.ndarray]:
    """Finds sounds whose log-mels are about the given ones; phases are Griffin and Lim's (1984).

    Args:
        log_mels: (F, W) float each, normalized; NaN where nothing is known, which is made silence.
        audio: "preprocessing" of the encoder of sounds.
        seed: Seed of the first phases, which all sounds share.

    Returns:
        (S,) float32 each, at the encoder's rate, of W windows.
    """
    # Taken only here: they take seconds to import.
    import librosa
    from sklearn.decomposition import non_negative_factorization

    power = np.exp(np.stack(log_mels) * audio["std"] + audio["mean"], dtype=np.float32)
    power = np.maximum(np.nan_to_num(power) - np.float32(audio["log_offset"]), 0)
    count, bands, windows = power.shape
    filters = librosa.filters.mel(
        sr=audio["sample_rate"], n_fft=audio["window"], n_mels=bands, fmax=audio["max_frequency"]
    )
    # Spectra whose mel bands have the powers. The divergence weighs an error by the power that it
    # is an error of, as ears do. Least squares (librosa's mel_to_stft) fit what is loud alone, and
    # take some fifty times as long.
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
    return [
        librosa.griffinlim(
            magnitude,
            n_iter=_PHASE_ITERATIONS,
            hop_length=audio["hop"],
            n_fft=audio["window"],
            pad_mode="constant",
            random_state=seed,
        )
        for magnitude in magnitudes
    ]


def leveled(*waveforms: np.ndarray) -> list[np.ndarray]:
    """The same sounds at one common volume, such that the first one's peak is well heard.

    Args:
        waveforms: (S,) float32 each; the first is the original.
    """
    peak = max(float(np.abs(waveforms[0]).max()), 1e-4)
    return [np.clip(x * (_PEAK / peak), -1, 1).astype(np.float32) for x in waveforms]


def mp3(samples: np.ndarray, sample_rate: int) -> bytes:
    """A sound as MP3, which every browser plays.

    Args:
        samples: (S,) float32 in [-1, 1].
        sample_rate: Of them, in Hz.
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
