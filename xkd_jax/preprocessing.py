"""From raw frames, waveforms and media files to what an encoder sees, without TensorFlow.

The same as evaluation makes of prepared data: the frames on screen at the encoder's rate, their
central square at its size; sound at its rate as a normalized log-mel. A clip shorter than the
encoder's repeats from its beginning, as in training. Of a longer one, `position` says which part:
0 is the first that fits, 1 the last.
"""

import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

# A time this much before a frame's, in frames, is that frame's: quotients of rates are not exact.
_ROUNDING = 1e-6


def resized(
    view: Mapping[str, Any],
    patch: Sequence[int],
    frame_size: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """The preprocessing of an encoder for other sizes than those of its training.

    Args:
        view: "preprocessing" of an encoder.
        patch: Its patch: (frames, pixels, pixels), or (mel bands, log-mel frames).
        frame_size: Height and width of the frames; None: as they are in `view`.
        seconds: Length of the clips; None likewise.

    Raises:
        ValueError: The patch does not divide that.
    """
    view = dict(view)
    if frame_size is not None:
        _check_multiple("frame_size", frame_size, frame_size, math.lcm(*patch[1:]), "pixels")
        view["size"] = frame_size
    if seconds is None:
        return view
    if "frame_rate" in view:
        frames = round(seconds * view["frame_rate"])
        _check_multiple("seconds", seconds, frames, patch[0], "frames")
    else:
        frames = round(view["frames"] * seconds / view["seconds"])
        _check_multiple("seconds", seconds, frames, patch[1], "log-mel frames")
        view["seconds"] = seconds
    view["frames"] = frames
    return view


def _check_multiple(name: str, value: float, count: int, patch: int, unit: str) -> None:
    if count < patch or count % patch:
        raise ValueError(
            f"{name} is {value}, which makes {count} {unit}; allowed: a multiple of the patch's "
            f"{patch}"
        )


def positions(windows: int) -> np.ndarray:
    """Places of windows in a clip, evenly from the first to the last; a single one in the middle.

    Args:
        windows: How many.

    Returns:
        (windows,) float64 in [0, 1].
    """
    return np.linspace(0.0, 1.0, windows) if windows > 1 else np.array([0.5])


def times(duration: float, seconds: float, count: int, position: float) -> np.ndarray:
    """When to look, within a clip.

    Args:
        duration: Of the clip, in seconds.
        seconds: Of the window.
        count: Of the times, evenly over the window.
        position: Of the window in the clip, in [0, 1].

    Returns:
        (count,) float64 seconds into the clip; they start over at its end.
    """
    start = position * max(0.0, duration - seconds)
    return (start + np.arange(count) * (seconds / count)) % duration


def video_views(
    frames: np.ndarray, frame_rate: float, video: Mapping[str, Any], places: Sequence[float]
) -> list[np.ndarray]:
    """Makes views of a clip's frames.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        frame_rate: Of them, per second.
        video: "preprocessing" of an encoder of pictures: frames, frame_rate, size.
        places: Of the views in the clip, each in [0, 1].

    Returns:
        A (frames, size, size, 3) uint8 for each place.
    """
    seconds = video["frames"] / video["frame_rate"]
    views = []
    for place in places:
        when = times(len(frames) / frame_rate, seconds, video["frames"], place)
        on_screen = np.floor(when * frame_rate + _ROUNDING).astype(int)
        shown, order = np.unique(np.minimum(on_screen, len(frames) - 1), return_inverse=True)
        squares = np.stack([central_square(frames[n], video["size"]) for n in shown])
        views.append(squares[order])
    return views


def central_square(frame: np.ndarray, size: int) -> np.ndarray:
    """Cuts out the largest central square of a frame and resizes it, smoothed where it shrinks.

    Args:
        frame: (H, W, 3) uint8.
        size: Of the result, in pixels.

    Returns:
        (size, size, 3) uint8.
    """
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    if side == size:
        return square
    resized = Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def audio_views(
    waveform: np.ndarray, sample_rate: float, audio: Mapping[str, Any], places: Sequence[float]
) -> list[np.ndarray]:
    """Makes views of a clip's sound.

    Args:
        waveform: (S,) float in [-1, 1], mono.
        sample_rate: Of it, in Hz.
        audio: "preprocessing" of an encoder of sounds: seconds, and what `log_mel` needs.
        places: Of the views in the clip, each in [0, 1].

    Returns:
        A (mel_bands, frames) float32 normalized log-mel for each place.
    """
    waveform = np.asarray(waveform, np.float32)
    rate = audio["sample_rate"]
    if sample_rate != rate:
        import librosa

        waveform = librosa.resample(waveform, orig_sr=sample_rate, target_sr=rate)
    samples = round(audio["seconds"] * rate)
    room = max(0, len(waveform) - samples)
    starts = [round(place * room) for place in places]
    return [log_mel(np.resize(waveform[start:], samples), audio) for start in starts]


def log_mel(waveform: np.ndarray, audio: Mapping[str, Any]) -> np.ndarray:
    """Computes the normalized log-mel of training (docs/method.md, section 1).

    Args:
        waveform: (S,) float at the encoder's rate.
        audio: "preprocessing" of an encoder of sounds: frames, sample_rate, mel_bands, window, hop,
            max_frequency, log_offset, mean and std.

    Returns:
        (mel_bands, frames) float32.
    """
    # Taken only here: it takes seconds to import.
    import librosa

    spectrum = librosa.stft(
        np.asarray(waveform, np.float32),
        n_fft=audio["window"],
        hop_length=audio["hop"],
        pad_mode="constant",
    )
    power = np.square(np.abs(spectrum[:, : audio["frames"]]))
    mel = _mel_filters(
        audio["sample_rate"], audio["window"], audio["mel_bands"], audio["max_frequency"]
    )
    return (np.log(mel @ power + np.float32(audio["log_offset"])) - audio["mean"]) / audio["std"]


@functools.cache
def _mel_filters(sample_rate: int, window: int, bands: int, max_frequency: float) -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands, fmax=max_frequency)


