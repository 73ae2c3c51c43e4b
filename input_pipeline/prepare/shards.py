"""One shard of a prepared data set, which depends on the files and the settings alone.

A shard is an ArrayRecord file. Beside it, a note says what became of each recording. The note is
written last: if it exists and belongs to the same plan, the shard is finished.
"""

import dataclasses
import errno
import io
import json
import os
import typing
from collections.abc import Callable

import numpy as np
import PIL.Image

from input_pipeline.datasets.listing import Entry
from input_pipeline.files import atomic, sealed
from input_pipeline.media import containers, reader
from input_pipeline.prepared import manifest, records

CRASHED = "crashed the decoder"
TOO_LONG = "too long"
# All reasons why a recording that exists may be left out.
REASONS = (*reader.REASONS, TOO_LONG, CRASHED)

# Errors of names that lead to no file: of nothing, of a file's content, of links in a circle.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_Result = typing.TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that decide what becomes of a recording.

    Attributes:
        frame_rate: Frames per second.
        short_side: Shorter side of the frames in pixels.
        require: What a recording must have, from `listing.REQUIREMENTS`.
        min_seconds: Recordings shorter than this are left out.
        max_seconds: Recordings longer than this are left out.
    """

    frame_rate: float
    short_side: int
    require: str
    min_seconds: float
    max_seconds: float


@dataclasses.dataclass(frozen=True)
class Job:
    """A shard to write.

    Attributes:
        path: Path of the shard.
        note_path: Path of its note.
        root: Folder that the entries' paths are relative to.
        entries: Recordings of the shard.
        settings: Settings for all recordings.
        plan: Digest of the plan that the shard belongs to.
        crashing: Places in `entries` of recordings that crash the process that reads them.
    """

    path: str
    note_path: str
    root: str
    entries: tuple[Entry, ...]
    settings: Settings
    plan: str
    crashing: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Note:
    """What became of a shard's recordings.

    Attributes:
        plan: Digest of the plan, see `Job`.
        file: Size and digests of the shard.
        kept: Place in the entries, number of frames and number of samples of each record, in order.
        left_out: Reason of each recording that was left out, by its place in the entries.
    """

    plan: str
    file: manifest.File
    kept: tuple[tuple[int, int, int], ...]
    left_out: dict[int, str]


def write(job: Job, announce: Callable[[int], None] = lambda place: None) -> None:
    """Writes a shard and its note.

    Args:
        job: The shard.
        announce: Called before each recording with its place, and at the end with their number.

    Raises:
        OSError: A file cannot be written, or a recording cannot be accessed.
    """
    # Imported here, as it is slow to load and only needed by writers.
    from array_record.python.array_record_module import ArrayRecordWriter

    kept, left_out = [], {}
    with atomic.replacing(job.path) as draft:
        writer = _on_disk(job.path, ArrayRecordWriter, os.fspath(draft), records.SHARD_OPTIONS)
        try:
            for place, entry in enumerate(job.entries):
                announce(place)
                if place in job.crashing:
                    left_out[place] = CRASHED
                    continue
                try:
                    record = read(entry, job.root, job.settings)
                except reader.MediaError as error:
                    if _access_denied(error):
                        raise error.__cause__ from None
                    left_out[place] = error.reason
                    continue
                _on_disk(job.path, writer.write, records.serialize(record))
                kept.append((place, len(record.frames), len(record.waveform)))
        finally:
            _on_disk(job.path, writer.close)
        file = manifest.describe(draft)
    note = dataclasses.asdict(Note(job.plan, file, tuple(kept), left_out))
    atomic.write_text(job.note_path, json.dumps(sealed.seal(note)))
    announce(len(job.entries))


def _on_disk(path: str, call: Callable[..., _Result], *arguments: object) -> _Result:
    """Calls ArrayRecord, and turns its RuntimeError, as for a full disk, into an OSError."""
    try:
        return call(*arguments)
    except RuntimeError as error:
        raise OSError(f"{path}: {str(error).partition(';')[0]}") from error


def _access_denied(error: reader.MediaError) -> bool:
    """Returns whether a file exists but could not be accessed, so its content is unknown."""
    number = getattr(error.__cause__, "errno", None)
    return error.reason == containers.INACCESSIBLE and number not in _NO_FILE


def finished(job: Job) -> Note | None:
    """Returns the note of a shard that is finished.

    Args:
        job: The shard.

    Returns:
        The note. None if there is no note, the note belongs to another plan, or the shard's size
        differs from the one in the note.
    """
    try:
        values = sealed.unseal(sealed.load_json(job.note_path))
        note = Note(
            plan=values["plan"],
            file=manifest.File(**values["file"]),
            kept=tuple(map(tuple, values["kept"])),
            left_out={int(place): reason for place, reason in values["left_out"].items()},
        )
        same_size = os.path.getsize(job.path) == note.file.bytes
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return note if same_size and note.plan == job.plan else None


def read(entry: Entry, root: str | os.PathLike, settings: Settings) -> records.Record:
    """Decodes a recording into a record.

    Args:
        entry: The recording.
        root: Folder that its path is relative to.
        settings: Settings of the record.

    Returns:
        The record.

    Raises:
        media.MediaError: The file is not usable, or lacks what the settings require.
    """
    path = os.path.join(root, entry.path)
    max_frames, encoded = settings.max_seconds * settings.frame_rate + 1, 0

    def encode(frame: np.ndarray) -> bytes:
        nonlocal encoded
        encoded += 1
        if encoded > max_frames:  # stop early: hours of video take hours and fill the memory
            raise reader.MediaError(TOO_LONG, path)
        return encode_jpeg(frame)

    recording = reader.read_recording(
        path,
        frame_rate=settings.frame_rate,
        short_side=settings.short_side,
        sample_rate=records.SAMPLE_RATE,
        encode=encode,
    )
    info = recording.info
    if settings.require in ("picture", "both") and not info.has_picture:
        raise reader.MediaError(containers.NO_PICTURE, path)
    if settings.require in ("sound", "both") and not info.has_audio:
        raise reader.MediaError(containers.NO_SOUND, path)
    if info.duration < settings.min_seconds:
        raise reader.MediaError(containers.TOO_SHORT, path)
    if info.duration > settings.max_seconds:
        raise reader.MediaError(TOO_LONG, path)
    waveform = recording.waveform if info.has_audio else np.zeros(0, np.float32)
    return records.Record(
        name=entry.name,
        frames=recording.frames,
        frame_times=recording.frame_times,
        waveform=to_int16(waveform),
        labels=entry.labels,
        roles=entry.roles,
    )


def encode_jpeg(frame: np.ndarray) -> bytes:
    """Encodes a frame (h, w, 3) uint8 RGB as a JPEG file."""
    file = io.BytesIO()
    image = PIL.Image.fromarray(frame)
    image.save(file, "JPEG", quality=records.JPEG_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Converts a waveform (S,) float32 in [-1, 1] to int16, the nearest multiples of 1 / 32768."""
    return np.clip(np.round(waveform * 32768.0), -32768, 32767).astype(np.int16)
