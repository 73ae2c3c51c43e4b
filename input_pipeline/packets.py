"""Packets of media files by time: which of them it takes to present a stretch of time.

AVI has no times of presentation: frames lie in equal slots in the order of decoding, and FFmpeg's
guess of the order of presentation is wrong for H.264, and for MPEG-4 as XviD and DivX pack it. Such
packets get the time of their slot here, which `picture.decode` makes good.
"""

import collections.abc
import contextlib

import av
import numpy as np

ROUNDING = 0.002  # seconds; Matroska and FLV round timestamps to milliseconds
_BACKWARDS = 0.5  # seconds that decoding may go back; more is another recording's beginning
_LEADS = (0.0, 2.0, 10.0, np.inf)  # seconds to seek ahead of what is wanted, until it is found

_REORDERED = ("h264", "hevc", "mpeg4")  # codecs that may present frames in another order
_MOST_REORDERED = 16  # frames that they may decode ahead of one that is presented before

# Samples by which the usual encoder of a codec and the decoder together delay the sound (of MP3,
# LAME's 576 and the decoder's 529). Other containers tell, and FFmpeg then leaves them out.
_AVI_DELAYS = {"mp3": 1105, "mp3float": 1105, "aac": 1024}


def ticks(item: av.Packet | av.frame.Frame) -> int | None:
    """Presentation time of a packet or frame in its stream's unit; decoding time for want of it."""
    return item.dts if item.pts is None else item.pts


def end(packet: av.Packet) -> float:
    """When a packet's presentation ends, as far as it says, in seconds on the container's clock."""
    return (ticks(packet) + (packet.duration or 0)) * float(packet.time_base)


def in_slots(container: av.container.InputContainer, stream: av.stream.Stream) -> bool:
    """Whether the packets of a picture tell their slot in place of their time (see above)."""
    decoder = stream.codec_context  # None if there is none for what the stream holds
    return container.format.name == "avi" and bool(decoder) and decoder.name in _REORDERED


def demux(
    container: av.container.InputContainer, *streams: av.stream.Stream
) -> collections.abc.Iterator[av.Packet]:
    """Packets of streams in the order of the file, from where it is positioned to its end.

    Those that hold nothing are left out, for what was on screen stays, and those without any time.
    """
    slotted = {stream.index for stream in streams if in_slots(container, stream)}
    # That error is how PyAV ends where a stream began midway.
    with contextlib.suppress(IndexError):
        for packet in container.demux(streams):
            if packet.stream_index in slotted:
                packet.pts = packet.dts
            if packet.size and ticks(packet) is not None:
                yield packet


def flush(stream: av.stream.Stream) -> av.Packet:
    """An empty packet, upon which a stream's decoder gives all that it still holds."""
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
    ahead = 0
    if in_slots(container, stream):
        ahead = _MOST_REORDERED
        begin -= ahead / float(stream.average_rate or 25)
    packets: list[av.Packet] = []
    for lead in _LEADS:
        # Containers seek by decoding time, by the nearest index entry or by guess: look where it
        # led, and start further ahead if that is too late.
        target = max(begin - lead, earliest - 1.0)
        try:
            container.seek(int(target // unit), stream=stream)
        except av.FFmpegError:  # there is nothing so early
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
    """When a stream's packets are presented, gathered one by one.

    Attributes:
        ticks: Of every packet that is presented, in the stream's unit.
        keyframes: Seconds on the container's clock, of those from which decoding can start.
        first_decoded: When the first packet is decoded, in seconds on the container's clock.
        goes_back: Whether time begins anew, as in recordings that were appended byte by byte.
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
        self._earliest = (np.inf, 0.0)  # time, and seconds skipped from then on
        self._latest = (-np.inf, 0.0)  # time and duration

    def add(self, packet: av.Packet) -> None:
        """Takes note of a packet, unless it is one that is decoded but never presented."""
        # What FFmpeg calls corrupt of the sound is heard nevertheless, such as a shorter packet at
        # the end of a file that does not tell its length.
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
        self._latest = max(self._latest, (time, (packet.duration or 0) * self._unit))
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
        """When the second one is; infinity if there is none."""
        return sorted(self.ticks)[1] * self._unit if len(self.ticks) > 1 else np.inf

    @property
    def end(self) -> float:
        """When the last packet's presentation ends; after a usual one's, if it does not say."""
        time, duration = self._latest
        return time + (duration or self.usual_duration)

    def _skipped(self, packet: av.Packet) -> float:
        """Seconds at a packet's start that are for the decoder to settle, and never heard."""
        if not self._sample_rate or not packet.has_sidedata("skip_samples"):
            return 0.0
        return int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little") / (
            self._sample_rate
        )


def avi_starts(sound: av.AudioStream, shown: Span) -> tuple[float, float]:
    """Time 0 of an AVI's picture and of its sound, on the container's clock.

    Both begin with the file, but the sound with what its encoder and decoder delay it by. Where
    FFmpeg made the file, it put the picture later therefore, by whole slots; all but the first
    frame, so that the gap after that one tells.

    Args:
        sound: The stream.
        shown: All packets of the picture.
    """
    delay = _AVI_DELAYS.get(sound.codec_context.name, 0) / sound.codec_context.sample_rate
    start, slot = shown.start, shown.usual_duration
    gap = shown.second - start - slot
    if delay and slot / 2 < gap < delay + slot:
        start += gap
    return start, shown.first_decoded + delay
