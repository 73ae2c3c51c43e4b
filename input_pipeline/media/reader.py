"""Media files by time: what a file holds, and its picture and sound, all of it or a few seconds.

Time 0 is when the first frame appears, and `MediaInfo.duration` is when the last frame disappears.
In a file without picture, both refer to the sound. Everything is located by the timestamps in the
file, never by counting frames or samples, so variable frame rates, late sound and gaps come out
where a player shows them.
"""

import dataclasses
import os
import typing
from collections.abc import Callable, Iterable, Iterator

import av
import numpy as np

from input_pipeline.media import packets
from input_pipeline.media import picture as pictures
from input_pipeline.media import sound as sounds
from input_pipeline.media.containers import (
    CORRUPT,
    NO_PICTURE,
    NO_SOUND,
    REASONS,
    TRUNCATED,
    MediaError,
    ends_early,
    opened,
    streams,
)

__all__ = (
    "REASONS",
    "Clip",
    "MediaError",
    "MediaInfo",
    "Recording",
    "measure",
    "read_clip",
    "read_recording",
)

_PLACES = 4  # places of the video stream where `measure` decodes some frames
_PIXELS = 30_000_000  # pixels that `measure` decodes in all, some 300 frames of 340x256
_PACKETS = 12  # packets that `measure` decodes at each place, at least

_LONGEST = 12 * 3600.0  # seconds; a file that claims to be longer has damaged timestamps

_Encoded = typing.TypeVar("_Encoded")


@dataclasses.dataclass(frozen=True)
class Clip:
    """Picture and sound of the same stretch of time.

    Attributes:
        frames: (T, h, w, 3) uint8, RGB, upright.
        waveform: (S,) float32 in [-1, 1], mono. Zeros if the file has no sound.
        has_audio: Whether the file has sound.
        padded: Whether the file is shorter than the clip, so that the clip repeats it.
        has_video: Whether the file has a picture. Otherwise the frames are black.
    """

    frames: np.ndarray
    waveform: np.ndarray
    has_audio: bool
    padded: bool = False
    has_video: bool = True


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """What a usable file holds.

    Attributes:
        start: Time 0 on the container's clock, in seconds: when the first frame appears, or when
            the sound starts in a file without picture.
        duration: Seconds from time 0 to the end of the last frame, or to the end of the sound if
            there is no picture or only a still one.
        sound_start: Time 0 on the clock of the sound's timestamps, in seconds. Differs from `start`
            in AVI files only.
        sound_duration: Seconds of sound. 0 if there is no sound or it does not decode.
        has_picture: Whether the file has a picture.
    """

    start: float
    duration: float
    sound_start: float
    sound_duration: float
    has_picture: bool

    @property
    def has_audio(self) -> bool:
        """Whether the file has sound that decodes."""
        return self.sound_duration > 0


@dataclasses.dataclass(frozen=True)
class Recording(typing.Generic[_Encoded]):
    """A whole file, decoded.

    Attributes:
        info: What the file holds.
        frames: T frames, upright, each as returned by `encode`. Empty without picture.
        frame_times: (T,) float32 times when the frames appeared in the file, in seconds.
        waveform: (S,) float32 in [-1, 1], mono. Zeros if the file has no sound.
    """

    info: MediaInfo
    frames: list[_Encoded]
    frame_times: np.ndarray
    waveform: np.ndarray


