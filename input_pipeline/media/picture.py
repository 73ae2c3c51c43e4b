"""The picture of media files: the frames on screen at given times, upright and scaled."""

import collections.abc
import heapq

import av
import av.video.reformatter
import numpy as np

from input_pipeline.media import packets

LARGEST_FAILURE = 0.1  # largest share of packets that may fail to decode; players skip a few
LARGEST_ASPECT = 32  # long side over short side; more is damage, and would fill the memory

# Codecs whose non-reference frames can be skipped without changing other frames.
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
    """Decodes the frames on screen at given times.

    Args:
        container: The open file.
        picture: The stream of the picture.
        times: (T,) float64 seconds on the container's clock, in any order.
        short_side: Shorter side of the frames in pixels.

    Returns:
        (T, h, w, 3) uint8, upright.

    Raises:
        ValueError: No packet decodes.
        av.error.InvalidDataError: Too many packets do not decode.
    """
    times, order = np.unique(times, return_inverse=True)
    # The frames on screen started at the last time or earlier.
    needed = packets.needed(container, picture, times[0], times[-1] + packets.ROUNDING)
    presented = [packets.ticks(packet) for packet in needed[:-1] if not packet.is_discard]
    wanted = on_screen(picture, presented, times)
    frames = decode(container, picture, needed, len(needed), wanted)
    convert = Converter(picture, short_side)
    arrays: list[np.ndarray] = []
    for frame, count in shown(picture, frames, times):
        arrays += [convert(frame)] * count
    return convert.upright(np.stack([arrays[place] for place in order]))


def on_screen(picture: av.VideoStream, presented: list[int], times: np.ndarray) -> set[int]:
    """Finds which frames are on screen at given times, from the times when frames appear.

    Args:
        picture: The stream of the picture.
        presented: Times when the frames appear, in the stream's unit, in any order.
        times: (T,) float64 seconds on the container's clock.

    Returns:
        The entries of `presented` of the frames on screen.

    Raises:
        ValueError: `presented` is empty.
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
    """Finds the frames on screen at given times among decoded frames.

    Args:
        picture: The stream of the picture.
        frames: Its frames in presentation order.
        times: (T,) float64 ascending seconds on the container's clock.

    Yields:
        Each frame that is on screen at one or more of the times, and the number of those times.

    Raises:
        ValueError: There is no frame.
    """
    unit = float(picture.time_base)
    limits = times + packets.ROUNDING
    done, frame = 0, None
    for following in frames:
        # A frame is on screen until the next one appears.
        until = np.searchsorted(limits, packets.ticks(following) * unit)
        if frame is not None and until > done:
            yield frame, until - done
            done = until
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
    """Decodes packets, and skips those that are neither wanted nor needed to decode wanted ones.

    Args:
        container: The open file that the packets come from.
        picture: The stream of the picture.
        needed: Packets in decoding order, starting with a keyframe. The last one is empty.
        count: Number of packets.
        wanted: Presentation times of the wanted packets, as returned by `packets.ticks`.

    Yields:
        Frames in presentation order, including all wanted ones.

    Raises:
        av.error.InvalidDataError: Too many packets do not decode. A few are skipped, as players do.
    """
    decoder = picture.codec_context
    # If packets have slots, the frames come in presentation order and take one slot each.
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
                # This decoder returns one frame per packet, one packet late if frames may be
                # reordered.
                late = decoder.has_b_frames and previous is not None
                frame.pts = previous if late else packet.dts
            elif slots:
                frame.pts = heapq.heappop(slots)  # the first free slot
            yield frame
        previous = packet.dts


def aspect_ratio(frame: av.VideoFrame | av.VideoStream, picture: av.VideoStream) -> float:
    """Returns the width over the height on screen, before a frame is turned upright.

    Args:
        frame: A frame, or the stream, whose header states the width and the height too.
        picture: The stream of the picture, which states the shape of the pixels.

    Raises:
        ValueError: The aspect ratio is not credible.
    """
    aspect = frame.width * float(picture.sample_aspect_ratio or 1) / frame.height
    if not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
        raise ValueError(
            f"a frame of {frame.width} x {frame.height} pixels has aspect ratio {aspect:.3g}; "
            f"allowed: 1/{LARGEST_ASPECT} to {LARGEST_ASPECT}"
        )
    return aspect


class Converter:
    """Converter from decoded frames to arrays, all with the size and orientation of the first.

    Args:
        picture: The stream of the frames.
        short_side: Shorter side of the arrays in pixels. It may exceed that of the frames.
    """

    def __init__(self, picture: av.VideoStream, short_side: int) -> None:
        self._short_side = short_side
        self._picture = picture
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._matrix = np.eye(2)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Converts a frame to (h, w, 3) uint8 RGB, not yet turned upright."""
        if self._size is None:
            self._size = self._scaled_size(frame)
            # Fixed-point numbers (a, b, u, c, d, v, x, y, w). They map a point (p, q) of the stored
            # frame to (a p + c q + x, b p + d q + y) on screen.
            matrix = frame.side_data.get("DISPLAYMATRIX")
            if matrix is not None:
                self._matrix = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2]
        height, width = self._size
        # Planar RGB: FFmpeg and NumPy together are faster with planes than FFmpeg with pixels.
        return self._reformatter.reformat(
            frame, width, height, "gbrp", interpolation=_SCALING, threads=1
        ).to_ndarray()

    def upright(self, frames: np.ndarray) -> np.ndarray:
        """Turns and mirrors frames (..., h, w, 3) as the file says that they are shown."""
        (across, swap), (other_swap, down) = self._matrix
        if abs(swap) > abs(across):
            frames, across, down = frames.swapaxes(-3, -2), other_swap, swap
        rows, columns = (slice(None, None, -1 if sign < 0 else 1) for sign in (down, across))
        return np.ascontiguousarray(frames[..., rows, columns, :])

    def _scaled_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Returns the height and width of the arrays, with square pixels."""
        aspect = aspect_ratio(frame, self._picture)
        long_side = round(self._short_side * max(aspect, 1 / aspect))
        if aspect < 1:
            return long_side, self._short_side
        return self._short_side, long_side
