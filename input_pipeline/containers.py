"""Media files as containers of streams: opening them safely, and why a file cannot be used."""

import collections.abc
import contextlib
import errno
import os
import time

import av

from input_pipeline.picture import aspect_ratio

UNREADABLE = "unreadable"  # not a media file
INACCESSIBLE = "cannot be accessed"  # whatever it holds: no rights, not there, too many open files
EMPTY = "empty file"
CORRUPT = "corrupt"  # its packets do not decode, or its timestamps make no sense
TRUNCATED = "truncated"  # it ends before its header says
NO_PICTURE = "no picture"
NO_SOUND = "no sound"
TOO_SHORT = "too short"  # for its user; nothing here says so

# Why a file is unusable: all that a `MediaError` or a report may give.
REASONS = (UNREADABLE, INACCESSIBLE, EMPTY, CORRUPT, TRUNCATED, NO_PICTURE, NO_SOUND, TOO_SHORT)

# Containers that hold their media themselves. Playlists and the like, which FFmpeg would also open
# whatever the file is called, could make it read other files or the network.
_WITH_PICTURE = "mov,matroska,avi,asf,flv,mpeg,mpegts,ogg,gif,mxf,rm,nut,dv,wtv"
_SOUND_ALONE = "wav,w64,flac,mp3,aac,ac3,eac3,amr,aiff,caf,au"
# Those of them whose headers state a true duration; elsewhere FFmpeg guesses it.
_WITH_DURATION = ("mov", "matroska", "avi", "flac", "aiff", "caf")

# What damaged headers may say, and what then is not to be believed.
_SAMPLE_RATES = range(1_000, 1_000_001)  # Hz
_MAX_PIXELS = 1 << 26  # of a frame: 8192 x 8192

# Parts of a file that are looked at to tell whether it is cut off; whole ones have fewer.
_MOST_CHUNKS = 1_000  # of a WAV
_MOST_BOXES = 100_000  # of an MP4, a few for each second if it was streamed

# Errors of the system that pass, and when to try again.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ESTALE)
_RETRY_SECONDS = (0.1, 0.5, 2.0)


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


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> collections.abc.Iterator[av.container.InputContainer]:
    """Opens a file and closes it again.

    Raises:
        MediaError: The file cannot be opened, or anything went wrong in between.
    """
    # An absolute path cannot be taken for an address.
    path = os.path.abspath(path)
    for seconds in (*_RETRY_SECONDS, None):
        try:
            container = _open(path)
            break
        except OSError as error:
            if error.errno not in _PASSING or seconds is None:
                raise MediaError(INACCESSIBLE, path) from error
            time.sleep(seconds)
    with container:
        try:
            yield container
        except MediaError:
            raise
        except (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError) as error:
            passes = getattr(error, "errno", None) in _PASSING
            raise MediaError(INACCESSIBLE if passes else CORRUPT, path) from error


def _open(path: str) -> av.container.InputContainer:
    """Opens a file.

    Raises:
        MediaError: The file is no media file.
        OSError: The system does not let it be opened.
    """
    if os.path.getsize(path) == 0:
        raise MediaError(EMPTY, path)
    with open(path, "rb"):  # its errors are the system's alone
        pass
    options = {
        "format_whitelist": f"{_WITH_PICTURE},{_SOUND_ALONE}",
        "protocol_whitelist": "file",
    }
    try:
        return av.open(path, options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        if getattr(error, "errno", None) in _PASSING:
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        raise MediaError(TRUNCATED if _boxes_missing(path) else UNREADABLE, path) from error


def streams(
    container: av.container.InputContainer,
) -> tuple[av.VideoStream | None, av.AudioStream | None]:
    """The picture and the sound that goes with it, or None, each set to decode in one thread."""
    # Cover art of music files comes as a video stream too.
    pictures = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    best = container.streams.best("video")
    picture = best if best in pictures else next(iter(pictures), None)
    if picture is not None and picture.codec_context is None:
        picture = None
    sound = container.streams.best("audio", picture)
    if sound is not None and (
        sound.codec_context is None or sound.codec_context.sample_rate not in _SAMPLE_RATES
    ):
        sound = None
    for stream in filter(None, (picture, sound)):
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
    if picture is not None and picture.width * picture.height > _MAX_PIXELS:
        raise ValueError("the frames are too large to be true")
    if picture is not None:  # here, so that probing a file says what reading it would
        aspect_ratio(picture, picture)
    return picture, sound


def ends_early(
    container: av.container.InputContainer, stream: av.stream.Stream, stream_end: float, end: float
) -> bool:
    """Whether the packets end clearly before the time that the header states.

    Args:
        container: The file.
        stream: Its picture, or its sound if there is none.
        stream_end: When that ends, in seconds on the container's clock.
        end: When the last of all its streams does, those included that nobody uses.
    """
    if container.format.name == "wav":
        return stream_end < 0.95 * stream_end / _wav_share(container.name) - 0.1
    if not set(container.format.name.split(",")) & set(_WITH_DURATION):
        return False
    if stream.duration:
        stated = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        return stream_end < 0.95 * stated - 0.1
    # Matroska's writers do not agree on whether this counts from 0 or from the start.
    return end < 0.95 * (container.duration or 0) / av.time_base - 0.1


def _wav_share(path: str) -> float:
    """The share of the sound that a WAV's header states which is there; 1 if it states none.

    It is told by the bytes, since the header's byte rate is often a nominal one.
    """
    with open(path, "rb") as file:
        file.seek(12)
        for _ in range(_MOST_CHUNKS):
            header = file.read(8)
            length = int.from_bytes(header[4:], "little")
            if len(header) < 8:
                break
            if header[:4] == b"data":
                there = os.path.getsize(path) - file.tell()
                stated = not _is_placeholder(length)
                return min(there / length, 1.0) if stated and there else 1.0
            file.seek(length + length % 2, os.SEEK_CUR)
    return 1.0


def _is_placeholder(length: int) -> bool:
    """Whether the length of a WAV's sound is one that programs write who do not know it yet.

    Into a pipe, they write 0, 0xFFFFFFFF, 0x7FFFF000 (SoX), 0x80000000 and others just below.
    """
    return (length + (1 << 16)) % (1 << 31) <= 1 << 16


def _boxes_missing(path: str) -> bool:
    """Whether a file is an MP4 or MOV whose last box is cut off, as in a broken download."""
    try:
        with open(path, "rb") as file:
            size, position, first = os.path.getsize(path), 0, True
            for _ in range(_MOST_BOXES):
                if position >= size:
                    break
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
