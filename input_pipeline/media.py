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
import av.video.reformatter
import numpy as np

# Why a file is unusable. unreadable: not a media file, or not to be opened; corrupt: its packets do
# not decode; truncated: it ends before its header says.
REASONS = ("unreadable", "empty file", "corrupt", "truncated", "no picture")

# Containers that hold their media themselves. Playlists and the like, which FFmpeg would also open
# whatever the file is called, could make it read other files or the network.
_CONTAINERS = "mov,matroska,avi,asf,flv,mpeg,mpegts,ogg,gif,mxf,rm,nut,dv,ivf,wtv,swf,h264,hevc,m4v"
# Those of them whose headers state a true duration; elsewhere FFmpeg guesses it.
_CONTAINERS_WITH_DURATION = ("mov", "matroska", "avi")
# Codecs whose non-reference frames can be skipped without changing any other frame.
_SKIPPABLE = ("h264", "mpeg4")

_ROUNDING = 0.002  # seconds; Matroska and FLV round timestamps to milliseconds
_LARGEST_DRIFT = 0.01  # seconds between a sound's timestamps and its samples before it is a gap
_PREROLL = 0.2  # seconds of sound decoded ahead, for decoders that need some to settle
_LEADS = (0.0, 2.0, 10.0, np.inf)  # seconds to seek ahead of what is wanted, until it is found
_PROBES = 4  # places of the picture where a probe decodes
_PROBE_PIXELS = 30_000_000  # pixels that it decodes, some 300 frames of 340x256, at least this:
_PROBE_PACKETS = 12  # packets at each place
_LARGEST_FAILURE = 0.1  # share of a clip's packets of picture that may fail to decode

_SCALING = (
    av.video.reformatter.Interpolation.AREA
    | av.video.reformatter.Interpolation.ACCURATE_RND
    | av.video.reformatter.Interpolation.FULL_CHR_H_INT
)


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
        frames = _read_picture(container, picture, info.start + frame_times, short_side, path)
        if sound and info.has_audio:
            length = round(min(seconds, info.duration) * sample_rate)
            waveform = _read_sound(container, sound, info.start + start, length, sample_rate)
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
        ticks = _ticks(packet)
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


def _ticks(item: av.Packet | av.frame.Frame) -> int | None:
    """Presentation time of a packet or frame in its stream's unit; decoding time for want of it."""
    return item.dts if item.pts is None else item.pts


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
    packets = _packets(container, picture, time, np.inf, limit)
    frames = list(_decode_picture(picture.codec_context, packets, set(map(_ticks, packets))))
    # Frames before the keyframe may lack what they refer to; players leave them out.
    begin = (time - _ROUNDING) / picture.time_base
    damaged = sum(frame.is_corrupt and _ticks(frame) >= begin for frame in frames)
    if not frames or damaged > _LARGEST_FAILURE * len(packets):
        raise MediaError("corrupt", path)


def _decodes(container: av.container.InputContainer, sound: av.AudioStream, time: float) -> bool:
    """Whether any of the first packets from a time on gives sound."""
    for packet in _packets(container, sound, time, np.inf, limit=_PROBE_PACKETS):
        with contextlib.suppress(av.FFmpegError):
            if packet.decode():
                return True
    return False


