"""Log-mels back to sound that can be played: Griffin-Lim, and MP3 or AAC by FFmpeg."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

ITERATIONS = 32
BIT_RATE = 40_000  # bits per second of MP3
_PEAK = 0.7


def waveform(log_mel: np.ndarray, audio: Mapping[str, Any], seed: int = 0) -> np.ndarray:
    """Finds a sound whose log-mel is about the given one; phases are Griffin and Lim's (1984).

    Args:
        log_mel: (F, W) float, normalized; NaN where nothing is known, which is made silence.
        audio: "preprocessing" of the encoder of sounds.
        seed: Of the first phases.

    Returns:
        (S,) float32 at the encoder's rate, of W windows.
    """
    # Taken only here: it takes seconds to import.
    import librosa

    power = np.exp(log_mel * audio["std"] + audio["mean"], dtype=np.float32)
    power = np.maximum(np.nan_to_num(power) - np.float32(audio["log_offset"]), 0)
    magnitude = librosa.feature.inverse.mel_to_stft(
        power,
        sr=audio["sample_rate"],
        n_fft=audio["window"],
        power=2.0,
        fmax=audio["max_frequency"],
    )
    return librosa.griffinlim(
        magnitude,
        n_iter=ITERATIONS,
        hop_length=audio["hop"],
        n_fft=audio["window"],
        pad_mode="constant",
        random_state=seed,
    )


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
