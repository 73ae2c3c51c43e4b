"""Media files by time: what a file holds, and its picture and sound, all or any few seconds of it.

Time is that of the picture: 0 is when its first frame appears, and `MediaInfo.duration` is when its
last one goes. Of a file without picture, it is that of the sound. Everything is found by the files'
own timestamps, never by counting frames or samples, so that variable frame rates, late sound and
gaps come out where a player shows them.
"""

import dataclasses
import os
import typing
from collections.abc import Callable, Iterable, Iterator

import av
import numpy as np

from input_pipeline import packets
from input_pipeline import picture as pictures
from input_pipeline import sound as sounds
from input_pipeline.containers import (
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
    "probe",
    "read_clip",
    "read_recording",
)

_PROBES = 4  # places of the picture where a probe decodes
_PROBE_PIXELS = 30_000_000  # pixels that it decodes, some 300 frames of 340x256, at least this:
_PROBE_PACKETS = 12  # packets at each place

_LONGEST = 12 * 3600.0  # seconds; what claims to be longer has damaged timestamps

_Encoded = typing.TypeVar("_Encoded")


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


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """What a usable file holds.

    Attributes:
        start: Time 0, in seconds of the container's own clock: of the first frame; without picture,
            of the first sound.
        duration: Seconds from there to the end of the last frame; without picture or with a still
            one, to the end of the sound.
        sound_start: Time 0 by the clock of the sound's timestamps, which is `start`, but in AVI.
        sound_duration: Seconds of sound; 0 where there is none, or none that decodes.
        has_picture: Whether there is a picture.
    """

    start: float
    duration: float
    sound_start: float
    sound_duration: float
    has_picture: bool

    @property
    def has_audio(self) -> bool:
        """Whether the file has a sound track that decodes."""
        return self.sound_duration > 0


@dataclasses.dataclass(frozen=True)
class Recording(typing.Generic[_Encoded]):
    """All of a file.

    Attributes:
        info: What it holds.
        frames: T frames, upright, each as `encode` made it; empty without picture.
        frame_times: (T,) float32, when each of them appeared in the file, in seconds.
        waveform: (S,) float32 in [-1, 1], mono; zeros where the file has no sound.
    """

    info: MediaInfo
    frames: list[_Encoded]
    frame_times: np.ndarray
    waveform: np.ndarray


