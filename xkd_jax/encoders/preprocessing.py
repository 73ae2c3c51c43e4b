"""Makes an encoder's views from raw frames, waveforms and media files, without TensorFlow.

The views equal those that evaluation makes from prepared data. Of video, they are the frames on
screen at the encoder's frame rate, cut to the central square and resized. Of audio, they are a
normalized log-mel at the encoder's sample rate. A recording that is shorter than a view repeats
from its beginning, as in training. In a longer one, a view has a position: 0 is at the beginning, 1
at the end.
"""

import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # needs PyAV
    from input_pipeline.media import reader

# Tolerance in frames: a time that is at most this much before a frame counts as in the frame,
# because quotients of rates are not exact.
_ROUNDING = 1e-6


def view_shape(view: Mapping[str, Any], modality: str) -> tuple[int, ...]:
    """Returns the shape of a view: (frames, height, width, 3), or (mel bands, frames).

    Args:
        view: Preprocessing of the encoder, from its description.
        modality: "video" or "audio".
    """
    if modality == "video":
        return view["frames"], view["size"], view["size"], 3
    return view["mel_bands"], view["frames"]


def resized(
    view: Mapping[str, Any],
    patch: Sequence[int],
    frame_size: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Changes the sizes of an encoder's preprocessing.

    Args:
        view: Preprocessing of the encoder, from its description.
        patch: Size of a patch: (frames, pixels, pixels), or (mel bands, log-mel frames).
        frame_size: New height and width of the frames in pixels; None keeps those of `view`.
        seconds: New length of a view; None keeps that of `view`.

    Returns:
        The preprocessing at the new sizes.

    Raises:
        ValueError: A new size is not a multiple of the patch's.
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
    """Returns positions of views in a recording: evenly from 0 to 1, or 0.5 for a single view.

    Args:
        windows: Number of views.

    Returns:
        (windows,) float64 in [0, 1].
    """
    return np.linspace(0.0, 1.0, windows) if windows > 1 else np.array([0.5])


def times(duration: float, seconds: float, count: int, position: float) -> np.ndarray:
    """Returns the times of a view's frames in a recording.

    Args:
        duration: Length of the recording in seconds.
        seconds: Length of the view.
        count: Number of times, evenly spaced in the view.
        position: Position of the view in the recording, in [0, 1].

    Returns:
        (count,) float64 seconds from the beginning of the recording, which repeats at its end.
    """
    start = position * max(0.0, duration - seconds)
    return (start + np.arange(count) * (seconds / count)) % duration


def video_views(
    frames: np.ndarray, frame_rate: float, video: Mapping[str, Any], places: Sequence[float]
) -> list[np.ndarray]:
    """Makes views of a recording's frames.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        frame_rate: Frames per second.
        video: Preprocessing of a video encoder: frames, frame_rate and size.
        places: Positions of the views in the recording, each in [0, 1].

    Returns:
        The views, (frames, size, size, 3) uint8, one for each position.
    """
    seconds = video["frames"] / video["frame_rate"]
    views = []
    for place in places:
        frame_times = times(len(frames) / frame_rate, seconds, video["frames"], place)
        on_screen = np.floor(frame_times * frame_rate + _ROUNDING).astype(int)
        shown, order = np.unique(np.minimum(on_screen, len(frames) - 1), return_inverse=True)
        squares = np.stack([central_square(frames[n], video["size"]) for n in shown])
        views.append(squares[order])
    return views


def central_square(frame: np.ndarray, size: int) -> np.ndarray:
    """Cuts out the largest central square of a frame and resizes it, with antialiasing.

    Args:
        frame: (H, W, 3) uint8.
        size: Height and width of the result in pixels.

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
    """Makes views of a recording's waveform.

    Args:
        waveform: (S,) float in [-1, 1], mono.
        sample_rate: Sample rate in Hz.
        audio: Preprocessing of an audio encoder: seconds, and the fields that `log_mel` reads.
        places: Positions of the views in the recording, each in [0, 1].

    Returns:
        The views, (mel_bands, frames) float32 normalized log-mels, one for each position.
    """
    waveform = np.asarray(waveform, np.float32)
    rate = audio["sample_rate"]
    if sample_rate != rate:
        import soxr

        # One sample more or less would move the views, so lengths are rounded up as librosa does.
        count = math.ceil(len(waveform) * (rate / sample_rate))
        waveform = soxr.resample(waveform, sample_rate, rate, quality="HQ")
        waveform = np.pad(waveform, (0, max(0, count - len(waveform))))[:count]
    samples = round(audio["seconds"] * rate)
    room = max(0, len(waveform) - samples)
    starts = [round(place * room) for place in places]
    return [log_mel(np.resize(waveform[start:], samples), audio) for start in starts]


def log_mel(waveform: np.ndarray, audio: Mapping[str, Any]) -> np.ndarray:
    """Computes the normalized log-mel of training (docs/method.md, section 1).

    Args:
        waveform: (S,) float at the encoder's sample rate.
        audio: Preprocessing of an audio encoder: frames, sample_rate, mel_bands, window, hop,
            max_frequency, log_offset, mean and std.

    Returns:
        (mel_bands, frames) float32.
    """
    # librosa.stft would compile its helpers for some 15 s where it runs first.
    from scipy import fft, signal

    size, hop = audio["window"], audio["hop"]
    padded = np.pad(np.asarray(waveform, np.float32), size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][: audio["frames"]]
    spectrum = fft.rfft(windows * np.float32(signal.get_window("hann", size))).T
    power = np.square(np.abs(spectrum))
    mel = mel_filters(
        audio["sample_rate"], audio["window"], audio["mel_bands"], audio["max_frequency"]
    )
    return (np.log(mel @ power + np.float32(audio["log_offset"])) - audio["mean"]) / audio["std"]


@functools.cache
def mel_filters(sample_rate: int, window: int, bands: int, max_frequency: float) -> np.ndarray:
    """Makes Slaney's mel filter bank, (bands, window // 2 + 1) float32."""
    import librosa  # imported here because it takes a second

    return librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands, fmax=max_frequency)


