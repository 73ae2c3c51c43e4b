# Copyright 2026 The xkd_jax authors.
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except
# in compliance with the License. You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software distributed under the License
# is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express
# or implied. See the License for the specific language governing permissions and limitations under
# the License.
"""Preprocessing of raw frames and waveforms for the XKD encoders in modeling_xkd.py.

It is the preprocessing of `xkd_jax.load_encoder`: of a recording, the central clip is taken; one
that is shorter than a clip repeats from its beginning. Video becomes the frames on screen at the
encoder's rate, cut to the central square, resized and normalized. Audio becomes a normalized
log-mel.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from transformers import BatchFeature, ProcessorMixin

# A time at most this many frames before a frame counts as in it: quotients of rates are not exact.
_ROUNDING = 1e-6


class XKDProcessor(ProcessorMixin):
    """Makes the inputs of an `XKDModel` from raw recordings.

    Args:
        views: By modality, the view of the encoder: for video `frame_rate`, `frames`, `size`,
            `mean` and `std`; for audio `seconds`, `frames`, `sample_rate`, `mel_bands`, `window`,
            `hop`, `max_frequency`, `log_offset`, `mean` and `std`.
        **others: Fields of every processor.
    """

    # No tokenizer or other processor inside; transformers 4 needs both lines.
    attributes: ClassVar = []
    audio_tokenizer = None

    def __init__(self, views: dict[str, dict[str, Any]] | None = None, **others: Any):
        self.views = views or {}
        self.chat_template = None

    @property
    def model_input_names(self) -> list[str]:
        """Names of the arrays that a call returns."""
        names = {"video": "pixel_values_videos", "audio": "input_features"}
        return [names[m] for m in self.views]

    def __call__(
        self,
        videos: Any = None,
        audio: Any = None,
        fps: float | Sequence[float] | None = None,
        sampling_rate: float | Sequence[float] | None = None,
        *,
        frame_size: int | None = None,
        seconds: float | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Prepares recordings.

        Args:
            videos: Frames (T, H, W, 3) uint8 RGB of any size, an array (B, T, H, W, 3), or a list
                of recordings of any lengths and sizes.
            audio: Mono waveform (S,) of floats in [-1, 1], or a list of them.
            fps: Frames per second, one number or one for each recording; None: the frames are
                sampled at the encoder's rate already.
            sampling_rate: Samples per second of the waveforms, one number or one for each.
            frame_size: Height and width of the view in pixels, a multiple of the patch's; None: as
                in training.
            seconds: Length of the view, a multiple of the patch's; None: as in training.
            return_tensors: "pt" for PyTorch's tensors, "np" for NumPy's arrays.

        Returns:
            `pixel_values_videos` (B, T, 3, H, W) float32 if there are videos, and `input_features`
            (B, mel bands, frames) float32 if there is audio.

        Raises:
            ValueError: An argument has a wrong shape, type or value.
        """
        data = {}
        if videos is not None:
            view = self._view("video", frame_size, seconds)
            clips = _listed(videos, 4, "videos", "(T, H, W, 3) uint8 frames")
            rates = _rates("fps", view["frame_rate"] if fps is None else fps, len(clips))
            data["pixel_values_videos"] = np.stack(
                [normalized(sample(*pair, view), view) for pair in zip(clips, rates, strict=True)]
            )
        if audio is not None:
            view = self._view("audio", None, seconds)
            clips = _listed(audio, 1, "audio", "(S,) mono waveforms of floats in [-1, 1]")
            rates = _rates("sampling_rate", sampling_rate, len(clips))
            data["input_features"] = np.stack(
                [log_mel(clip(*pair, view), view) for pair in zip(clips, rates, strict=True)]
            )
        if not data:
            raise ValueError("nothing is given; allowed: videos, audio")
        return BatchFeature(data, tensor_type=return_tensors)

    def _view(self, modality: str, size: int | None, seconds: float | None) -> dict[str, Any]:
        """Returns the view of an encoder, at other sizes if they are given."""
        if modality not in self.views:
            raise ValueError(f"there is no encoder of {modality}; allowed: {', '.join(self.views)}")
        view = dict(self.views[modality])
        if size is not None:
            view["size"] = size
        if seconds is not None:
            by_rate = view.get("frame_rate") or view["frames"] / view["seconds"]
            view["frames"], view["seconds"] = round(seconds * by_rate), seconds
        return view


