"""Media files in a folder, read in place."""

import collections
import functools
import hashlib
import json
import pathlib
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.files import atomic
from input_pipeline.media import reader
from input_pipeline.programs import wording
from input_pipeline.programs.terminal import printable
from input_pipeline.sources import UnusableError

_WARNINGS = 10  # number of files that fail when read for which a warning is shown


class MediaFile(NamedTuple):
    """A usable file.

    Attributes:
        path: Path relative to the folder, with forward slashes.
        label: Name of the subfolder that is the file's class; empty if there is none.
        info: Content of the file.
        stamp: Size in bytes and time of change in nanoseconds.
    """

    path: str
    label: str
    info: reader.MediaInfo
    stamp: tuple[int, int]


class ClipForm(NamedTuple):
    """What all clips have in common.

    Attributes:
        seconds: Length in seconds.
        frame_rate: Frames per second.
        short_side: Shorter side of the frames in pixels.
        sample_rate: Sample rate of the sound in Hz.
    """

    seconds: float
    frame_rate: float
    short_side: int
    sample_rate: int


class FolderSource:
    """The usable media files under a folder, in the order of their relative paths.

    If a file turns out to be broken when it is read, the next readable file takes its place, with
    one warning and a count in `report`. If too many files break, reading raises an error.

    Args:
        root: Folder of the files.
        files: N usable files, in the order of their paths.
        form: Form of the clips.
        left_out: Reason by name for each unusable file and each unreadable folder under `root`.
        ignored: Number of files under `root` that do not have a media file's extension.
        report_path: File to write `report` to as JSON, updated as files break; or None.
        max_bad_fraction: Largest allowed share of unusable files, at the start and later.

    Attributes:
        labels: (N,) int64, indices into `class_names`; None unless every file has a class.
        label_sets: N tuples of such indices, empty for files without a class.
        class_names: Names of the classes' folders, sorted.
        roles: (N, 0) int64, empty because a folder has no official partitions.
        partitions: Empty tuple.
        has_video: (N,) bool, True: files without a picture are not usable.
        has_audio: (N,) bool, whether the file has sound.
    """

    def __init__(
        self,
        root: pathlib.Path,
        files: Sequence[MediaFile],
        form: ClipForm,
        *,
        left_out: dict[str, str],
        ignored: int = 0,
        report_path: pathlib.Path | None = None,
        max_bad_fraction: float = 1.0,
    ) -> None:
        self._root = root
        self._max_bad_fraction = max_bad_fraction
        self._report_path = report_path
        self._files = files
        self._form = form
        self._left_out = left_out
        self._ignored = ignored
        self._failed: dict[str, str] = {}  # name -> reason, for files that failed when read
        self._replaced = 0
        self._lock = threading.Lock()
        labels = [file.label for file in files]
        self.class_names = tuple(sorted({*labels} - {""}))
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self.label_sets = [(numbers[name],) if name else () for name in labels]
        self.labels = np.array([*map(numbers.get, labels)], np.int64) if all(labels) else None
        self.roles, self.partitions = np.zeros((len(files), 0), np.int64), ()
        self.has_video = np.ones(len(files), bool)
        self.has_audio = np.array([file.info.has_audio for file in files], bool)

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        """Returns a file's path relative to the root, as `terminal.printable` writes it."""
        return printable(self._files[index].path)

    def path(self, index: int) -> pathlib.Path:
        """Returns the path of a file."""
        return self._root / self._files[index].path

    def read(self, index: int, position: float) -> reader.Clip:
        """Reads the clip of a file that starts at `position * max(0, duration - seconds)`.

        Args:
            index: Index of the file, in [0, N).
            position: Position in [0, 1].

        Returns:
            The clip, or that of the next readable file if this one cannot be read.

        Raises:
            UnusableError: Too large a share of the files has become unusable.
            MediaError: No file can be read.
        """
        error: reader.MediaError | None = None
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            if step and self.name(candidate) in self._failed:
                continue
            try:
                clip = self._read(candidate, position)
            except reader.MediaError as failure:
                error = failure
                self._note_failure(self.name(candidate), failure.reason)
                continue
            if step:
                with self._lock:
                    self._replaced += 1
            return clip
        raise error or IndexError(index)

    def _read(self, index: int, position: float) -> reader.Clip:
        """Reads the clip of this very file; raises MediaError if that fails."""
        info = self._files[index].info
        start = position * max(0.0, info.duration - self._form.seconds)
        return reader.read_clip(self.path(index), start, *self._form, info=info)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the files' names, sizes and times of change."""
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(repr((file.path, *file.stamp)).encode())
        return digest.hexdigest()

    @functools.cached_property
    def inventory(self) -> dict[str, int | str]:
        """Number of files, and a digest of their names and sizes."""
        digest = hashlib.sha256()
        for file in self._files:
            size, _ = file.stamp
            digest.update(repr((file.path, size)).encode())
        return {"recordings": len(self), "digest": digest.hexdigest()}

    @property
    def replaced(self) -> int:
        """Number of clips that were taken from another file than the requested one."""
        with self._lock:
            return self._replaced

    @property
    def failed(self) -> dict[str, str]:
        """Reason by name for each file that failed when read and was replaced by another one."""
        with self._lock:
            return dict(self._failed)

    @property
    def report(self) -> dict[str, object]:
        """JSON-ready summary of the files that were found and left out.

        `files`, `usable`, `ignored` and `without_sound` are counts. `picture_seconds` and
        `sound_seconds` are the total lengths of the usable files. `reasons` counts the files left
        out by reason, and `left_out` gives the reason of each. `failed_at_read` gives the reason of
        each file that broke later, and `substitutions` the number of clips taken from another file.
        """
        infos = [file.info for file in self._files]
        with self._lock:
            return {
                "root": str(self._root),
                "files": len(self) + len(self._left_out),
                "usable": len(self),
                "ignored": self._ignored,
                "without_sound": sum(not info.has_audio for info in infos),
                "picture_seconds": round(sum(info.duration for info in infos), 3),
                "sound_seconds": round(sum(info.sound_duration for info in infos), 3),
                "reasons": counted_reasons(self._left_out),
                "left_out": dict(self._left_out),
                "failed_at_read": dict(sorted(self._failed.items())),
                "substitutions": self._replaced,
            }

    def write_report(self) -> bool:
        """Writes `report` to its file; returns whether there is one and writing succeeded."""
        if self._report_path is None:
            return False
        try:
            atomic.write_text(self._report_path, json.dumps(self.report, indent=1))
        except OSError:  # the run goes on without the report
            return False
        return True

    def _note_failure(self, name: str, reason: str) -> None:
        """Records a failed read. Warns for the first files, raises if too many have failed."""
        with self._lock:
            known = name in self._failed
            self._failed[name] = reason
            count, files = len(self._failed), len(self) + len(self._left_out)
        if known:
            return
        bad = count + len(self._left_out)
        too_many = bad > self._max_bad_fraction * files
        # Later only at powers of two: 20,000 failures must not write the report 20,000 times.
        if too_many or count <= _WARNINGS or count & (count - 1) == 0:
            self.write_report()
        if too_many:
            reasons = wording.in_words(counted_reasons(self._left_out | self.failed))
            raise UnusableError(
                f"config.data.max_bad_fraction is {self._max_bad_fraction}, but by now "
                f"{bad} of {wording.counted(files, 'file')} of {str(self._root)!r} cannot be used: "
                f"{reasons}"
            )
        if count <= _WARNINGS:
            last = "; more such files are only counted" if count == _WARNINGS else ""
            warnings.warn(f"{name}: {reason}; the next file is read instead{last}", stacklevel=4)


def counted_reasons(reasons: Mapping[str, str]) -> dict[str, int]:
    """Counts files by the reason why they are unusable, the most frequent reason first."""
    return wording.frequent_first(collections.Counter(reasons.values()))
