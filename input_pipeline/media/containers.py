"""Media files as containers of streams: safe opening, and reasons why a file cannot be used."""

import collections.abc
import contextlib
import errno
import os
import time

import av

from input_pipeline.files import limited_file
from input_pipeline.media.picture import aspect_ratio

UNREADABLE = "unreadable"  # not a media file
INACCESSIBLE = "cannot be accessed"  # no permission, does not exist, too many open files
EMPTY = "empty file"
CORRUPT = "corrupt"  # its packets do not decode, or its timestamps make no sense
TRUNCATED = "truncated"  # it ends before its header says
NO_PICTURE = "no picture"
NO_SOUND = "no sound"
TOO_SHORT = "too short"  # for the caller; this module does not raise it

# All reasons why a file is unusable.
REASONS = (UNREADABLE, INACCESSIBLE, EMPTY, CORRUPT, TRUNCATED, NO_PICTURE, NO_SOUND, TOO_SHORT)

# Formats of containers that hold their own media. FFmpeg would also open playlists, whatever the
# file's name, and these could make it read other files or the network.
_WITH_PICTURE = "mov,matroska,avi,asf,flv,mpeg,mpegts,ogg,gif,mxf,rm,nut,dv,wtv"
_SOUND_ALONE = "wav,w64,flac,mp3,aac,ac3,eac3,amr,aiff,caf,au"
# Formats whose headers state the true duration. For the others FFmpeg guesses it.
_WITH_DURATION = ("mov", "matroska", "avi", "flac", "aiff", "caf")

# Credible values. Headers with others are damaged.
_SAMPLE_RATES = range(1_000, 1_000_001)  # Hz
_MAX_PIXELS = 1 << 26  # in a frame: 8192 x 8192

# Largest number of parts to look at to tell whether a file is truncated. Whole files have fewer.
_MOST_CHUNKS = 1_000  # in a WAV
_MOST_BOXES = 100_000  # in an MP4; a streamed one has a few per second

# Bytes of a sparse file that may be missing. Above, it is an unfinished download or a trap: FFmpeg
# reads the holes as zeros, some at 6 MB/s.
_LARGEST_HOLES = 1 << 26
# Formats without packets of their own. FFmpeg looks for the frames in the bytes, and keeps in
# memory what it has not found any in.
UNPACKETED = ("mp3", "aac", "ac3", "eac3", "flac", "gif")
_GIF = b"GIF8"  # how a GIF begins

# Temporary errors of the system, and the waits before each new attempt.
_TEMPORARY = (errno.EMFILE, errno.ENFILE, errno.ESTALE)
_RETRY_SECONDS = (0.1, 0.5, 2.0)


class MediaError(ValueError):
    """A media file that cannot be used.

    Attributes:
        reason: Why it cannot be used, from `REASONS`.
        path: Path of the file.
    """

    def __init__(self, reason: str, path: str | os.PathLike) -> None:
        super().__init__(f"{reason}: {os.fspath(path)}")
        self.reason = reason
        self.path = os.fspath(path)


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> collections.abc.Iterator[av.container.InputContainer]:
    """Opens a file, and closes it at the end of the context.

    Raises:
        MediaError: The file cannot be opened, or an error occurred within the context.
    """
    # FFmpeg cannot mistake an absolute path for a URL.
    path = os.path.abspath(path)
    for seconds in (*_RETRY_SECONDS, None):
        try:
            container = _open(path)
            break
        except OSError as error:
            if error.errno not in _TEMPORARY or seconds is None:
                raise MediaError(INACCESSIBLE, path) from error
            time.sleep(seconds)
    with container, getattr(container.file, "file", contextlib.nullcontext()):
        try:
            yield container
        except MediaError:
            raise
        except (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError) as error:
            temporary = getattr(error, "errno", None) in _TEMPORARY
            raise MediaError(INACCESSIBLE if temporary else CORRUPT, path) from error