def _packets(
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    begin: float,
    end: float,
    limit: int | None = None,
) -> list[av.Packet]:
    """Packets of a stream that are needed to present it from `begin` to `end`.

    Args:
        container: Where from; left positioned anywhere.
        stream: Which of its streams.
        begin: Seconds on the container's clock.
        end: Seconds on the container's clock.
        limit: Largest number of packets from `begin` on; None: all.

    Returns:
        The packets in decoding order, from the keyframe at or before `begin` on, followed by an
        empty one that flushes the decoder.
    """
    unit = float(stream.time_base)
    earliest = (stream.start_time or 0) * unit
    packets: list[av.Packet] = []
    for lead in _LEADS:
        # Containers seek by decoding time, by the nearest index entry or by guess: look where it
        # led, and start further ahead if that is too late.
        target = max(begin - lead, earliest - 1.0)
        try:
            container.seek(int(target // unit), stream=stream)
        except av.FFmpegError:  # there is nothing so early
            container.seek(int(earliest // unit), stream=stream)
        packets, count, keyframe = [], 0, np.inf
        for packet in container.demux(stream):
            if packet.dts is not None and packet.dts * unit > end:
                break
            ticks = _ticks(packet)
            if ticks is None:  # the end of the file
                continue
            packets.append(packet)
            if packet.is_keyframe:
                keyframe = min(keyframe, ticks * unit)
            count += ticks * unit >= begin - _ROUNDING
            if count == limit:
                break
        if target < earliest or keyframe <= begin + _ROUNDING:
            break
    flush = av.Packet()
    flush.stream = stream
    flush.time_base = stream.time_base
    return [*packets, flush]


def _read_picture(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    times: np.ndarray,
    short_side: int,
    path: str | os.PathLike,
) -> np.ndarray:
    """The frames on screen at some times.

    Args:
        container: Where from.
        picture: Which of its streams.
        times: (T,) float64 seconds on the container's clock, in any order.
        short_side: Pixels of the shorter side.
        path: For the error.

    Returns:
        (T, h, w, 3) uint8, upright.

    Raises:
        MediaError: None of the packets decodes.
        av.error.InvalidDataError: Too many of them do not.
    """
    times, order = np.unique(times, return_inverse=True)
    limits = times + _ROUNDING  # a frame shows at a time if it starts no later than the limit
    packets = _packets(container, picture, times[0], limits[-1])
    unit = float(picture.time_base)
    presented = np.unique([_ticks(packet) for packet in packets[:-1] if not packet.is_discard])
    if not len(presented):
        raise MediaError("corrupt", path)
    wanted = np.searchsorted(presented * unit, limits, side="right") - 1
    wanted = set(presented[np.maximum(wanted, 0)].tolist())
    convert = _Converter(short_side, float(picture.sample_aspect_ratio or 1))
    shown: list[np.ndarray] = []
    frame = None
    for following in _decode_picture(picture.codec_context, packets, wanted):
        # What shows at a time is known once the next frame comes.
        while frame and len(shown) < len(limits) and limits[len(shown)] < _ticks(following) * unit:
            shown.append(convert(frame))
        frame = following
    if frame is None:
        raise MediaError("corrupt", path)
    shown += [convert(frame)] * (len(limits) - len(shown))
    return convert.upright(np.stack([shown[place] for place in order]))


def _decode_picture(
    decoder: av.VideoCodecContext, packets: list[av.Packet], wanted: set[int]
) -> collections.abc.Iterator[av.VideoFrame]:
    """Decodes packets, leaving out what neither is wanted nor needed for what is.

    Args:
        decoder: The stream's decoder.
        packets: In decoding order, from a keyframe on.
        wanted: When the wanted ones of them are presented, as `_ticks` says.

    Yields:
        Frames in the order of presentation, all wanted ones among them.

    Raises:
        av.error.InvalidDataError: Too many packets do not decode; a player gets over a few.
    """
    failures = 0
    for packet in packets:
        if decoder.name in _SKIPPABLE:
            decoder.skip_frame = "DEFAULT" if _ticks(packet) in wanted else "NONREF"
        try:
            yield from decoder.decode(packet)
        except av.error.InvalidDataError:
            failures += 1
            if failures > _LARGEST_FAILURE * len(packets):
                raise


class _Converter:
    """Makes arrays of decoded frames, all of the size and orientation that the first one asks for.

    Args:
        short_side: Pixels of the arrays' shorter side.
        pixel_aspect: Width over height of the stored frames' pixels.
    """

    def __init__(self, short_side: int, pixel_aspect: float) -> None:
        self._short_side = short_side
        self._pixel_aspect = pixel_aspect
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._matrix = np.eye(2)
        self._last: tuple[av.VideoFrame | None, np.ndarray | None] = (None, None)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as (h, w, 3) uint8 RGB, not yet turned upright; converted once if repeated."""
        if self._size is None:
            self._size = self._scaled_size(frame)
            # Fixed-point numbers (a, b, u, c, d, v, x, y, w): a point (p, q) of the stored frame
            # goes to (a p + c q + x, b p + d q + y) on the screen.
            matrix = frame.side_data.get("DISPLAYMATRIX")
            if matrix is not None:
                self._matrix = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2]
        if frame is not self._last[0]:
            height, width = self._size
            picture = self._reformatter.reformat(
                frame, width, height, "rgb24", interpolation=_SCALING, threads=1
            )
            self._last = (frame, picture.to_ndarray())
        return self._last[1]

    def upright(self, frames: np.ndarray) -> np.ndarray:
        """Frames (T, h, w, 3), turned and mirrored as the file says that they are to be shown."""
        (across, swap), (other_swap, down) = self._matrix
        if abs(swap) > abs(across):
            frames, across, down = frames.swapaxes(1, 2), other_swap, swap
        return np.ascontiguousarray(frames[:, :: -1 if down < 0 else 1, :: -1 if across < 0 else 1])

    def _scaled_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Height and width of the arrays, for square pixels."""
        aspect = frame.width * self._pixel_aspect / frame.height
        long_side = round(self._short_side * max(aspect, 1 / aspect))
        if aspect < 1:
            return long_side, self._short_side
        return self._short_side, long_side


def _read_sound(
    container: av.container.InputContainer,
    sound: av.AudioStream,
    begin: float,
    length: int,
    sample_rate: int,
) -> np.ndarray:
    """Sound from a time on, mixed to mono.

    Args:
        container: Where from.
        sound: Which of its streams.
        begin: Seconds on the container's clock.
        length: Number of samples S.
        sample_rate: Hz.

    Returns:
        (S,) float32 in [-1, 1]; zeros where there is no sound, or none that decodes.
    """
    unit = float(sound.time_base)
    runs: list[_Run] = []
    for packet in _packets(container, sound, begin - _PREROLL, begin + length / sample_rate):
        # Like a player, leave out what does not decode; the gap that it leaves is silence.
        with contextlib.suppress(av.FFmpegError):
            for frame in sound.codec_context.decode(packet):
                ticks = _ticks(frame)
                time = None if ticks is None else ticks * unit
                if not runs or not runs[-1].goes_on_with(frame, time):
                    runs.append(_Run(frame, begin if time is None else time, sample_rate))
                runs[-1].add(frame)
    waveform = np.zeros(length, np.float32)
    for run in runs:
        samples = run.samples()
        offset = round((run.start - begin) * sample_rate)
        samples = samples[max(-offset, 0) : max(length - offset, 0)]
        waveform[max(offset, 0) :][: len(samples)] = samples
    return np.clip(np.nan_to_num(waveform), -1.0, 1.0)


class _Run:
    """Sound without a gap, being resampled and mixed to mono.

    Args:
        frame: Its first frame, yet to be added.
        start: When that starts, in seconds on the container's clock.
        sample_rate: Hz, to resample to.

    Attributes:
        start: As given.
    """

    def __init__(self, frame: av.AudioFrame, start: float, sample_rate: int) -> None:
        self.start = start
        self._end = start
        self._form = self._form_of(frame)
        rate, sample_format, layout = self._form
        self._graph = av.filter.Graph()
        chain = (
            self._graph.add(
                "abuffer",
                sample_rate=str(rate),
                sample_fmt=sample_format,
                channel_layout=layout,
                time_base=f"1/{rate}",
            ),
            # Weights of the channels sum to 1, so that a mix of full-scale channels is full-scale.
            self._graph.add("aresample", rematrix_maxval="1"),
            self._graph.add(
                "aformat", sample_rates=str(sample_rate), sample_fmts="flt", channel_layouts="mono"
            ),
            self._graph.add("abuffersink"),
        )
        self._graph.link_nodes(*chain).configure()
        self._samples: list[np.ndarray] = []

    def goes_on_with(self, frame: av.AudioFrame, time: float | None) -> bool:
        """Whether a frame of a time, if it has one, follows without a gap and in the same form."""
        return self._form_of(frame) == self._form and (
            time is None or abs(time - self._end) <= _LARGEST_DRIFT
        )

    def add(self, frame: av.AudioFrame) -> None:
        """Appends a frame."""
        self._end += frame.samples / frame.sample_rate
        frame.pts = None  # its place is known; the filters are to take it as it comes
        self._push(frame)

    def samples(self) -> np.ndarray:
        """All of it as (S,) float32, mono at the new rate; nothing can be added after."""
        self._push(None)
        return np.concatenate(self._samples) if self._samples else np.zeros(0, np.float32)

    def _push(self, frame: av.AudioFrame | None) -> None:
        self._graph.push(frame)
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                self._samples.append(self._graph.pull().to_ndarray()[0])

    @staticmethod
    def _form_of(frame: av.AudioFrame) -> tuple[int, str, str]:
        return frame.sample_rate, frame.format.name, frame.layout.name
