"""Features in time: a vector of a media file every so many seconds, from its beginning to its end.

A view begins every `stride` seconds. The time of a view is the middle of what it shows.
"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xkd_jax.encoders import arguments, preprocessing
from xkd_jax.encoders.pretrained_encoder import PretrainedEncoder

if TYPE_CHECKING:  # needs PyAV
    from input_pipeline.media import reader

STRIDES = arguments.SECONDS


class Dense(NamedTuple):
    """Features of a media file in time.

    Attributes:
        features: (T, L, D) float32, for each of L layers the mean of the patch tokens.
        times: (T,) float64 seconds from the file's beginning, the middle of each view.
    """

    features: np.ndarray
    times: np.ndarray


def features(
    encoder: PretrainedEncoder,
    path: str | os.PathLike,
    stride: float,
    layers: Sequence[int | str] = ("last",),
    batch_size: int = 16,
) -> Dense:
    """Encodes a media file in time. Memory holds the views of one batch.

    Args:
        encoder: The encoder.
        path: Path of the file.
        stride: Seconds from the beginning of a view to that of the next one.
        layers: As for `PretrainedEncoder.encode_views`.
        batch_size: Number of views that are decoded together.

    Raises:
        ValueError: An argument is not allowed.
        MediaError: The file is not usable (`media.reader.MediaError`, a ValueError).
    """
    # Imported here because it needs PyAV.
    from input_pipeline.media import reader

    path = arguments.location("path", path)
    stride = arguments.number("stride", stride, STRIDES, "seconds")
    info = reader.measure(path)
    starts = starts_of_views(encoder, info, stride)
    parts = (views(encoder, path, info, part) for part in batches(starts, batch_size))
    rows = encoder.encode_views((view for part in parts for view in part), layers=layers)
    return Dense(rows, middles(encoder, info, starts))


def starts_of_views(
    encoder: PretrainedEncoder, info: "reader.MediaInfo", stride: float
) -> np.ndarray:
    """Returns when the views of a media file begin, (T,) float64 seconds."""
    return preprocessing.starts(info.duration, encoder.sizes.seconds, stride)


def middles(encoder: PretrainedEncoder, info: "reader.MediaInfo", starts: np.ndarray) -> np.ndarray:
    """Returns the middle of what each view shows, (T,) float64 seconds.

    Args:
        encoder: The encoder.
        info: What the media file holds.
        starts: (T,) seconds, when the views begin.
    """
    return starts + min(encoder.sizes.seconds, info.duration) / 2


def batches(starts: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields the beginnings of views in parts of `size`, the last of which may be smaller."""
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def views(
    encoder: PretrainedEncoder,
    path: str | os.PathLike,
    info: "reader.MediaInfo",
    starts: Sequence[float],
) -> list[np.ndarray]:
    """Makes the views of a media file that begin at given times, decoding them together.

    Args:
        encoder: The encoder.
        path: Path of the file.
        info: What the file holds, from `media.reader.measure`.
        starts: (T,) seconds from the file's beginning.

    Raises:
        MediaError: The file lacks the modality, or does not decode there.
    """
    make = {"video": preprocessing.video_views_from, "audio": preprocessing.audio_views_from}
    return make[encoder.modality](path, info, encoder.view, starts)
