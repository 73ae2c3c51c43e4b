"""Media files by time: what a file holds, and the picture and sound of any few seconds of it.

Time is that of the picture: 0 is when its first frame appears, and `MediaInfo.duration` is when its
last one goes. Everything is found by the files' own timestamps, never by counting frames or
samples, so that variable frame rates, late sound and gaps come out where a player shows them.
"""

import collections.abc
import contextlib
import dataclasses
import os

import av
import numpy as np

from input_pipeline import packets
from input_pipeline import picture as pictures
from input_pipeline import sound as sounds

# Why a file is unusable. unreadable: not a media file, or not to be opened; corrupt: its packets do
# not decode; truncated: it ends before its header says.
REASONS = ("unreadable", "empty file", "corrupt", "truncated", "no picture")

# Containers that hold their media themselves. Playlists and the like, which FFmpeg would also open
# whatever the file is called, could make it read other files or the network.
_CONTAINERS = "mov,matroska,avi,asf,flv,mpeg,mpegts,ogg,gif,mxf,rm,nut,dv,wtv"
# Those of them whose headers state a true duration; elsewhere FFmpeg guesses it.
_CONTAINERS_WITH_DURATION = ("mov", "matroska", "avi")

_PROBES = 4  # places of the picture where a probe decodes
_PROBE_PIXELS = 30_000_000  # pixels that it decodes, some 300 frames of 340x256, at least this:
_PROBE_PACKETS = 12  # packets at each place


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
        start: Timestamp of the first frame, in seconds of the container's own clock.
        duration: Seconds from the first frame to the end of the last; of a still picture with
            sound, to the end of the sound.
        sound_duration: Seconds of sound; 0 where there is none, or none that decodes.
    """

    start: float
    duration: float
    sound_duration: float

    @property
    def has_audio(self) -> bool:
        """Whether the file has a sound track that decodes."""
        return self.sound_duration > 0


class MediaError(ValueError):
    """A media file that cannot be used.

    Attributes:
        reason: Why, out of `REASONS`.
        path: The file.
    """

    def __init__(self, reason: str, path: str | os.PathLike) -> None:
        super().__init__(f"{reason}: {os.fspath(path)}")
        self.reason = reason
        self.path = os.fspath(path)


def probe(path: str | os.PathLike) -> MediaInfo:
    """Judges whether a file is usable and measures it.

    Reads all of it, which tells its true duration, and decodes some frames at its start, near its
    end and between; of a short and small file, most.

    Args:
        path: A media file.

    Returns:
        What it holds.

    Raises:
        MediaError: The file is not usable.
    """
    with _open(path) as container:
        picture, sound = _streams(container, path)
        spans = {stream.index: _Span(stream) for stream in (picture, sound) if stream}
        for packet in container.demux([stream for stream in (picture, sound) if stream]):
            spans[packet.stream_index].add(packet)
        shown = spans[picture.index]
        heard = spans[sound.index] if sound else None
        if not shown.times:
            raise MediaError("no picture", path)
        start, end = shown.start, shown.end
        heard_end = heard.end if heard and heard.times else end
        if _ends_early(container, picture, end, max(end, heard_end)):
            raise MediaError("truncated", path)
        keyframes = np.unique(shown.keyframes or [start])
        places = np.unique(np.linspace(0, len(keyframes) - 1, _PROBES).round().astype(int))
        pixels = max(picture.width * picture.height, 1) * len(places)
        for time in keyframes[places]:
            _check_picture(
                container, picture, time, max(_PROBE_PIXELS // pixels, _PROBE_PACKETS), path
            )
        sound_duration = 0.0
        if heard and heard.times and _decodes(container, sound, heard.start):
            sound_duration = heard_end - heard.start
            if len(shown.times) == 1:
                end = max(end, heard_end)
    return MediaInfo(start, end - start, sound_duration)


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
        path: A media file.
        start: Seconds into the file, moved where needed so that the clip lies within the file.
        seconds: Length of the clip.
        frame_rate: Frames per second to take.
        short_side: Pixels of the frames' shorter side; the other follows in proportion.
        sample_rate: Hz, of the waveform.
        info: What `probe` said of the file; it is probed where this is not given.

    Returns:
        `round(seconds * frame_rate)` frames and `round(seconds * sample_rate)` samples.

    Raises:
        MediaError: The file cannot be opened, or this part of it does not decode.
    """
    info = info or probe(path)
    start = min(max(start, 0.0), max(info.duration - seconds, 0.0))
    frame_times = start + np.arange(round(seconds * frame_rate)) / frame_rate
    sample_times = np.arange(round(seconds * sample_rate)) / sample_rate
    padded = info.duration < seconds
    if padded:
        frame_times %= info.duration
        sample_times %= info.duration
    with _open(path) as container:
        picture, sound = _streams(container, path)
        frames = pictures.read(container, picture, info.start + frame_times, short_side)
        if sound and info.has_audio:
            length = round(min(seconds, info.duration) * sample_rate)
            waveform = sounds.read(container, sound, info.start + start, length, sample_rate)
        else:
            waveform = np.zeros(round(seconds * sample_rate), np.float32)
    if padded and info.has_audio:
        indices = np.floor(sample_times * sample_rate + 1e-6).astype(int)
        waveform = waveform[np.minimum(indices, len(waveform) - 1)]
    return Clip(frames, waveform, info.has_audio, padded)


