"""What a run shows of itself besides numbers."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_NONE: Mapping[str, np.ndarray] = {}


class Figures(NamedTuple):
    """Images, videos and sounds by name.

    Attributes:
        images: `(H, W, 3)` uint8 each.
        videos: `(N, T, H, W, 3)` uint8 each.
        audios: `(N, S, 1)` float32 in [-1, 1] each.
        frame_rate: Frames per second of the videos.
        sample_rate: Sample rate of the sounds, in Hz.
    """

    images: Mapping[str, np.ndarray]
    videos: Mapping[str, np.ndarray] = _NONE
    audios: Mapping[str, np.ndarray] = _NONE
    frame_rate: float = 1.0
    sample_rate: int = 1
