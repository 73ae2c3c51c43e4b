"""The picture of media files: the frames on screen at given times, upright and scaled."""

import collections.abc
import heapq

import av
import av.video.reformatter
import numpy as np

from input_pipeline import packets

LARGEST_FAILURE = 0.1  # share of the packets that may fail to decode; a player gets over a few
_LARGEST_ASPECT = 32  # of the long side to the short one; more is damage, and would fill the memory

# Codecs whose non-reference frames can be skipped without changing any other frame.
_SKIPPABLE = ("h264", "mpeg4")

_SCALING = (
    av.video.reformatter.Interpolation.AREA
    | av.video.reformatter.Interpolation.ACCURATE_RND
    | av.video.reformatter.Interpolation.FULL_CHR_H_INT
)


def read(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    times: np.ndarray,
    short_side: int,
) -> np.ndarray:
    """The frames on screen at some times.

    Args:
        container: Where from.
        picture: Which of its streams.
        times: (T,) float64 seconds on the container's clock, in any order.
        short_side: Pixels of the shorter side.

    Returns:
        (T, h, w, 3) uint8, upright.

    Raises:
        ValueError: None of the packets decodes.
        av.error.InvalidDataError: Too many of them do not.
    """
    times, order = np.unique(times, return_inverse=True)
    # The latest that the frames on screen may have started.
    needed = packets.needed(container, picture, times[0], times[-1] + packets.ROUNDING)
    kept = [packet for packet in needed[:-1] if not packet.is_discard]
    wanted = on_screen(picture, [packets.ticks(packet) for packet in kept], times)
    frames = decode(container, picture, needed, len(needed), wanted)
    convert = Converter(picture, short_side)
    seen: list[np.ndarray] = []
    for frame, count in shown(picture, frames, times):
        seen += [convert(frame)] * count
    return convert.upright(np.stack([seen[place] for place in order]))


def on_screen(picture: av.VideoStream, presented: list[int], times: np.ndarray) -> set[int]:
    """Which frames are on screen at some times.

    Args:
        picture: The stream.
        presented: When its frames appear, in its unit, in any order.
        times: (T,) float64 seconds on the container's clock.

    Returns:
        Those of `presented`.

    Raises:
        ValueError: There are none.
    """
    if not presented:
        raise ValueError("there is no picture")
    ticks = np.unique(presented)
    limits = times + packets.ROUNDING
    places = np.searchsorted(ticks * float(picture.time_base), limits, side="right") - 1
    return set(ticks[np.maximum(places, 0)].tolist())


def shown(
    picture: av.VideoStream, frames: collections.abc.Iterable[av.VideoFrame], times: np.ndarray
) -> collections.abc.Iterator[tuple[av.VideoFrame, int]]:
    """Finds the frames on screen at some times.

    Args:
        picture: The stream.
        frames: Its frames in the order of presentation.
        times: (T,) float64 seconds on the container's clock, ascending.

    Yields:
        Each frame that is on screen at one of the times, and at how many of them.

    Raises:
        ValueError: There is no frame.
    """
    unit = float(picture.time_base)
    limits = times + packets.ROUNDING
    done, frame = 0, None
    for following in frames:
        # What shows at a time is known once the next frame comes.
        over = np.searchsorted(limits, packets.ticks(following) * unit)
        if frame is not None and over > done:
            yield frame, over - done
            done = over
        frame = following
    if frame is None:
        raise ValueError("no packet of the picture decodes")
    if done < len(limits):
        yield frame, len(limits) - done


