"""One shard of a prepared data set: a function of the files and of the settings alone.

A shard is an ArrayRecord file, and a note beside it of what came of each recording. The note is
written last: where it is, and of the same plan, the shard is finished.
"""

import dataclasses
import io
import json
import os
import typing
from collections.abc import Callable

import numpy as np
import PIL.Image

from input_pipeline import atomic, containers, manifest, media, records, sealed
from input_pipeline.datasets.listing import Entry

CRASHED = "crashed the decoder"
TOO_LONG = "too long"
# Why a recording that is there has been left out.
REASONS = (*media.REASONS, TOO_LONG, CRASHED)

_Result = typing.TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a recording becomes, beside what is in it.

    Attributes:
        frame_rate: Frames per second.
        short_side: Pixels of the frames' shorter side.
        require: What a recording must have, out of `listing.REQUIREMENTS`.
        min_seconds: Shorter recordings are left out.
        max_seconds: Longer recordings are left out.
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
        path: Of the shard.
        note_path: Of its note.
        root: Folder that the entries' paths are relative to.
        entries: The recordings.
        settings: What becomes of them.
        plan: Fingerprint of the plan that the shard is part of.
        crashing: Places in `entries` of recordings that end the process that reads them.
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
    """What came of a shard's recordings.

    Attributes:
        plan: See `Job`.
        file: What the shard's file is.
        kept: Place in the entries, number of frames and number of samples of each record, in order.
        left_out: Reasons by place in the entries.
    """

    plan: str
    file: manifest.File
    kept: tuple[tuple[int, int, int], ...]
    left_out: dict[int, str]


def write(job: Job, announce: Callable[[int], None] = lambda place: None) -> None:
    """Writes a shard and its note.

    Args:
        job: The shard.
        announce: Called before each recording with its place, and after all with their number.

    Raises:
        OSError: They cannot be written, or a recording cannot be accessed.
    """
    # Loads only where it is needed: it takes its time.
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
                except media.MediaError as error:
                    if _hindered(error):
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
    """Calls ArrayRecord, which raises a RuntimeError for a full disk; ours is an OSError."""
    try:
        return call(*arguments)
    except RuntimeError as error:
        raise OSError(f"{path}: {str(error).partition(';')[0]}") from error


def _hindered(error: media.MediaError) -> bool:
    """Whether the system let nobody look at a file that is there: that says nothing of it."""
    missing = isinstance(error.__cause__, FileNotFoundError)
    return error.reason == containers.INACCESSIBLE and not missing


def finished(job: Job) -> Note | None:
    """What came of a shard's recordings, if the shard is finished.

    Args:
        job: The shard.

    Returns:
        Its note; None where there is none, or one of another plan, or the shard is not as it says.
    """
    try:
        values = sealed.unseal(sealed.load_json(job.note_path))
        note = Note(
            plan=values["plan"],
            file=manifest.File(**values["file"]),
            kept=tuple(map(tuple, values["kept"])),
            left_out={int(place): reason for place, reason in values["left_out"].items()},
        )
        whole = os.path.getsize(job.path) == note.file.bytes
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return note if whole and note.plan == job.plan else None


def read(entry: Entry, root: str | os.PathLike, settings: Settings) -> records.Record:
    """Decodes a recording into the record to be kept of it.

    Args:
        entry: The recording.
        root: Folder that its path is relative to.
        settings: What becomes of it.

    Returns:
        The record.

    Raises:
        media.MediaError: The file is not usable, or not what the settings require.
    """
    path = os.path.join(root, entry.path)
    most, encoded = settings.max_seconds * settings.frame_rate + 1, 0

    def encode(frame: np.ndarray) -> bytes:
        nonlocal encoded
        encoded += 1
        if encoded > most:  # hours would take hours, and their frames the memory
            raise media.MediaError(TOO_LONG, path)
        return encode_jpeg(frame)

    recording = media.read_recording(
        path,
        frame_rate=settings.frame_rate,
        short_side=settings.short_side,
        sample_rate=records.SAMPLE_RATE,
        encode=encode,
    )
    info = recording.info
    if settings.require in ("picture", "both") and not info.has_picture:
        raise media.MediaError(containers.NO_PICTURE, path)
    if settings.require in ("sound", "both") and not info.has_audio:
        raise media.MediaError(containers.NO_SOUND, path)
    if info.duration < settings.min_seconds:
        raise media.MediaError(containers.TOO_SHORT, path)
    if info.duration > settings.max_seconds:
        raise media.MediaError(TOO_LONG, path)
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
    """A frame (h, w, 3) uint8, RGB, as a JPEG file."""
    file = io.BytesIO()
    image = PIL.Image.fromarray(frame)
    image.save(file, "JPEG", quality=records.JPEG_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Sound (S,) float32 in [-1, 1] as int16: the nearest multiples of 1 / 32768."""
    return np.clip(np.round(waveform * 32768.0), -32768, 32767).astype(np.int16)