def _open(path: str) -> av.container.InputContainer:
    """Opens a file.

    Raises:
        MediaError: The file is not a media file.
        OSError: The system refuses to open the file.
    """
    if os.path.getsize(path) == 0:
        raise MediaError(EMPTY, path)
    with open(path, "rb") as file:  # raises the system's errors, unlike FFmpeg
        if _is_hollow(file.fileno()):
            raise MediaError(TRUNCATED, path)
        is_gif = file.read(len(_GIF)) == _GIF
    options = {
        "format_whitelist": f"{_WITH_PICTURE},{_SOUND_ALONE}",
        "protocol_whitelist": "file",
    }
    try:
        if not is_gif:  # FFmpeg would read all of a frame without an end to see what it holds
            container = av.open(path, options=options, metadata_errors="replace")
            if container.format.name not in UNPACKETED:
                return container
            container.close()
        file = limited_file.LimitedFile(path)
        with file.limited(limited_file.MOST_AHEAD):
            container = av.open(file, options=options, metadata_errors="replace")
            file.found_packet()
        return container
    except (av.FFmpegError, OSError, ValueError) as error:
        if getattr(error, "errno", None) in _TEMPORARY:
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        raise MediaError(TRUNCATED if _boxes_missing(path) else UNREADABLE, path) from error


def _is_hollow(descriptor: int) -> bool:
    """Returns whether most of a file, and not little, are holes that were never written."""
    status = os.fstat(descriptor)
    if status.st_blocks * 512 >= status.st_size - _LARGEST_HOLES:
        return False
    limit = max(_LARGEST_HOLES, status.st_size // 2)
    holes = position = 0
    with contextlib.suppress(OSError):  # there are no data after the position
        while holes <= limit:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
            holes += data - position
            position = os.lseek(descriptor, data, os.SEEK_HOLE)
    return holes + max(status.st_size - position, 0) > limit


def streams(
    container: av.container.InputContainer,
) -> tuple[av.VideoStream | None, av.AudioStream | None]:
    """Chooses the video and the audio stream of a file, and sets each to decode in one thread.

    Returns:
        The streams of the picture and of the sound that belongs to it, each None if there is none.

    Raises:
        ValueError: The picture's size is not credible.
    """
    # The cover art of a music file is a video stream too, but not a picture.
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
        raise ValueError(f"frames of {picture.width} x {picture.height} pixels are too large")
    if picture is not None:  # here too, so that probing a file fails as reading it would
        aspect_ratio(picture, picture)
    return picture, sound


def ends_early(
    container: av.container.InputContainer, stream: av.stream.Stream, stream_end: float, end: float
) -> bool:
    """Returns whether the packets end clearly before the time that the header states.

    Args:
        container: The open file.
        stream: Its picture, or its sound if there is no picture.
        stream_end: When the stream ends, in seconds on the container's clock.
        end: When the last of all streams ends, unused streams included, in seconds on the
            container's clock.
    """
    if container.format.name == "wav":
        return stream_end < 0.95 * stream_end / _wav_share(container.name) - 0.1
    if not set(container.format.name.split(",")) & set(_WITH_DURATION):
        return False
    if stream.duration:
        stated = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        return stream_end < 0.95 * stated - 0.1
    # Programs that write Matroska disagree on whether this counts from 0 or from the start.
    return end < 0.95 * (container.duration or 0) / av.time_base - 0.1


def _wav_share(path: str) -> float:
    """Returns the share of a WAV's stated sound that is in the file.

    It is 1 if the header states no length. The share is counted in bytes, since the byte rate in
    the header is often nominal.
    """
    with open(path, "rb") as file:
        file.seek(12)
        for _ in range(_MOST_CHUNKS):
            header = file.read(8)
            length = int.from_bytes(header[4:], "little")
            if len(header) < 8:
                break
            if header[:4] == b"data":
                remaining = os.path.getsize(path) - file.tell()
                stated = not _is_placeholder(length)
                return min(remaining / length, 1.0) if stated and remaining else 1.0
            file.seek(length + length % 2, os.SEEK_CUR)
    return 1.0


def _is_placeholder(length: int) -> bool:
    """Returns whether a WAV's stated length is a placeholder.

    Programs that write to a pipe do not know the length. They state 0, 0xFFFFFFFF, 0x7FFFF000
    (SoX), 0x80000000 or values just below.
    """
    return (length + (1 << 16)) % (1 << 31) <= 1 << 16


def _boxes_missing(path: str) -> bool:
    """Returns whether a file is an MP4 or MOV whose last box is cut off (a broken download)."""
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
