"""Media files to encode: those under a folder, and what came of each."""

import collections
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.programs import terminal

_SHOWN = 3  # number of files that are named for each reason


class Result(NamedTuple):
    """The result of one file.

    Attributes:
        name: Name of the file.
        stamp: Size and modification time of the file, which show whether it has changed.
        features: (D,) float32; None if the file is left out.
        reason: Why the file is left out; empty otherwise.
    """

    name: str
    stamp: str
    features: np.ndarray | None
    reason: str


def find(path: pathlib.Path, modality: str) -> tuple[pathlib.Path, list[str], list[Result]]:
    """Finds media files.

    Args:
        path: A file, or a folder that is searched with all its subfolders.
        modality: Modality to encode; "video" ignores files with the extension of a sound format.

    Returns:
        The folder; the sorted names of files relative to it; and results for subfolders that cannot
        be read.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: There are no media files.
        OSError: The folder cannot be read.
    """
    from input_pipeline.datasets import listing, source_files

    if path.is_file():
        return path.parent, [path.name], []
    if not path.is_dir():
        raise FileNotFoundError(f"--input={path}: no such file or folder")
    extensions = source_files.VIDEO_EXTENSIONS
    if modality == "audio":
        extensions |= source_files.SOUND_EXTENSIONS
    files = source_files.find_files(path, extensions)
    if not files.media:
        raise ValueError(
            f"--input={path} has no media files; allowed: {', '.join(sorted(extensions))}"
        )
    closed = [Result(name, "", None, listing.UNREADABLE_FOLDER) for name in files.unreadable]
    return path, files.media, closed


def stamp(path: pathlib.Path) -> str:
    """Returns the size and the modification time of a file; empty if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def report(results: Sequence[Result]) -> list[str]:
    """Formats lines that count the files that are left out, for each reason."""
    reasons = collections.defaultdict(list)
    for result in results:
        if result.features is None:
            reasons[result.reason].append(terminal.printable(result.name))
    lines = []
    for reason, names in sorted(reasons.items()):
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"left out, {reason}: {len(names)} ({', '.join(names[:_SHOWN])}{more})")
    return lines
