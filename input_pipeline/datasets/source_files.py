"""The files of a data set as it was downloaded: media and annotations in a folder."""

import contextlib
import csv
import json
import os
import pathlib
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from input_pipeline.programs.terminal import printable

# Extensions of the video and sound files in common use that FFmpeg reads.
VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "m2ts", "m4v"),
        *("mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut", "ogm", "ogv", "qt"),
        *("rm", "rmvb", "ts", "vob", "webm", "wmv", "wtv"),
    )
)
SOUND_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("aac", "ac3", "aif", "aiff", "amr", "au", "caf", "flac", "m4a", "mka", "mp2", "mp3"),
        *("oga", "ogg", "opus", "wav", "weba", "wma"),
    )
)

_UNCLOSED = "a quote that is not closed in its line"


class AnnotationsError(ValueError):
    """Raised when annotations cannot be read.

    Args:
        place: Path of the file, with the line if known.
        reason: Why it cannot be read.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{printable(place)} cannot be read: {reason}")


class Source:
    """The files in the folder of a data set.

    Args:
        root: Folder, which must exist.
        extensions: Extensions of media files, in lower case.

    Attributes:
        root: Folder of the data set.
        media: Relative paths of the media files, sorted.
        others: Relative paths of all other files, including annotations, sorted.
        unreadable: Relative paths of the folders that cannot be read, sorted.
    """

    def __init__(self, root: pathlib.Path, extensions: frozenset[str] = VIDEO_EXTENSIONS) -> None:
        self.root = root
        self.media, self.others, self.unreadable = find_files(root, extensions)

    def annotations(self, pattern: str) -> list[str]:
        """Returns the other files whose names match a regular expression, the least deep first."""
        matches = [p for p in self.others if re.fullmatch(pattern, p.rpartition("/")[2], re.I)]
        return sorted(matches, key=lambda path: (path.count("/"), path))

    def rows(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """Yields the line number and the stripped values of each CSV row that is not blank.

        Raises:
            AnnotationsError: The file cannot be read, or a quoted value spans several lines.
        """
        with self._open(path, newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            line = 1
            try:
                for row in reader:
                    if any("\n" in value or "\r" in value for value in row):
                        raise AnnotationsError(f"{path}:{line}", _UNCLOSED)
                    line = reader.line_num + 1
                    if any(values := [value.strip() for value in row]):
                        yield reader.line_num, values
            except csv.Error as error:  # such as a field larger than the limit
                reason = f"{error}, perhaps because of {_UNCLOSED}"
                raise AnnotationsError(f"{path}:{line}", reason) from error

    def table(self, path: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Yields the line number and the values by column of each row of a CSV file.

        The first row holds the names of the columns, which are converted to lower case.

        Raises:
            AnnotationsError: As in `rows`.
        """
        rows = self.rows(path)
        _, header = next(rows, (0, []))
        names = [name.lower() for name in header]
        for line, row in rows:
            row += [""] * (len(names) - len(row))
            yield line, dict(zip(names, row, strict=False))

    def header(self, path: str) -> list[str]:
        """Returns the names of a CSV file's columns in lower case."""
        return [name.lower() for name in next(self.rows(path), (0, []))[1]]

    def lines(self, path: str) -> Iterator[tuple[int, str]]:
        """Yields the number and the stripped text of each line that is not blank.

        Raises:
            AnnotationsError: The file cannot be read.
        """
        with self._open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()

    def json(self, path: str) -> object:
        """Returns the content of a JSON file.

        Raises:
            AnnotationsError: The file cannot be read, or is not JSON.
        """
        with self._open(path) as file:
            try:
                return json.load(file)
            except (ValueError, RecursionError) as error:
                raise AnnotationsError(path, f"not JSON ({error})") from error

    @contextlib.contextmanager
    def _open(self, path: str, newline: str | None = None) -> Iterator[TextIO]:
        """Opens annotations as UTF-8; other bytes become surrogates, as in file names."""
        form = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": newline}
        try:
            if not stat.S_ISREG(os.stat(self.root / path).st_mode):  # a pipe may never end
                raise AnnotationsError(path, "not a regular file")
            with open(self.root / path, **form) as file:
                yield file
        except OSError as error:
            raise AnnotationsError(path, error.strerror or str(error)) from error


class Found(NamedTuple):
    """The files below a folder, as relative paths with forward slashes, sorted.

    Attributes:
        media: Media files, and dangling links with a media file's extension.
        others: All other files, including hidden ones.
        unreadable: Folders that cannot be read, each with a trailing slash.
    """

    media: list[str]
    others: list[str]
    unreadable: list[str]


def find_files(root: pathlib.Path, extensions: frozenset[str]) -> Found:
    """Finds the files in a folder and all its subfolders, except hidden folders.

    Args:
        root: Folder to search.
        extensions: Extensions of media files, in lower case.

    Returns:
        The files.

    Raises:
        OSError: The folder itself cannot be read.
    """
    paths, others, unreadable, seen = [], [], [], set()

    def relative(path: str) -> str:
        return pathlib.PurePath(os.path.relpath(path, root)).as_posix()

    def note_unreadable(error: OSError) -> None:
        if os.fspath(error.filename) == os.fspath(root):
            raise error
        unreadable.append(f"{relative(error.filename)}/")

    for folder, folders, names in os.walk(root, onerror=note_unreadable, followlinks=True):
        identity = os.path.realpath(folder)
        if identity in seen:  # links may form a cycle
            folders.clear()
            continue
        seen.add(identity)
        # Sorted, so that of two links to the same folder always the same one is followed.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = os.path.join(folder, name)
            # Programs leave hidden files behind, such as "._clip.mp4" beside "clip.mp4".
            hidden = name.startswith(".")
            if hidden or os.path.splitext(name)[1].lower() not in extensions:
                others.append(relative(path))
            elif os.path.isfile(path) or not os.path.exists(path):
                paths.append(relative(path))
            else:  # a device, a pipe, or a link to one: reading it might never end
                others.append(relative(path))
    return Found(sorted(paths), sorted(others), sorted(unreadable))


def stem(path: str) -> str:
    """Returns a file's name without folders and extension."""
    return os.path.splitext(path.rpartition("/")[2])[0]
