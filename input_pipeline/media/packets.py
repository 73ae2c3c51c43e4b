"""Packets of media files by time: which packets it takes to present a stretch of time.

AVI stores no presentation times. Its frames lie in equal slots in decoding order, and FFmpeg's
guess of the presentation order is wrong for H.264 and for MPEG-4 as XviD and DivX pack it. Here,
such packets get the time of their slot, and `picture.decode` corrects it.
"""

import collections.abc
import contextlib

import av
import numpy as np

from input_pipeline.files import limited_file

ROUNDING = 0.002  # seconds; Matroska and FLV round timestamps to milliseconds
_BACKWARDS = 0.5  # seconds that decoding times may go back; more means an appended recording
_LEADS = (0.0, 2.0, 10.0, np.inf)  # seconds to seek ahead of the target, tried in this order

_REORDERED = ("h264", "hevc", "mpeg4")  # codecs that may present frames in another order
_MOST_REORDERED = 16  # frames that may be decoded ahead of a frame presented before them

# Samples by which a codec's usual encoder and the decoder together delay the sound (for MP3, 576 of
# LAME and 529 of the decoder). Other containers state the delay, and FFmpeg removes it.
_AVI_DELAYS = {"mp3": 1105, "mp3float": 1105, "aac": 1024}


def ticks(item: av.Packet | av.frame.Frame) -> int | None:
    """Returns the presentation time (or else the decoding time) in the stream's unit."""
    return item.dts if item.pts is None else item.pts


def end(packet: av.Packet) -> float:
    """Returns when a packet's presentation ends, in seconds on the container's clock."""
    return (ticks(packet) + (packet.duration or 0)) * float(packet.time_base)


def in_slots(container: av.container.InputContainer, stream: av.stream.Stream) -> bool:
    """Returns whether the packets of a picture have slots instead of times, see above."""
    decoder = stream.codec_context  # None if FFmpeg has no decoder for the stream
    return container.format.name == "avi" and bool(decoder) and decoder.name in _REORDERED


def demux(
    container: av.container.InputContainer, *streams: av.stream.Stream
) -> collections.abc.Iterator[av.Packet]:
    """Yields packets of streams in file order, from the container's position to its end.

    Empty packets are left out, since what is on screen stays, and so are packets without any time.

    Raises:
        ValueError: A large part of the file holds no packets, see `LimitedFile`.
    """
    limited = container.file and container.file.file
    slotted = {stream.index for stream in streams if in_slots(container, stream)}
    limits = limited.limited(limited_file.MOST_BETWEEN) if limited else contextlib.nullcontext()
    # PyAV ends with an IndexError if a stream began midway.
    with limits, contextlib.suppress(IndexError):
        for packet in container.demux(streams):
            if limited:
                limited.found_packet()
            if packet.stream_index in slotted:
                packet.pts = packet.dts
            if packet.size and ticks(packet) is not None:
                yield packet


def flush(stream: av.stream.Stream) -> av.Packet:
    """Makes an empty packet, upon which a stream's decoder returns all frames that it holds."""
    packet = av.Packet()
    packet.stream = stream
    packet.time_base = stream.time_base
    return packet


