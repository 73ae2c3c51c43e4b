"""A source that reads any tree of media files in place.

The classes are the top-level folders, or the folders below them if the top-level folders are
splits. Broken files are left out and reported. The first start examines every file; the results are
cached, so later starts are quick.
"""

import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import threading
import time
import warnings
from collections.abc import Sequence

import ml_collections
import numpy as np

from input_pipeline import cores
from input_pipeline.datasets import folder_index, listing, measuring, splits
from input_pipeline.files import atomic, user_cache
from input_pipeline.media import reader
from input_pipeline.programs import progress
from input_pipeline.programs.terminal import printable
from input_pipeline.sources import UnusableError

EXTENSIONS = listing.VIDEO_EXTENSIONS  # files with other extensions are ignored

_MANY = 200  # number of new files (some 2 s of a core) from which starting processes pays off
_WARNINGS = 10  # number of files that fail when read for which a warning is shown
_SAVE_SECONDS = 30.0  # between saves of the index during a scan, which may be killed


class FolderSource:
    """The usable media files under a folder, in the order of their relative paths.

    If a file turns out to be broken when it is read, the next readable file takes its place, with
    one warning and a count in `report`. If too many files break, reading raises an error.

    Args:
        root: Folder of the files.
        paths: N paths relative to `root`, with forward slashes, sorted.
        folders: For each file, the name of the folder that is its class; empty if there is none.
        infos: Content of each file.
        stamps: Size in bytes and time of change of each file.
        seconds: Length of the clips in seconds.
        frame_rate: Frames per second of the clips.
        short_side: Shorter side of the clips' frames in pixels.
        sample_rate: Sample rate of the clips in Hz.
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
        paths: list[str],
        folders: list[str],
        infos: list[reader.MediaInfo],
        stamps: list[tuple[int, int]],
        *,
        seconds: float,
        frame_rate: float,
        short_side: int,
        sample_rate: int,
        left_out: dict[str, str],
        ignored: int = 0,
        report_path: pathlib.Path | None = None,
        max_bad_fraction: float = 1.0,
    ) -> None:
        self._root = root
        self._max_bad_fraction = max_bad_fraction
        self._report_path = report_path
        self._paths = paths
        self._infos = infos
        self._stamps = stamps
        self._form = (seconds, frame_rate, short_side, sample_rate)
        self._left_out = left_out
        self._ignored = ignored
        self._failed: dict[str, str] = {}  # name -> reason, for files that failed when read
        self._replaced = 0
        self._lock = threading.Lock()
        self.class_names = tuple(sorted({*folders} - {""}))
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self.label_sets = [(numbers[name],) if name else () for name in folders]
        self.labels = np.array([*map(numbers.get, folders)], np.int64) if all(folders) else None
        self.roles, self.partitions = np.zeros((len(paths), 0), np.int64), ()
        self.has_video = np.ones(len(paths), bool)
        self.has_audio = np.array([info.has_audio for info in infos], bool)

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Returns a file's path relative to the root, as `terminal.printable` writes it."""
        return printable(self._paths[index])

    def path(self, index: int) -> pathlib.Path:
        """Returns the path of a file."""
        return self._root / self._paths[index]

    def read(self, index: int, position: float) -> reader.Clip:
        """Reads the clip of a file that starts at `position * max(0, duration - seconds)`.

        Args:
            index: Index of the file, in [0, N).
            position: Position in [0, 1].

        Returns:
            The clip, or that of the next readable file if this one cannot be read.

        Raises:
            UnusableError: Too large a share of the files has become unusable.
            media.MediaError: No file can be read.
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
        path, info = self._root / self._paths[index], self._infos[index]
        start = position * max(0.0, info.duration - self._form[0])
        return reader.read_clip(path, start, *self._form, info=info)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the files' names, sizes and times of change."""
        digest = hashlib.sha256()
        for path, stamp in zip(self._paths, self._stamps, strict=True):
            digest.update(repr((path, *stamp)).encode())
        return digest.hexdigest()

    @functools.cached_property
    def inventory(self) -> dict[str, int | str]:
        """Number of files, and a digest of their names and sizes."""
        digest = hashlib.sha256()
        for path, (size, _) in zip(self._paths, self._stamps, strict=True):
            digest.update(repr((path, size)).encode())
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
        with self._lock:
            return {
                "root": str(self._root),
                "files": len(self) + len(self._left_out),
                "usable": len(self),
                "ignored": self._ignored,
                "without_sound": sum(not info.has_audio for info in self._infos),
                "picture_seconds": round(sum(info.duration for info in self._infos), 3),
                "sound_seconds": round(sum(info.sound_duration for info in self._infos), 3),
                "reasons": _counts(self._left_out),
                "left_out": dict(self._left_out),
                "failed_at_read": dict(sorted(self._failed.items())),
                "substitutions": self._replaced,
            }

    def write_report(self) -> bool:
        """Writes `report` to its file; returns whether there is one and writing succeeded."""
        return self._report_path is not None and _write_json(self._report_path, self.report)

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
            reasons = _in_words(_counts(self._left_out | self.failed))
            raise UnusableError(
                f"config.data.max_bad_fraction is {self._max_bad_fraction}, but by now "
                f"{bad} of {files} files of {str(self._root)!r} cannot be used: {reasons}"
            )
        if count <= _WARNINGS:
            last = "; more such files are only counted" if count == _WARNINGS else ""
            warnings.warn(f"{name}: {reason}; the next file is read instead{last}", stacklevel=4)


