"""A source that reads any tree of media files in place.

The classes are the top-level folders, or the folders below them if the top-level folders are
splits. Broken files are left out and reported. The first start examines every file; the results are
cached, so later starts are quick.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import time
from collections.abc import Sequence

import ml_collections

from input_pipeline import cores
from input_pipeline.datasets import folder_index, listing, measuring, source_files, splits
from input_pipeline.datasets.folder_source import ClipForm, FolderSource, MediaFile
from input_pipeline.files import user_cache
from input_pipeline.programs import notices, progress, wording
from input_pipeline.programs.terminal import printable

EXTENSIONS = source_files.VIDEO_EXTENSIONS  # files with other extensions are ignored

_MANY = 200  # number of new files (some 2 s of a core) from which starting processes pays off
_SAVE_SECONDS = 30.0  # between saves of the index during a scan, which may be killed


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
    paths, others, unreadable = source_files.find_files(root, EXTENSIONS)
    ignored = len(others)
    if not paths:
        content = (
            f"only {wording.counted(ignored, 'file')} of other kinds" if ignored else "nothing"
        )
        if unreadable:
            content += f", and {wording.counted(len(unreadable), 'folder')} that cannot be read"
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
        places = dict(zip(paths, splits.locate(paths), strict=True))
    except ValueError as error:
        raise ValueError(
            f"config.data.path is {str(root)!r}, which holds {error}; allowed: one folder per "
            "split, or config.data.split with the name of one folder"
        ) from error
    source = FolderSource(
        root,
        [
            MediaFile(path, printable(places[path].label), looks[path].verdict, looks[path].stamp)
            for path in usable
        ],
        ClipForm(
            seconds=views.video.global_frames / views.video.frame_rate,
            frame_rate=views.video.frame_rate,
            short_side=views.video.short_side,
            sample_rate=views.audio.sample_rate,
        ),
        left_out={printable(path): reason for path, reason in left_out.items()},
        ignored=ignored,
        report_path=cache / "report.json",
        max_bad_fraction=data.max_bad_fraction,
    )
    report = source.report
    pointer = f" (see {cache / 'report.json'})" if source.write_report() else ""
    reasons = wording.in_words(report["reasons"])
    summary = f"left out {len(left_out)} of {wording.counted(count, 'file')}: {reasons}{pointer}"
    if not usable:
        raise ValueError(f"config.data.path is {str(root)!r}, where no file is usable: {summary}")
    if len(left_out) > data.max_bad_fraction * count:
        raise ValueError(
            f"config.data.max_bad_fraction is {data.max_bad_fraction}, "
            f"but {len(left_out) / count:.2g} of {str(root)!r} is unusable: {summary}"
        )
    # A run may open the same data twice: to train on, and for its online probe.
    notices.say_once(
        f"{root}: {wording.counted(len(usable), 'file')}, "
        f"{report['picture_seconds']:.0f} s of picture, {report['sound_seconds']:.0f} s of sound"
        + (f"; {summary}" if left_out else "")
    )
    for note in _notes(source, paths):
        notices.say_once(f"{root}: {note}")
    return source


def _notes(source: FolderSource, paths: Sequence[str]) -> list[str]:
    """Returns remarks on what may differ from what the owner of the folder expects."""
    notes = listing.lookalikes(source.class_names)
    top_folders = {path.partition("/")[0] for path in paths if "/" in path}
    if split_folders := splits.find_splits(top_folders):
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
    if (root / "prepared.json").is_file():
        raise ValueError(
            f"config.data.path is {path!r}, which holds prepared data; "
            "config.data.dataset='prepared' reads them"
        )
    if split and not (root / split).is_dir():
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        wanted = splits.split_of_name(split)
        same = [name for name in folders if wanted and splits.split_of_name(name) == wanted]
        if len(same) == 1:
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