def _listed(recordings: Any, axes: int, name: str, allowed: str) -> list[np.ndarray]:
    """Returns checked recordings as a list."""
    if not isinstance(recordings, list | tuple):
        array = np.asarray(recordings)
        # Two axes of a waveform could be recordings or channels.
        recordings = list(array) if axes == 4 and array.ndim == 5 else [array]
    recordings = [np.asarray(recording) for recording in recordings]
    for place, array in enumerate(recordings):
        right = array.dtype == np.uint8 and array.shape[-1:] == (3,)
        if axes == 1:
            right = np.issubdtype(array.dtype, np.floating) and bool(np.isfinite(array).all())
        if array.ndim != axes or not array.size or not right:
            raise ValueError(
                f"{name}[{place}] is {array.dtype}{list(array.shape)}; allowed: {allowed}"
            )
    if not recordings:
        raise ValueError(f"{name} is an empty list; allowed: {allowed}")
    return recordings


def _rates(name: str, rates: Any, count: int) -> list[float]:
    """Returns one checked rate for each recording."""
    rates = list(rates) if isinstance(rates, list | tuple) else [rates] * count
    if len(rates) != count or not all(
        isinstance(rate, numbers.Real) and 0 < rate < math.inf for rate in rates
    ):
        raise ValueError(
            f"{name} is {rates}; allowed: a number above 0, or one for each of {count} recordings"
        )
    return rates


def sample(frames: np.ndarray, fps: float, view: dict[str, Any]) -> np.ndarray:
    """Returns the frames of the central clip at the encoder's rate, as squares of its size."""
    duration, seconds = len(frames) / fps, view["frames"] / view["frame_rate"]
    start = 0.5 * max(0.0, duration - seconds)
    times = (start + np.arange(view["frames"]) * (seconds / view["frames"])) % duration
    places = np.minimum(np.floor(times * fps + _ROUNDING).astype(int), len(frames) - 1)
    shown, order = np.unique(places, return_inverse=True)
    return np.stack([central_square(frames[place], view["size"]) for place in shown])[order]


def central_square(frame: np.ndarray, size: int) -> np.ndarray:
    """Cuts out the largest central square of a frame and resizes it, with antialiasing."""
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    if side == size:
        return square
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR))


def normalized(frames: np.ndarray, view: dict[str, Any]) -> np.ndarray:
    """Normalizes frames (T, H, W, 3) uint8 and moves the channels to the front: (T, 3, H, W)."""
    mean, std = np.float32(view["mean"]), np.float32(view["std"])
    return ((frames.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)


def clip(waveform: np.ndarray, sampling_rate: float, view: dict[str, Any]) -> np.ndarray:
    """Returns the central clip of a waveform at the encoder's sample rate."""
    waveform, rate = waveform.astype(np.float32), view["sample_rate"]
    if sampling_rate != rate:
        try:
            import soxr
        except ImportError:
            raise ImportError(
                f"sampling_rate is {sampling_rate:g}, and resampling to {rate} needs soxr: "
                "pip install soxr"
            ) from None
        count = math.ceil(len(waveform) * (rate / sampling_rate))
        waveform = soxr.resample(waveform, sampling_rate, rate, quality="HQ")
        waveform = np.pad(waveform, (0, max(0, count - len(waveform))))[:count]
    samples = round(view["seconds"] * rate)
    start = round(0.5 * max(0, len(waveform) - samples))
    return np.resize(waveform[start:], samples)


def log_mel(waveform: np.ndarray, view: dict[str, Any]) -> np.ndarray:
    """Computes a normalized log-mel (mel_bands, frames) float32 of a waveform.

    Hann windows are centered on every `hop`-th sample, with zeros beyond both ends.
    """
    window, hop, frames = view["window"], view["hop"], view["frames"]
    padded = np.pad(waveform, (window // 2, window // 2 + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:frames]
    if len(windows) < frames:
        raise ValueError(
            f"{len(waveform)} samples make {len(windows)} log-mel frames, not {frames}"
        )
    spectrum = np.fft.rfft(windows * np.hanning(window + 1)[:-1])
    filters = mel_filters(view["sample_rate"], window, view["mel_bands"], view["max_frequency"])
    mel = (np.square(np.abs(spectrum)) @ filters).T
    log = np.log(mel + view["log_offset"])
    return ((log - view["mean"]) / view["std"]).astype(np.float32)


def mel_filters(sample_rate: int, window: int, bands: int, max_frequency: float) -> np.ndarray:
    """Makes Slaney's mel filters, (window // 2 + 1, bands).

    They are triangles, evenly spaced in mels, each of area 1 over frequency. A mel is 66.7 Hz up to
    1 kHz; above it, 27 mels are a factor of 6.4.
    """
    top = 3 * max_frequency / 200
    if max_frequency > 1000:
        top = 15 + 27 * math.log(max_frequency / 1000) / math.log(6.4)
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    frequency = np.fft.rfftfreq(window, 1 / sample_rate)[:, None]
    rising, falling = (frequency - low) / (center - low), (high - frequency) / (high - center)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
