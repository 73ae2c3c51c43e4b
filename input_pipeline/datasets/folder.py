"""Any tree of media files, read where they lie.

The classes are the top-level folders, or those below where the former are splits. Broken files are
left out and reported; the outcome of looking at every file once is cached, so that later starts are
quick.
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
import tqdm

from input_pipeline import atomic, media, user_cache
from input_pipeline.datasets import UnusableError, folder_index, listing, probing, splits
from input_pipeline.terminal import printable

EXTENSIONS = listing.VIDEO_EXTENSIONS  # files called otherwise are ignored

_MANY = 200  # new files, some 2 s of a core: then processes are worth their start
_WARNINGS = 10  # of files that fail when they are read
_SAVE_SECONDS = 30.0  # between two savings of what a first scan has found, which may be killed


class FolderSource:
    """The usable media files under a folder, in the order of their relative paths.

    A file that turns out broken when it is read is replaced by the next one that is not, which is
    warned of once and counted in `report`. Where too many are, reading ends in an error.

    Args:
        root: Where the files are.
        paths: Relative to `root`, with forward slashes, in order.
        folders: Of each of them, the name of the one that is its class; empty where none is.
        infos: What each of them holds.
        stamps: Size in bytes of each, and when it was changed.
        seconds: Length of the clips.
        frame_rate: Frames per second.
        short_side: Pixels of the frames' shorter side.
        sample_rate: Hz.
        left_out: Reason for each file under `root` that is not usable, and for each folder that
            cannot be read, by name.
        ignored: Number of files under `root` that are no media files by their names.
        report_path: Where to write `report` as JSON, anew as files break later; or None.
        max_bad_fraction: Share of all files that may be unusable, when opened or later.

    Attributes:
        labels: (N,) int64, indices into `class_names`; None where not every file is in a folder.
        label_sets: N tuples of them; those of files in no folder are empty.
        class_names: Names of the folders that are classes, sorted.
        roles: (N, 0): there are no official partitions.
        partitions: None.
        has_audio: (N,) bool, see `ClipSource`.
    """

    def __init__(
        self,
        root: pathlib.Path,
        paths: list[str],
        folders: list[str],
        infos: list[media.MediaInfo],
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
        self._failed: dict[str, str] = {}  # reason by path, of files that failed when read
        self._replaced = 0
        self._lock = threading.Lock()
        self.class_names = tuple(sorted({*folders} - {""}))
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self.label_sets = [(numbers[name],) if name else () for name in folders]
        self.labels = np.array([*map(numbers.get, folders)], np.int64) if all(folders) else None
        self.roles, self.partitions = np.zeros((len(paths), 0), np.int64), ()
        self.has_audio = np.array([info.has_audio for info in infos], bool)

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Path of a file relative to the root, as `terminal.printable` writes it."""
        return printable(self._paths[index])

    def path(self, index: int) -> pathlib.Path:
        """Where a file is."""
        return self._root / self._paths[index]

    def read(self, index: int, position: float) -> media.Clip:
        """The clip of a file that starts at `position * max(0, duration - seconds)`.

        Args:
            index: Which file, in [0, N).
            position: In [0, 1).

        Returns:
            The clip; of the next file that can be read, if this one cannot.

        Raises:
            UnusableError: Too large a share of the files cannot be used any longer.
            media.MediaError: None of the files can be read.
        """
        error: media.MediaError | None = None
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            if step and self.name(candidate) in self._failed:
                continue
            try:
                clip = self._read(candidate, position)
            except media.MediaError as failure:
                error = failure
                self._note_failure(self.name(candidate), failure.reason)
                continue
            if step:
                with self._lock:
                    self._replaced += 1
            return clip
        raise error or IndexError(index)

    def _read(self, index: int, position: float) -> media.Clip:
        """The clip of a file, or a MediaError."""
        path, info = self._root / self._paths[index], self._infos[index]
        start = position * max(0.0, info.duration - self._form[0])
        return media.read_clip(path, start, *self._form, info=info)

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
        """How many clips were taken from another file than the one asked for."""
        with self._lock:
            return self._replaced

    @property
    def failed(self) -> dict[str, str]:
        """Why files failed when they were read, by name; another was read in their place."""
        with self._lock:
            return dict(self._failed)

    @property
    def report(self) -> dict[str, object]:
        """What was found and what was left out, ready for JSON.

        `files`, `usable` and `without_sound` are counts, `picture_seconds` and `sound_seconds` the
        usable files' lengths, `reasons` counts by reason and `left_out` the reason of each file;
        `failed_at_read` and `substitutions` tell of files that broke later, and of how many clips
        were taken from another file therefore.
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
        """Writes `report` where it is to be kept, and says whether that could be done."""
        return self._report_path is not None and _write_json(self._report_path, self.report)

    def _note_failure(self, name: str, reason: str) -> None:
        """Keeps the reason of a failed read; warns of the first files, and raises at too many."""
        with self._lock:
            known = name in self._failed
            self._failed[name] = reason
            count, files = len(self._failed), len(self) + len(self._left_out)
        if known:
            return
        bad = count + len(self._left_out)
        ends = bad > self._max_bad_fraction * files
        # Seldom, where there are many: 20,000 files would be written out 20,000 times.
        if ends or count <= _WARNINGS or count & (count - 1) == 0:
            self.write_report()
        if ends:
            reasons = _in_words(_counts(self._left_out | self.failed))
            raise UnusableError(
                f"config.data.max_bad_fraction is {self._max_bad_fraction}, but by now "
                f"{bad} of {files} files of {str(self._root)!r} cannot be used: {reasons}"
            )
        if count <= _WARNINGS:
            last = "; further files are counted only" if count == _WARNINGS else ""
            warnings.warn(f"{name}: {reason}; the next file is read instead{last}", stacklevel=4)


def open_folder(data: ml_collections.ConfigDict, views: ml_collections.ConfigDict) -> FolderSource:
    """Opens the folder `data.path`, or `data.split` in it, looking at every file not yet known.

    Prints a line on what there is. The index and `report.json` are kept in
    `$XDG_CACHE_HOME/xkd_jax` or `~/.cache/xkd_jax`, as the folder itself may be read-only.

    Args:
        data: The `data` section of the configuration (configs/base.py).
        views: Its `views` section.

    Returns:
        The source.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: It holds no usable file, or too large a share of unusable ones.
    """
    root = _root(data.path, data.split)
    paths, others, unreadable = listing.find_files(root, EXTENSIONS)
    ignored = len(others)
    if not paths:
        found = f"only {ignored} files of other kinds" if ignored else "nothing"
        found += f", and {len(unreadable)} folders that cannot be read" if unreadable else ""
        raise ValueError(
            f"config.data.path is {str(root)!r}, which holds {found}; "
            f"allowed: a folder with media files ({', '.join(sorted(EXTENSIONS))})"
        )
    cache = _cache_folder(root)
    looks = _judge(root, paths, cache / "index.json", data.threads or os.cpu_count() or 1)
    usable = [path for path in paths if not isinstance(looks[path].verdict, str)]
    left_out = {path: looks[path].verdict for path in sorted({*paths} - {*usable})}
    left_out |= dict.fromkeys(unreadable, listing.UNREADABLE_FOLDER)
    count = len(usable) + len(left_out)
    try:
        places = dict(zip(paths, splits.places(paths), strict=True))
    except ValueError as error:
        raise ValueError(
            f"config.data.path is {str(root)!r}, which holds {error}; allowed: one of each, or "
            "config.data.split with the name of one"
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
    where = f" (see {cache / 'report.json'})" if source.write_report() else ""
    summary = f"left out {len(left_out)} of {count} files: {_in_words(report['reasons'])}{where}"
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
    """Tells of what may not be as the owner of the folder thinks."""
    notes = listing.lookalikes(source.class_names)
    if found := splits.among({path.partition("/")[0] for path in paths if "/" in path}):
        names = ", ".join(map(repr, found))
        notes.append(f"all splits are read, {names}; config.data.split chooses one of them")
    unlabelled = source.label_sets.count(())
    if source.class_names and unlabelled:
        notes.append(f"files in no class's folder, which have no label: {unlabelled}")
    return notes


def _root(path: str, split: str) -> pathlib.Path:
    """The folder to read, which exists."""
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
            f"config.data.split is {split!r}, which is no folder in {path!r}; "
            f"allowed: {', '.join(map(repr, ['', *folders]))}"
        )
    return root / split


def _judge(
    root: pathlib.Path, paths: list[str], index: pathlib.Path, threads: int
) -> dict[str, folder_index.Look]:
    """Looks at each file, or takes what the index says of it where it has not changed since.

    Args:
        root: Where the files are.
        paths: Relative to it.
        index: Where to keep the outcome.
        threads: Number of files to look at at once; of many, each in a process of its own.

    Returns:
        What was found, by path.
    """
    known = folder_index.load(index)
    many = len(paths) - len(known.keys() & paths) >= _MANY
    crew = probing.crew(threads) if many else contextlib.nullcontext(probing.look)

    def look(path: str) -> folder_index.Look:
        stamp = folder_index.stamp(root / path)
        old = known.get(path)
        if old and old.stamp == stamp:
            return old
        return folder_index.Look(stamp, judge(root / path))

    looks: dict[str, folder_index.Look] = {}
    saved = time.monotonic()
    try:
        with crew as judge, concurrent.futures.ThreadPoolExecutor(threads) as pool:
            found = zip(paths, pool.map(look, paths), strict=True)
            for path, seen in tqdm.tqdm(
                found, "looking at files", len(paths), unit="file", disable=None
            ):
                looks[path] = seen
                if time.monotonic() - saved > _SAVE_SECONDS:
                    folder_index.save(index, known | looks)
                    saved = time.monotonic()
    finally:  # an interrupted scan goes on where it was
        if looks != known:
            folder_index.save(index, known | looks)
    return looks


def _cache_folder(root: pathlib.Path) -> pathlib.Path:
    """Where the index and the report of a folder are kept."""
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return user_cache.folder() / digest


def _write_json(path: pathlib.Path, value: object) -> bool:
    """Writes a file in one go; returns whether that was possible, for it can be done without."""
    try:
        atomic.write_text(path, json.dumps(value, indent=1))
    except OSError:
        return False
    return True


def _counts(reasons: dict[str, str]) -> dict[str, int]:
    """How often each reason occurs, the most frequent first."""
    counts = collections.Counter(reasons.values())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _in_words(counts: dict[str, int]) -> str:
    """Counts of reasons as people read them."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