def video_views_of_file(
    path: str | os.PathLike, video: Mapping[str, Any], places: Sequence[float]
) -> list[np.ndarray]:
    """Makes views of a media file's picture, decoding no more than they need.

    Args:
        path: The file.
        video: As for `video_views`.
        places: Of the views in the file, each in [0, 1].

    Returns:
        A (frames, size, size, 3) uint8 for each place.

    Raises:
        MediaError: The file is not usable or has no picture; of `input_pipeline.media`.
    """
    # Needs PyAV, which those who bring arrays can do without.
    from input_pipeline import containers, media, picture

    info = media.probe(path)
    if not info.has_picture:
        raise media.MediaError(containers.NO_PICTURE, path)
    seconds = video["frames"] / video["frame_rate"]
    views = []
    for place in places:
        when = info.start + times(info.duration, seconds, video["frames"], place)
        with containers.opened(path) as container:
            stream, _ = containers.streams(container)
            frames = picture.read(container, stream, when, video["size"])
        views.append(np.stack([central_square(frame, video["size"]) for frame in frames]))
    return views


def audio_views_of_file(
    path: str | os.PathLike, audio: Mapping[str, Any], places: Sequence[float]
) -> list[np.ndarray]:
    """Makes views of a media file's sound, decoding no more than they need.

    Args:
        path: The file, with or without a picture.
        audio: As for `audio_views`.
        places: Of the views in the file, each in [0, 1].

    Returns:
        A (mel_bands, frames) float32 for each place.

    Raises:
        MediaError: The file is not usable or has no sound; of `input_pipeline.media`.
    """
    from input_pipeline import containers, media, sound

    info = media.probe(path)
    if not info.has_audio:
        raise media.MediaError(containers.NO_SOUND, path)
    rate, seconds = audio["sample_rate"], audio["seconds"]
    views = []
    for place in places:
        start = place * max(0.0, info.duration - seconds)
        with containers.opened(path) as container:
            _, stream = containers.streams(container)
            length = max(1, round(min(seconds, info.duration) * rate))
            waveform = sound.read(container, stream, info.sound_start + start, length, rate)
        views.append(log_mel(np.resize(waveform, round(seconds * rate)), audio))
    return views