def measure(path: str | os.PathLike) -> MediaInfo:
    """Checks whether a file is usable and measures it.

    It reads all packets, which gives the true duration, and decodes some frames at the start, near
    the end and in between. In a short and small file, it decodes most frames.

    Args:
        path: Path of the media file.

    Returns:
        What the file holds: picture, sound or both.

    Raises:
        MediaError: The file is not usable.
    """
    with opened(path) as container:
        picture, sound = streams(container)
        info, shown, heard = _measure(container, picture, sound, path)
        if shown:
            keyframes = np.unique(shown.keyframes or [info.start])
            places = np.unique(np.linspace(0, len(keyframes) - 1, _PLACES).round().astype(int))
            pixels = max(picture.width * picture.height, 1) * len(places)
            limit = max(_PIXELS // pixels, _PACKETS)
            for time in keyframes[places]:
                _check_picture(container, picture, time, limit, path)
        if heard and not _decodes(container, sound, heard.start):
            if not shown:
                raise MediaError(CORRUPT, path)
            info = dataclasses.replace(info, sound_duration=0.0)
    return info


def read_clip(
    path: str | os.PathLike,
    start: float,
    seconds: float,
    frame_rate: float,
    short_side: int,
    sample_rate: int,
    info: MediaInfo | None = None,
) -> Clip:
    """Decodes the picture and the sound of a stretch of time.

    Frame k is the one on screen at `start + k / frame_rate`, turned upright. Sound is mixed to
    mono, and is silence where the file has none. If the file is shorter than the clip, picture and
    sound start again from its beginning.

    Args:
        path: Path of a media file with a picture.
        start: Start of the clip in seconds. It is moved, if needed, so that the clip lies within
            the file.
        seconds: Length of the clip.
        frame_rate: Frames per second of the clip.
        short_side: Shorter side of the frames in pixels. The other side follows in proportion.
        sample_rate: Sample rate of the waveform in Hz.
        info: Result of `measure` for the file. By default the file is probed here.

    Returns:
        `round(seconds * frame_rate)` frames and `round(seconds * sample_rate)` samples.

    Raises:
        MediaError: The file has no picture or cannot be opened, or this part of it does not decode.
    """
    info = info or measure(path)
    start = min(max(start, 0.0), max(info.duration - seconds, 0.0))
    frame_times = start + np.arange(round(seconds * frame_rate)) / frame_rate
    sample_times = np.arange(round(seconds * sample_rate)) / sample_rate
    padded = info.duration < seconds
    if padded:
        frame_times %= info.duration
        sample_times %= info.duration
    with opened(path) as container:
        picture, sound = streams(container)
        if picture is None or not info.has_picture:
            raise MediaError(NO_PICTURE, path)
        frames = pictures.read(container, picture, info.start + frame_times, short_side)
        if sound and info.has_audio:
            length = round(min(seconds, info.duration) * sample_rate)
            waveform = sounds.read(container, sound, info.sound_start + start, length, sample_rate)
        else:
            waveform = np.zeros(round(seconds * sample_rate), np.float32)
    if padded and info.has_audio:
        indices = np.floor(sample_times * sample_rate + 1e-6).astype(int)
        waveform = waveform[np.minimum(indices, len(waveform) - 1)]
    return Clip(frames, waveform, info.has_audio, padded)


def read_recording(
    path: str | os.PathLike,
    *,
    frame_rate: float,
    short_side: int,
    sample_rate: int,
    encode: Callable[[np.ndarray], _Encoded] = np.asarray,
) -> Recording[_Encoded]:
    """Decodes a whole file, and so checks all of it. The frames are like those of `read_clip`.

    Frame k is the one on screen at `k / frame_rate`. There are `round(duration * frame_rate)`
    frames, at least one. Memory holds the encoded frames, and 64 kB of sound a second at 16 kHz.

    Args:
        path: Path of the media file.
        frame_rate: Frames per second to take.
        short_side: Shorter side of the frames in pixels. The other side follows in proportion.
        sample_rate: Sample rate of the waveform in Hz.
        encode: Function from a frame (h, w, 3) uint8 to what is kept of it. It is called once for a
            frame that is on screen at several of the times. By default frames are kept as they are,
            which takes 64 kB for 170 x 128 pixels.

    Returns:
        The frames and `round(duration * sample_rate)` samples.

    Raises:
        MediaError: The file is not usable.
    """
    with opened(path) as container:
        picture, sound = streams(container)
        info, shown, heard = _measure(container, picture, sound, path)
    length = round(info.duration * sample_rate)
    track = sounds.Track(info.sound_start, length, sample_rate)
    times = np.arange(max(1, round(info.duration * frame_rate))) / frame_rate
    frames, frame_times = [], []
    # `encode` is called here and not in the generator: its errors are not the file's fault.
    for frame, time, count in _decode_all(path, info, shown, heard, times, short_side, track):
        frames += [encode(frame)] * count
        frame_times += [time] * count
    waveform = track.waveform()
    if track.end == -np.inf:  # there is no sound, or none of it decodes
        if not shown:
            raise MediaError(CORRUPT, path)
        info = dataclasses.replace(info, sound_duration=0.0)
    elif not shown:
        # Only now is it known how much the decoder drops at the end.
        duration = min(info.duration, track.end - info.sound_start)
        info = dataclasses.replace(info, duration=duration, sound_duration=duration)
        waveform = waveform[: round(duration * sample_rate)]
    return Recording(info, frames, np.array(frame_times, np.float32), waveform)


def _decode_all(
    path: str | os.PathLike,
    info: MediaInfo,
    shown: packets.Span | None,
    heard: packets.Span | None,
    times: np.ndarray,
    short_side: int,
    track: sounds.Track,
) -> Iterator[tuple[np.ndarray, float, int]]:
    """Decodes a file in one pass, from beginning to end.

    Args:
        path: Path of the file.
        info: What the file holds.
        shown: Presentation times of the picture. None without picture.
        heard: Presentation times of the sound. None without sound.
        times: (T,) float64 ascending times of the frames to give, in seconds.
        short_side: Shorter side of the frames in pixels.
        track: Receives all packets of the sound.

    Yields:
        Each frame (h, w, 3) uint8 that is on screen at one or more of `times`, when it appeared in
        the file, and how many of `times` it covers.

    Raises:
        MediaError: Too much of the picture does not decode.
    """
    # Opened again, as some containers cannot seek back to their very beginning.
    with opened(path) as container:
        picture, sound = streams(container)
        used = [stream for stream, span in ((picture, shown), (sound, heard)) if span]

        def picture_packets() -> Iterator[av.Packet]:
            """Yields the packets of the picture, and hands those of the sound to the track."""
            for packet in packets.demux(container, *used):
                if heard and packet.stream_index == sound.index:
                    track.add(packet)
                else:
                    yield packet
            if heard:
                track.add(packets.flush(sound))
            if shown:
                yield packets.flush(picture)

        if not shown:
            for _ in picture_packets():
                pass
            return
        times = info.start + times
        wanted = pictures.on_screen(picture, shown.ticks, times)
        decoded = pictures.decode(container, picture, picture_packets(), len(shown.ticks), wanted)
        checked = _checked(picture, decoded, min(shown.keyframes, default=info.start))
        convert = pictures.Converter(picture, short_side)
        for frame, count in pictures.shown(picture, checked, times):
            time = packets.ticks(frame) * float(picture.time_base) - info.start
            yield convert.upright(convert(frame)), time, count


def _measure(
    container: av.container.InputContainer,
    picture: av.VideoStream | None,
    sound: av.AudioStream | None,
    path: str | os.PathLike,
) -> tuple[MediaInfo, packets.Span | None, packets.Span | None]:
    """Reads all packets and measures what the file seems to hold.

    Returns:
        What the file holds, and the presentation times of its picture and of its sound, each None
        if there is none.

    Raises:
        MediaError: There is neither picture nor sound, the file is truncated, or its times make no
            sense.
    """
    spans = {stream.index: packets.Span(stream) for stream in (picture, sound) if stream}
    others_end = -np.inf
    for packet in packets.demux(container, *container.streams) if spans else ():
        span = spans.get(packet.stream_index)
        if span is None:  # another stream, such as subtitles, which may last longer
            others_end = max(others_end, packets.end(packet))
            continue
        span.add(packet)
        # Stop here: a small header may claim any length.
        if span.goes_back or span.end - span.start > _LONGEST:
            raise MediaError(CORRUPT, path)
    shown, heard = (
        spans[stream.index] if stream and spans[stream.index].ticks else None
        for stream in (picture, sound)
    )
    if heard and heard.end <= heard.start:
        heard = None
    if not shown and not heard:
        raise MediaError(NO_SOUND if sound and not picture else NO_PICTURE, path)
    start, end = (shown or heard).start, (shown or heard).end
    latest = max(span.end for span in (shown, heard) if span)
    if ends_early(container, picture if shown else sound, end, max(latest, others_end)):
        raise MediaError(TRUNCATED, path)
    sound_start = start
    if shown and heard and container.format.name == "avi":
        start, sound_start = packets.avi_starts(sound, shown)
    if shown and len(shown.ticks) == 1:
        end = max(end, latest)
    if not 0 < end - start < _LONGEST:
        raise MediaError(CORRUPT, path)
    sound_duration = heard.end - heard.start if heard else 0.0
    return MediaInfo(start, end - start, sound_start, sound_duration, bool(shown)), shown, heard


def _checked(
    picture: av.VideoStream, frames: Iterable[av.VideoFrame], begin: float
) -> Iterator[av.VideoFrame]:
    """Yields all frames of a picture, and raises at the end if many are damaged.

    Frames before `begin`, when the first keyframe appears, are not counted as damaged: they may
    refer to frames that the file lacks.

    Raises:
        ValueError: Too many frames are damaged.
    """
    count = damaged = 0
    begin = (begin - packets.ROUNDING) / picture.time_base
    for frame in frames:
        count += 1
        damaged += frame.is_corrupt and packets.ticks(frame) >= begin
        yield frame
    if damaged > pictures.LARGEST_FAILURE * count:
        raise ValueError("too many frames are damaged")


def _check_picture(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    time: float,
    limit: int,
    path: str | os.PathLike,
) -> None:
    """Decodes some packets from a keyframe on.

    Raises:
        MediaError: Too many of them are damaged.
    """
    needed = packets.needed(container, picture, time, np.inf, limit)
    wanted = set(map(packets.ticks, needed))
    frames = list(pictures.decode(container, picture, needed, len(needed), wanted))
    # Frames before the keyframe may refer to frames that are missing. Players skip them.
    begin = (time - packets.ROUNDING) / picture.time_base
    damaged = sum(frame.is_corrupt and packets.ticks(frame) >= begin for frame in frames)
    if not frames or damaged > pictures.LARGEST_FAILURE * len(needed):
        raise MediaError(CORRUPT, path)


def _decodes(container: av.container.InputContainer, sound: av.AudioStream, time: float) -> bool:
    """Returns whether any of the first packets from a time on decodes to sound."""
    track = sounds.Track(time, 0, sound.codec_context.sample_rate)
    for packet in packets.needed(container, sound, time, np.inf, limit=_PACKETS):
        track.add(packet)
    track.waveform()
    return track.end > -np.inf
