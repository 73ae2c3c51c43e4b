"""Media files by time: what a file holds, and the picture and sound of any few seconds of it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Clip:
    """Picture and sound of the same stretch of time.

    Attributes:
        frames: (T, h, w, 3) uint8, RGB, upright.
        waveform: (S,) float32 in [-1, 1], mono; zeros where the file has no sound.
        has_audio: Whether the file has a sound track.
        padded: Whether the file is shorter than the clip, so that its time repeats.
    """

    frames: np.ndarray
    waveform: np.ndarray
    has_audio: bool
    padded: bool = False


class MediaError(ValueError):
    """A media file that cannot be used.

    Attributes:
        reason: Why, out of `REASONS`.
        path: The file.
    """

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{reason}: {path}")
        self.reason = reason
        self.path = path