def decode(
    container: av.container.InputContainer,
    picture: av.VideoStream,
    needed: collections.abc.Iterable[av.Packet],
    count: int,
    wanted: set[int],
) -> collections.abc.Iterator[av.VideoFrame]:
    """Decodes packets, leaving out what neither is wanted nor needed for what is.

    Args:
        container: Where the packets are from.
        picture: Their stream.
        needed: Packets in decoding order, from a keyframe on; the last one empty.
        count: Number of them.
        wanted: When the wanted ones of them are presented, as `packets.ticks` says.

    Yields:
        Frames in the order of presentation, all wanted ones among them.

    Raises:
        av.error.InvalidDataError: Too many packets do not decode; a player gets over a few.
    """
    decoder = picture.codec_context
    # Where packets tell slots, frames come in the order of presentation, for a slot each.
    in_slots = packets.in_slots(container, picture)
    skips = decoder.name in _SKIPPABLE and not in_slots
    slots: list[int] = []
    previous = None
    failures = 0
    for packet in needed:
        if skips:
            decoder.skip_frame = "DEFAULT" if packets.ticks(packet) in wanted else "NONREF"
        if in_slots and packet.dts is not None:
            heapq.heappush(slots, packet.dts)
        try:
            frames = decoder.decode(packet)
        except av.error.InvalidDataError:
            failures += 1
            if failures > LARGEST_FAILURE * count:
                raise
            frames = []
            if packet.dts in slots:
                slots.remove(packet.dts)
                heapq.heapify(slots)
        for frame in frames:
            if in_slots and decoder.name == "mpeg4":
                # It gives one frame a packet, a packet late where frames may be reordered.
                late = decoder.has_b_frames and previous is not None
                frame.pts = previous if late else packet.dts
            elif slots:
                frame.pts = heapq.heappop(slots)  # the first slot that is left
            yield frame
        previous = packet.dts


def aspect_ratio(frame: av.VideoFrame | av.VideoStream, picture: av.VideoStream) -> float:
    """Width over height on the screen, before a frame is turned upright.

    Args:
        frame: What has a width and a height: a frame, or the stream, whose header tells them too.
        picture: The stream, which tells the shape of the pixels.

    Raises:
        ValueError: It is none that a picture has.
    """
    aspect = frame.width * float(picture.sample_aspect_ratio or 1) / frame.height
    if not 1 / _LARGEST_ASPECT <= aspect <= _LARGEST_ASPECT:
        raise ValueError(f"a picture of {frame.width} x {frame.height} is none")
    return aspect


class Converter:
    """Makes arrays of decoded frames, all of the size and orientation that the first one asks for.

    Args:
        picture: The stream that they are of.
        short_side: Pixels of the arrays' shorter side, which may be more than the frames have.
    """

    def __init__(self, picture: av.VideoStream, short_side: int) -> None:
        self._short_side = short_side
        self._picture = picture
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._matrix = np.eye(2)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as (h, w, 3) uint8 RGB, not yet turned upright."""
        if self._size is None:
            self._size = self._scaled_size(frame)
            # Fixed-point numbers (a, b, u, c, d, v, x, y, w): a point (p, q) of the stored frame
            # goes to (a p + c q + x, b p + d q + y) on the screen.
            matrix = frame.side_data.get("DISPLAYMATRIX")
            if matrix is not None:
                self._matrix = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2]
        height, width = self._size
        # By planes, which FFmpeg and NumPy together do faster than FFmpeg by pixels.
        return self._reformatter.reformat(
            frame, width, height, "gbrp", interpolation=_SCALING, threads=1
        ).to_ndarray()

    def upright(self, frames: np.ndarray) -> np.ndarray:
        """Frames (..., h, w, 3), turned and mirrored as the file says that they are to be shown."""
        (across, swap), (other_swap, down) = self._matrix
        if abs(swap) > abs(across):
            frames, across, down = frames.swapaxes(-3, -2), other_swap, swap
        rows, columns = (slice(None, None, -1 if way < 0 else 1) for way in (down, across))
        return np.ascontiguousarray(frames[..., rows, columns, :])

    def _scaled_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Height and width of the arrays, for square pixels."""
        aspect = aspect_ratio(frame, self._picture)
        long_side = round(self._short_side * max(aspect, 1 / aspect))
        if aspect < 1:
            return long_side, self._short_side
        return self._short_side, long_side
