"""Packets of media files by time: which of them it takes to present a stretch of time."""

import av
import numpy as np

ROUNDING = 0.002  # seconds; Matroska and FLV round timestamps to milliseconds
_LEADS = (0.0, 2.0, 10.0, np.inf)  # seconds to seek ahead of what is wanted, until it is found


def ticks(item: av.Packet | av.frame.Frame) -> int | None:
    """Presentation time of a packet or frame in its stream's unit; decoding time for want of it."""
    return item.dts if item.pts is None else item.pts


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
            time = ticks(packet)
            if time is None:  # the end of the file
                continue
            packets.append(packet)
            if packet.is_keyframe:
                keyframe = min(keyframe, time * unit)
            count += time * unit >= begin - ROUNDING
            if count == limit:
                break
        if target < earliest or keyframe <= begin + ROUNDING:
            break
    flush = av.Packet()
    flush.stream = stream
    flush.time_base = stream.time_base
    return [*packets, flush]