class _Span:
    """When a stream's packets are presented, gathered one by one; seconds on the container's clock.

    Attributes:
        times: Of every packet that is presented.
        keyframes: Of those from which decoding can start.
    """

    def __init__(self, stream: av.stream.Stream) -> None:
        self.times: list[float] = []
        self.keyframes: list[float] = []
        self._unit = float(stream.time_base)
        rate = stream.average_rate if stream.type == "video" else None
        self._usual_duration = float(1 / rate) if rate else 0.04
        self._latest = (-np.inf, 0.0)  # time and duration

    def add(self, packet: av.Packet) -> None:
        """Takes note of a packet, unless it is one that is decoded but never presented."""
        ticks = packets.ticks(packet)
        if ticks is None or packet.is_discard or packet.is_corrupt:
            return
        time = ticks * self._unit
        self.times.append(time)
        self._latest = max(self._latest, (time, (packet.duration or 0) * self._unit))
        if packet.is_keyframe:
            self.keyframes.append(time)

    @property
    def start(self) -> float:
        """When the first packet is presented."""
        return min(self.times)

    @property
    def end(self) -> float:
        """When the last packet's presentation ends; after a usual one's, if it does not say."""
        time, duration = self._latest
        return time + (duration or self._usual_duration)


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> collections.abc.Iterator[av.container.InputContainer]:
    """Opens a file and closes it again; all that goes wrong in between is a MediaError."""
    try:
        # An absolute path cannot be taken for an address.
        path = os.path.abspath(path)
        if os.path.getsize(path) == 0:
            raise MediaError("empty file", path)
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
        container = av.open(path, options=options, metadata_errors="replace")
    except MediaError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = "truncated" if _boxes_missing(path) else "unreadable"
        raise MediaError(reason, path) from error
    with container:
        try:
            yield container
        except MediaError:
            raise
        except (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError) as error:
            raise MediaError("corrupt", path) from error


def _boxes_missing(path: str) -> bool:
    """Whether a file is an MP4 or MOV whose last box is cut off, as in a broken download."""
    try:
        with open(path, "rb") as file:
            size, position, first = os.path.getsize(path), 0, True
            while position < size:
                file.seek(position)
                header = file.read(16)
                if first and header[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"skip"):
                    return False
                length = int.from_bytes(header[:4], "big")
                if length == 1:  # the length is in the 64 bits that follow
                    length = int.from_bytes(header[8:16], "big")
                if length < 8:
                    return False
                position, first = position + length, False
            return position > size
    except OSError:
        return False


def _streams(
    container: av.container.InputContainer, path: str | os.PathLike
) -> tuple[av.VideoStream, av.AudioStream | None]:
    """The picture, and the sound that goes with it or None, each set to decode in one thread."""
    # Cover art of music files comes as a video stream too.
    pictures = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    best = container.streams.best("video")
    picture = best if best in pictures else next(iter(pictures), None)
    if picture is None or picture.codec_context is None:
        raise MediaError("no picture", path)
    sound = container.streams.best("audio", picture)
    if sound is not None and sound.codec_context is None:
        sound = None
    for stream in filter(None, (picture, sound)):
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
    return picture, sound


def _ends_early(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    picture_end: float,
    end: float,
) -> bool:
    """Whether the packets end clearly before the time that the header states."""
    if not set(container.format.name.split(",")) & set(_CONTAINERS_WITH_DURATION):
        return False
    if picture.duration:
        stated = float(((picture.start_time or 0) + picture.duration) * picture.time_base)
        return picture_end < 0.95 * stated - 0.1
    stated = ((container.start_time or 0) + (container.duration or 0)) / av.time_base
    return end < 0.95 * stated - 0.1


def _check_picture(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    time: float,
    limit: int,
    path: str | os.PathLike,
) -> None:
    """Decodes some packets from a keyframe on; raises MediaError where that shows damage."""
    needed = packets.needed(container, picture, time, np.inf, limit)
    frames = list(pictures.decode(picture.codec_context, needed, set(map(packets.ticks, needed))))
    # Frames before the keyframe may lack what they refer to; players leave them out.
    begin = (time - packets.ROUNDING) / picture.time_base
    damaged = sum(frame.is_corrupt and packets.ticks(frame) >= begin for frame in frames)
    if not frames or damaged > pictures.LARGEST_FAILURE * len(needed):
        raise MediaError("corrupt", path)


def _decodes(container: av.container.InputContainer, sound: av.AudioStream, time: float) -> bool:
    """Whether any of the first packets from a time on gives sound."""
    for packet in packets.needed(container, sound, time, np.inf, limit=_PROBE_PACKETS):
        with contextlib.suppress(av.FFmpegError):
            if packet.decode():
                return True
    return False