def starts(duration: float, seconds: float, stride: float) -> np.ndarray:
    """Returns when views begin that follow each other from a recording's beginning to its end.

    Args:
        duration: Length of the recording in seconds.
        seconds: Length of a view.
        stride: Seconds from one view to the next.

    Returns:
        (T,) float64 seconds; at least one. No view reaches beyond the end, unless the recording is
        shorter than one.
    """
    room = max(0.0, duration - seconds)
    return stride * np.arange(int(room / stride + _ROUNDING) + 1)


def video_views_of_file(
    path: str | os.PathLike, video: Mapping[str, Any], places: Sequence[float]
) -> list[np.ndarray]:
    """Makes views of a media file's video, and decodes no more than they need.

    Args:
        path: Path of the file.
        video: As for `video_views`.
        places: Positions of the views in the file, each in [0, 1].

    Returns:
        The views, (frames, size, size, 3) uint8, one for each position.

    Raises:
        MediaError: The file is not usable or has no video (`media.reader.MediaError`).
    """
    # Imported here because it needs PyAV, which encoders of arrays do not.
    from input_pipeline.media import reader

    info = reader.measure(path)
    room = max(0.0, info.duration - video["frames"] / video["frame_rate"])
    return [
        view for place in places for view in video_views_from(path, info, video, [place * room])
    ]


def video_views_from(
    path: str | os.PathLike,
    info: "reader.MediaInfo",
    video: Mapping[str, Any],
    starts: Sequence[float],
) -> list[np.ndarray]:
    """Makes views of a media file's video that begin at given times, decoding these together.

    Args:
        path: Path of the file.
        info: What the file holds, from `media.reader.measure`.
        video: As for `video_views`.
        starts: Seconds from the beginning of the file.

    Returns:
        The views, as from `video_views_of_file`.

    Raises:
        MediaError: The file has no video, or this part of it does not decode.
    """
    from input_pipeline.media import containers, picture, reader

    if not info.has_picture:
        raise reader.MediaError(containers.NO_PICTURE, path)
    count, seconds = video["frames"], video["frames"] / video["frame_rate"]
    in_view = np.arange(count) * (seconds / count)
    frame_times = (np.asarray(starts)[:, None] + in_view) % info.duration
    frame_times, order = np.unique(frame_times, return_inverse=True)
    with containers.opened(path) as container:
        stream, _ = containers.streams(container)
        frames = picture.read(container, stream, info.start + frame_times, video["size"])
    squares = np.stack([central_square(frame, video["size"]) for frame in frames])
    return [squares[places] for places in order.reshape(-1, count)]


def audio_views_of_file(
    path: str | os.PathLike, audio: Mapping[str, Any], places: Sequence[float]
) -> list[np.ndarray]:
    """Makes views of a media file's audio, and decodes no more than they need.

    Args:
        path: Path of the file, with or without video.
        audio: As for `audio_views`.
        places: Positions of the views in the file, each in [0, 1].

    Returns:
        The views, (mel_bands, frames) float32 normalized log-mels, one for each position.

    Raises:
        MediaError: The file is not usable or has no audio (`media.reader.MediaError`).
    """
    from input_pipeline.media import reader

    info = reader.measure(path)
    room = max(0.0, info.duration - audio["seconds"])
    return audio_views_from(path, info, audio, [place * room for place in places])


def audio_views_from(
    path: str | os.PathLike,
    info: "reader.MediaInfo",
    audio: Mapping[str, Any],
    starts: Sequence[float],
) -> list[np.ndarray]:
    """Makes views of a media file's audio that begin at given times.

    Args:
        path: Path of the file, with or without video.
        info: What the file holds, from `media.reader.measure`.
        audio: As for `audio_views`.
        starts: Seconds from the beginning of the file.

    Returns:
        The views, as from `audio_views_of_file`.

    Raises:
        MediaError: The file has no audio, or cannot be opened.
    """
    from input_pipeline.media import containers, reader, sound

    if not info.has_audio:
        raise reader.MediaError(containers.NO_SOUND, path)
    rate, seconds = audio["sample_rate"], audio["seconds"]
    length = max(1, round(min(seconds, info.duration) * rate))
    with containers.opened(path) as container:
        # Of such a file, FFmpeg reads all that comes before the first place that it is asked for.
        # Of others, timestamps may depend on what was read before, by less than a millisecond.
        read_together = container.format.name in containers.UNPACKETED
    views = []
    for group in [starts] if read_together else [[start] for start in starts]:
        with containers.opened(path) as container:
            _, stream = containers.streams(container)
            for start in group:
                begin = info.sound_start + start
                waveform = sound.read(container, stream, begin, length, rate)
                views.append(log_mel(np.resize(waveform, round(seconds * rate)), audio))
    return views