def open_folder(data: ml_collections.ConfigDict, views: ml_collections.ConfigDict) -> FolderSource:
    """Opens the folder `data.path`, or its subfolder `data.split`, and examines every new file.

    Prints a line that sums up the files. The index and `report.json` lie in
    `$XDG_CACHE_HOME/xkd_jax` or `~/.cache/xkd_jax`, because the folder itself may be read-only.

    Args:
        data: `data` section of the config (xkd_jax/config/pretraining.py).
        views: `views` section of the config.

    Returns:
        The source.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The folder holds no usable file, or too large a share of unusable ones.
    """
    root = _root(data.path, data.split)
    paths, others, unreadable = listing.find_files(root, EXTENSIONS)
    ignored = len(others)
    if not paths:
        content = f"only {ignored} files of other kinds" if ignored else "nothing"
        content += f", and {len(unreadable)} folders that cannot be read" if unreadable else ""
        raise ValueError(
            f"config.data.path is {str(root)!r}, which holds {content}; "
            f"allowed: a folder with media files ({', '.join(sorted(EXTENSIONS))})"
        )
    cache = _cache_folder(root)
    looks = _examine(root, paths, cache / "index.json", data.threads or cores.count())
    usable = [path for path in paths if not isinstance(looks[path].verdict, str)]
    left_out = {path: looks[path].verdict for path in sorted({*paths} - {*usable})}
    left_out |= dict.fromkeys(unreadable, listing.UNREADABLE_FOLDER)
    count = len(usable) + len(left_out)
    try:
        places = dict(zip(paths, splits.places(paths), strict=True))
    except ValueError as error:
        raise ValueError(
            f"config.data.path is {str(root)!r}, which holds {error}; allowed: one folder per "
            "split, or config.data.split with the name of one folder"
        ) from error
    source = FolderSource(
        root,
        usable,
        [printable(places[path].label) for path in usable],
        [looks[path].verdict for path in usable],
        [looks[path].stamp for path in usable],
        seconds=views.video.global_frames / views.video.frame_rate,
        frame_rate=views.video.frame_rate,
        short_side=views.video.short_side,
        sample_rate=views.audio.sample_rate,
        left_out={printable(path): reason for path, reason in left_out.items()},
        ignored=ignored,
        report_path=cache / "report.json",
        max_bad_fraction=data.max_bad_fraction,
    )
    report = source.report
    pointer = f" (see {cache / 'report.json'})" if source.write_report() else ""
    summary = f"left out {len(left_out)} of {count} files: {_in_words(report['reasons'])}{pointer}"
    if not usable:
        raise ValueError(f"config.data.path is {str(root)!r}, where no file is usable: {summary}")
    if len(left_out) > data.max_bad_fraction * count:
        raise ValueError(
            f"config.data.max_bad_fraction is {data.max_bad_fraction}, "
            f"but {len(left_out) / count:.2g} of {str(root)!r} is unusable: {summary}"
        )
    print(
        f"{root}: {len(usable)} files, {report['picture_seconds']:.0f} s of picture, "
        f"{report['sound_seconds']:.0f} s of sound" + (f"; {summary}" if left_out else "")
    )
    for note in _notes(source, paths):
        print(f"{root}: {note}")
    return source


