"""The picture of media files: the frames on screen at given times, upright and scaled."""

import collections.abc

import av
import av.video.reformatter
import numpy as np

from input_pipeline import packets

LARGEST_FAILURE = 0.1  # share of the packets that may fail to decode; a player gets over a few

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
    limits = times + packets.ROUNDING  # the latest that the frames on screen may have started
    needed = packets.needed(container, picture, times[0], limits[-1])
    unit = float(picture.time_base)
    kept = [packet for packet in needed[:-1] if not packet.is_discard]
    presented = np.unique([packets.ticks(packet) for packet in kept])
    if not len(presented):
        raise ValueError("no packet of the picture decodes")
    wanted = np.searchsorted(presented * unit, limits, side="right") - 1
    wanted = set(presented[np.maximum(wanted, 0)].tolist())
    convert = _Converter(short_side, float(picture.sample_aspect_ratio or 1))
    shown: list[np.ndarray] = []
    frame = None
    for following in decode(picture.codec_context, needed, wanted):
        # What shows at a time is known once the next frame comes.
        over = np.searchsorted(limits, packets.ticks(following) * unit)
        if frame is not None and over > len(shown):
            shown += [convert(frame)] * (over - len(shown))
        frame = following
    if frame is None:
        raise ValueError("no packet of the picture decodes")
    shown += [convert(frame)] * (len(limits) - len(shown))
    return convert.upright(np.stack([shown[place] for place in order]))


def decode(
    decoder: av.VideoCodecContext, needed: list[av.Packet], wanted: set[int]
) -> collections.abc.Iterator[av.VideoFrame]:
    """Decodes packets, leaving out what neither is wanted nor needed for what is.

    Args:
        decoder: The stream's decoder.
        needed: Packets in decoding order, from a keyframe on.
        wanted: When the wanted ones of them are presented, as `packets.ticks` says.

    Yields:
        Frames in the order of presentation, all wanted ones among them.

    Raises:
        av.error.InvalidDataError: Too many packets do not decode; a player gets over a few.
    """
    failures = 0
    for packet in needed:
        if decoder.name in _SKIPPABLE:
            decoder.skip_frame = "DEFAULT" if packets.ticks(packet) in wanted else "NONREF"
        try:
            yield from decoder.decode(packet)
        except av.error.InvalidDataError:
            failures += 1
            if failures > LARGEST_FAILURE * len(needed):
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
        return self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation=_SCALING, threads=1
        ).to_ndarray()

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