def probe(path: str | os.PathLike) -> MediaInfo:
    """Judges whether a file is usable and measures it.

    Reads all of it, which tells its true duration, and decodes some frames at its start, near its
    end and between; of a short and small file, most.

    Args:
        path: A media file.

    Returns:
        What it holds: picture, sound or both.

    Raises:
        MediaError: The file is not usable.
    """
    with opened(path) as container:
        picture, sound = streams(container)
        info, shown, heard = _measure(container, picture, sound, path)
        if shown:
            keyframes = np.unique(shown.keyframes or [info.start])
            places = np.unique(np.linspace(0, len(keyframes) - 1, _PROBES).round().astype(int))
            pixels = max(picture.width * picture.height, 1) * len(places)
            limit = max(_PROBE_PIXELS // pixels, _PROBE_PACKETS)
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

    Frame `k` is the one on screen at `start + k / frame_rate`, turned upright. Sound is mixed to
    mono; where the file has none at a time, there is silence. A file shorter than the clip repeats,
    picture and sound alike, from its beginning.

    Args:
        path: A media file with a picture.
        start: Seconds into the file, moved where needed so that the clip lies within the file.
        seconds: Length of the clip.
        frame_rate: Frames per second to take.
        short_side: Pixels of the frames' shorter side; the other follows in proportion.
        sample_rate: Hz, of the waveform.
        info: What `probe` said of the file; it is probed where this is not given.

    Returns:
        `round(seconds * frame_rate)` frames and `round(seconds * sample_rate)` samples.

    Raises:
        MediaError: The file has no picture or cannot be opened, or this part does not decode.
    """
    info = info or probe(path)
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
    """Judges a file by decoding all of it, and gives all of it, the frames as `read_clip`'s.

    Frame `k` is the one on screen at `k / frame_rate`; there are `round(duration * frame_rate)`, at
    least one. What is held in memory is the encoded frames and 64 kB of sound a second at 16 kHz.

    Args:
        path: A media file.
        frame_rate: Frames per second to take.
        short_side: Pixels of the frames' shorter side; the other follows in proportion.
        sample_rate: Hz, of the waveform.
        encode: Makes what is kept of a frame (h, w, 3) uint8; called once for a frame that is on
            screen at several of the times. By default the frame itself: 64 kB of 170 x 128 pixels.

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
    # A loop of its own, for what fails in `encode` is no fault of the file.
    for frame, time, count in _decode_all(path, info, shown, heard, times, short_side, track):
        frames += [encode(frame)] * count
        frame_times += [time] * count
    waveform = track.waveform()
    if track.end == -np.inf:  # there is no sound, or none of it decodes
        if not shown:
            raise MediaError(CORRUPT, path)
        info = dataclasses.replace(info, sound_duration=0.0)
    elif not shown:
        # Now it is known how much a decoder leaves out at the end.
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
    """Decodes a file in one go, from its beginning to its end.

    Args:
        path: The file.
        info: What it holds.
        shown: When its picture is presented; None without.
        heard: When its sound is; None without.
        times: (T,) float64 ascending seconds, of which to give the frames.
        short_side: Of the frames.
        track: Gets all packets of the sound.

    Yields:
        Each frame (h, w, 3) uint8 that is on screen at any of the times, when it appeared in the
        file, and at how many of the times it is on screen.

    Raises:
        MediaError: Too much of the picture does not decode.
    """
    # Opened again, for not every container can be wound back to its very beginning.
    with opened(path) as container:
        picture, sound = streams(container)
        used = [stream for stream, span in ((picture, shown), (sound, heard)) if span]

        def of_picture() -> Iterator[av.Packet]:
            """Packets of the picture; those of the sound go to the track as they come."""
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
            for _ in of_picture():
                pass
            return
        times = info.start + times
        wanted = pictures.on_screen(picture, shown.ticks, times)
        decoded = pictures.decode(container, picture, of_picture(), len(shown.ticks), wanted)
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
    """Reads all packets: what the file seems to hold, and when picture and sound are presented.

    Raises:
        MediaError: There is neither, it is not all there, or the times make no sense.
    """
    spans = {stream.index: packets.Span(stream) for stream in (picture, sound) if stream}
    others_end = -np.inf
    for packet in packets.demux(container, *container.streams) if spans else ():
        span = spans.get(packet.stream_index)
        if span is None:  # of subtitles, say, which may outlast what is used
            others_end = max(others_end, packets.end(packet))
            continue
        span.add(packet)
        # What lies beyond need not be read: a small header may claim any length.
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
    """Passes frames on, all of a picture's; raises ValueError in the end if many show damage.

    Frames before `begin`, when the first keyframe is presented, may lack what they refer to.
    """
    count = damaged = 0
    begin = (begin - packets.ROUNDING) / picture.time_base
    for frame in frames:
        count += 1
        damaged += frame.is_corrupt and packets.ticks(frame) >= begin
        yield frame
    if damaged > pictures.LARGEST_FAILURE * count:
        raise ValueError("many frames are damaged")


def _check_picture(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    time: float,
    limit: int,
    path: str | os.PathLike,
) -> None:
    """Decodes some packets from a keyframe on; raises MediaError where that shows damage."""
    needed = packets.needed(container, picture, time, np.inf, limit)
    wanted = set(map(packets.ticks, needed))
    frames = list(pictures.decode(container, picture, needed, len(needed), wanted))
    # Frames before the keyframe may lack what they refer to; players leave them out.
    begin = (time - packets.ROUNDING) / picture.time_base
    damaged = sum(frame.is_corrupt and packets.ticks(frame) >= begin for frame in frames)
    if not frames or damaged > pictures.LARGEST_FAILURE * len(needed):
        raise MediaError(CORRUPT, path)


def _decodes(container: av.container.InputContainer, sound: av.AudioStream, time: float) -> bool:
    """Whether any of the first packets from a time on gives sound."""
    track = sounds.Track(time, 0, sound.codec_context.sample_rate)
    for packet in packets.needed(container, sound, time, np.inf, limit=_PROBE_PACKETS):
        track.add(packet)
    track.waveform()
    return track.end > -np.inf