def _notes(source: FolderSource, paths: Sequence[str]) -> list[str]:
    """Returns remarks on what may differ from what the owner of the folder expects."""
    notes = listing.lookalikes(source.class_names)
    if split_folders := splits.among({path.partition("/")[0] for path in paths if "/" in path}):
        names = ", ".join(map(repr, split_folders))
        notes.append(f"all splits are read: {names}; config.data.split selects one of them")
    unlabeled = source.label_sets.count(())
    if source.class_names and unlabeled:
        notes.append(f"files outside the classes' folders, without a label: {unlabeled}")
    return notes


def _root(path: str, split: str) -> pathlib.Path:
    """Returns the folder to read; raises FileNotFoundError or ValueError if there is none."""
    if not path:
        raise ValueError("config.data.path is ''; allowed: a folder with media files")
    root = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    if not root.exists():
        raise FileNotFoundError(
            f"config.data.path is {path!r}, which does not exist; "
            "allowed: a folder with media files"
        )
    if not root.is_dir():
        raise ValueError(
            f"config.data.path is {path!r}, which is a file; allowed: a folder with media files"
        )
    if split and not (root / split).is_dir():
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        wanted = splits.called(split)
        if len(same := [name for name in folders if wanted and splits.called(name) == wanted]) == 1:
            return root / same[0]
        raise FileNotFoundError(
            f"config.data.split is {split!r}, which is not a folder in {path!r}; "
            f"allowed: {', '.join(map(repr, ['', *folders]))}"
        )
    return root / split


def _examine(
    root: pathlib.Path, paths: list[str], index: pathlib.Path, threads: int
) -> dict[str, folder_index.Look]:
    """Examines each file, or takes the result from the index if the file has not changed.

    Args:
        root: Folder of the files.
        paths: Paths relative to `root`.
        index: File that keeps the results.
        threads: Number of files to examine at a time. Many files are examined in as many processes.

    Returns:
        The results by path.
    """
    known = folder_index.load(index)
    many = len(paths) - len(known.keys() & paths) >= _MANY
    crew = measuring.crew(threads) if many else contextlib.nullcontext(measuring.look)

    def examine(path: str) -> folder_index.Look:
        stamp = folder_index.stamp(root / path)
        old = known.get(path)
        if old and old.stamp == stamp:
            return old
        return folder_index.Look(stamp, look(root / path))

    looks: dict[str, folder_index.Look] = {}
    saved = time.monotonic()
    try:
        with crew as look, concurrent.futures.ThreadPoolExecutor(threads) as pool:
            results = zip(paths, pool.map(examine, paths), strict=True)
            for path, result in progress.bar("examining files", len(paths), "file", results):
                looks[path] = result
                if time.monotonic() - saved > _SAVE_SECONDS:
                    folder_index.save(index, known | looks)
                    saved = time.monotonic()
    finally:  # the next start continues an interrupted scan
        if looks != known:
            folder_index.save(index, known | looks)
    return looks


def _cache_folder(root: pathlib.Path) -> pathlib.Path:
    """Returns the cache folder of a data folder's index and report."""
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return user_cache.folder() / digest


def _write_json(path: pathlib.Path, value: object) -> bool:
    """Writes a JSON file atomically; returns whether that succeeded. The file is optional."""
    try:
        atomic.write_text(path, json.dumps(value, indent=1))
    except OSError:
        return False
    return True


def _counts(reasons: dict[str, str]) -> dict[str, int]:
    """Counts the files by reason, the most frequent reason first."""
    counts = collections.Counter(reasons.values())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _in_words(counts: dict[str, int]) -> str:
    """Formats counts of reasons, such as "2 empty file, 1 corrupt"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