def needed(
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    begin: float,
    end: float,
    limit: int | None = None,
) -> list[av.Packet]:
    """Reads the packets of a stream that are needed to present it from `begin` to `end`.

    Args:
        container: The open file. Its position afterwards is undefined.
        stream: One of its streams.
        begin: Begin in seconds on the container's clock.
        end: End in seconds on the container's clock.
        limit: Largest number of packets from `begin` on. None for all.

    Returns:
        The packets in decoding order, starting at the keyframe at or before `begin`, and an empty
        one that flushes the decoder.
    """
    unit = float(stream.time_base)
    earliest = (stream.start_time or 0) * unit
    ahead = 0
    if in_slots(container, stream):
        ahead = _MOST_REORDERED
        begin -= ahead / float(stream.average_rate or 25)
    packets: list[av.Packet] = []
    for lead in _LEADS:
        # Containers seek by decoding time, by the nearest index entry or by guess. If the result is
        # too late, seek further ahead.
        target = max(begin - lead, earliest - 1.0)
        try:
            container.seek(int(target // unit), stream=stream)
        except av.FFmpegError:  # the file starts later
            container.seek(int(earliest // unit), stream=stream)
        packets, count, keyframe, over = [], 0, np.inf, 0
        for packet in demux(container, stream):
            over += packet.dts is not None and packet.dts * unit > end
            if over > ahead:
                break
            time = ticks(packet)
            packets.append(packet)
            if packet.is_keyframe:
                keyframe = min(keyframe, time * unit)
            count += time * unit >= begin - ROUNDING
            if count == limit:
                break
        if target < earliest or keyframe <= begin + ROUNDING:
            break
    return [*packets, flush(stream)]


class Span:
    """Presentation times of a stream's packets, added one by one.

    Attributes:
        ticks: Presentation times of all presented packets, in the stream's unit.
        keyframes: Presentation times of the keyframes, where decoding can start, in seconds on the
            container's clock.
        first_decoded: Decoding time of the first packet, in seconds on the container's clock.
        goes_back: Whether time starts again, as in recordings that were appended byte by byte.
        usual_duration: Duration of a packet that states none, in seconds.
    """

    def __init__(self, stream: av.stream.Stream) -> None:
        self.ticks: list[int] = []
        self.keyframes: list[float] = []
        self.first_decoded = np.inf
        self.goes_back = False
        self._last_decoded = -np.inf
        self._unit = float(stream.time_base)
        self._sample_rate = stream.sample_rate if stream.type == "audio" else None
        rate = stream.average_rate if stream.type == "video" else None
        self.usual_duration = float(1 / rate) if rate else 0.04
        self._earliest = (np.inf, 0.0)  # time of the first packet, and seconds skipped from then on
        self._latest = (-np.inf, 0.0)  # time and duration of the last packet

    def add(self, packet: av.Packet) -> None:
        """Adds a packet, unless it is decoded but never presented."""
        # Sound packets that FFmpeg calls corrupt are heard nevertheless, such as a shorter packet
        # at the end of a file that states no length.
        if packet.is_discard or (packet.is_corrupt and not self._sample_rate):
            return
        time = ticks(packet)
        self.ticks.append(time)
        time *= self._unit
        if packet.dts is not None:
            decoded = packet.dts * self._unit
            self.first_decoded = min(self.first_decoded, decoded)
            self.goes_back |= decoded < self._last_decoded - _BACKWARDS
            self._last_decoded = decoded
        self._latest = max(self._latest, (time, self._duration(packet) * self._unit))
        if packet.is_keyframe:
            self.keyframes.append(time)
        if time < self._earliest[0]:
            self._earliest = (time, self._skipped(packet))

    @property
    def start(self) -> float:
        """When the first packet is presented, in seconds on the container's clock."""
        return sum(self._earliest)

    @property
    def second(self) -> float:
        """When the second packet is presented, in seconds on the container's clock, or infinity."""
        return sorted(self.ticks)[1] * self._unit if len(self.ticks) > 1 else np.inf

    @property
    def end(self) -> float:
        """When the last packet's presentation ends, in seconds on the container's clock."""
        time, duration = self._latest
        return time + (duration or self.usual_duration)

    def _duration(self, packet: av.Packet) -> int:
        """Returns a packet's duration in the stream's unit, 0 if it states none.

        It is negative where an Ogg ends before its last packet would begin. FFmpeg computes it
        without a sign, in 32 bits.
        """
        stated = packet.duration or 0
        return stated - (1 << 32) if self._sample_rate and stated >= 1 << 31 else stated

    def _skipped(self, packet: av.Packet) -> float:
        """Returns the seconds at a packet's start that are never heard, as the decoder settles."""
        if not self._sample_rate or not packet.has_sidedata("skip_samples"):
            return 0.0
        return int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little") / (
            self._sample_rate
        )


def avi_starts(sound: av.AudioStream, shown: Span) -> tuple[float, float]:
    """Returns time 0 of an AVI's picture and of its sound, on the container's clock.

    Both start with the file, but the sound is delayed by its encoder and decoder. If FFmpeg wrote
    the file, it delayed the picture to match, by whole slots. The first frame was not delayed, so
    the gap after it shows the delay.

    Args:
        sound: The stream of the sound.
        shown: Presentation times of the picture's packets.

    Returns:
        Time 0 of the picture and of the sound, in seconds.
    """
    delay = _AVI_DELAYS.get(sound.codec_context.name, 0) / sound.codec_context.sample_rate
    start, slot = shown.start, shown.usual_duration
    gap = shown.second - start - slot
    if delay and slot / 2 < gap < delay + slot:
        start += gap
    return start, shown.first_decoded + delay
