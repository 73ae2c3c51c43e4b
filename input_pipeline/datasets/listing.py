"""Lists of the recordings of a data set as its publisher lays it out, before any is opened.

Whatever the annotations name and whatever media file lies there is on such a list, either as an
`Entry`, or with the reason why not.
"""

import collections
import contextlib
import csv
import dataclasses
import hashlib
import os
import pathlib
import re
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, TextIO

from input_pipeline.terminal import printable

# Everything that people keep video in, and sound, and FFmpeg reads.
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

# Why a recording of the list is not an entry of it.
MISSING = "listed but missing"
UNREADABLE = "unreadable name in the annotations"
TWICE = "listed twice"
DUPLICATE = "another file of the same name is used"
NOT_LISTED = "not in the annotations"
BESIDE_SPLITS = "beside the folders of the splits"
UNREADABLE_FOLDER = "folder that cannot be read"
REASONS = (MISSING, UNREADABLE, TWICE, DUPLICATE, NOT_LISTED, BESIDE_SPLITS, UNREADABLE_FOLDER)

_UNCLOSED = "a quote that is not closed in its line"

FULL = "full"  # the split of a data set that has none, or several partitions into training and test

# What a recording must have to be kept.
REQUIREMENTS = ("picture", "sound", "both", "any")


class AnnotationsError(ValueError):
    """A file of annotations that cannot be read; the message says which, where in it, and why."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{printable(place)} cannot be read: {why}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A recording to prepare.

    Attributes:
        name: Unique in its split: its path, as `terminal.printable` writes it.
        path: Of its file, relative to the source, with forward slashes.
        labels: Indices of its classes.
        roles: What it is in each partition, see `records.Role`.
    """

    name: str
    path: str
    labels: tuple[int, ...] = ()
    roles: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A recording that is not to be had.

    Attributes:
        split: Which split it would be in; empty where nothing says.
        name: Its path; where there is none, its name in the annotations, or their file and line.
        reason: Why.
    """

    split: str
    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """A data set's recordings.

    Attributes:
        splits: Entries by split, each split's in an order that is that of no class or name.
        left_out: What is listed and not to be had.
        class_names: The classes in the order of their indices; empty without labels.
        partitions: Names of the official partitions, in the order of `Entry.roles`.
        require: What a recording must have to be of use, out of `REQUIREMENTS`.
        ignored: Number of files that are no part of the data set.
        notes: What of the annotations or the files may not be what their owner thinks.
    """

    splits: dict[str, tuple[Entry, ...]]
    left_out: tuple[LeftOut, ...]
    class_names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    require: str = "picture"
    ignored: int = 0
    notes: tuple[str, ...] = ()


class Source:
    """The files of a data set's folder.

    Args:
        root: The folder, which exists.
        extensions: What the names of media files end with.

    Attributes:
        root: The folder.
        media: Relative paths of its media files, sorted.
        others: Of all other files, sorted; the annotations are among them.
        unreadable: Of folders that cannot be read, sorted.
    """

    def __init__(self, root: pathlib.Path, extensions: frozenset[str] = VIDEO_EXTENSIONS) -> None:
        self.root = root
        self.media, self.others, self.unreadable = find_files(root, extensions)

    def annotations(self, pattern: str) -> list[str]:
        """Paths of the other files whose names match a regular expression, shortest path first."""
        found = [p for p in self.others if re.fullmatch(pattern, p.rpartition("/")[2], re.I)]
        return sorted(found, key=lambda path: (path.count("/"), path))

    def rows(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """Rows of a CSV file that are not blank, without the blanks around values, by line.

        Raises:
            AnnotationsError: It cannot be read, or a quote in it goes on over several lines.
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
            except csv.Error as error:  # a field that goes on and on
                why = f"{error}, such as by {_UNCLOSED}"
                raise AnnotationsError(f"{path}:{line}", why) from error

    def table(self, path: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Rows of a CSV file by the names in its first, which are taken in lower case, by line."""
        rows = self.rows(path)
        _, header = next(rows, (0, []))
        names = [name.lower() for name in header]
        for line, row in rows:
            row += [""] * (len(names) - len(row))
            yield line, dict(zip(names, row, strict=False))

    def header(self, path: str) -> list[str]:
        """Names in the first row of a CSV file, in lower case."""
        return [name.lower() for name in next(self.rows(path), (0, []))[1]]

    def lines(self, path: str) -> Iterator[tuple[int, str]]:
        """Lines of a text file that are not blank, with their numbers.

        Raises:
            AnnotationsError: It cannot be read.
        """
        with self._open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()

    @contextlib.contextmanager
    def _open(self, path: str, newline: str | None = None) -> Iterator[TextIO]:
        """Opens a file of annotations; bytes that are not UTF-8 are read as in names of files."""
        form = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": newline}
        try:
            if not stat.S_ISREG(os.stat(self.root / path).st_mode):  # a pipe may never end
                raise AnnotationsError(path, "no regular file")
            with open(self.root / path, **form) as file:
                yield file
        except OSError as error:
            raise AnnotationsError(path, error.strerror or str(error)) from error


class Lister:
    """Makes a listing of annotations: matches what they name with the files that are there.

    Args:
        source: The files.
        keys: What the annotations may call a file, by its path; nothing where they cannot name it.
    """

    def __init__(self, source: Source, keys: Callable[[str], Iterable[Hashable]]) -> None:
        self._files: dict[Hashable, list[str]] = collections.defaultdict(list)
        for path in source.media:
            for key in keys(path):
                self._files[key].append(path)
        self._keys = keys
        self._unused = dict.fromkeys(source.media)
        self._listed: set[tuple[str, Hashable]] = set()
        self._entries: dict[str, list[Entry]] = {}
        self._left_out: list[LeftOut] = []
        self._ignored = len(source.others)
        self._notes: list[str] = []
        for folder in source.unreadable:
            self.leave_out("", folder, UNREADABLE_FOLDER)

    def add(
        self,
        split: str,
        key: Hashable,
        name: str,
        labels: Sequence[int] = (),
        roles: Sequence[int] = (),
    ) -> None:
        """Lists a recording by what the annotations call it.

        Args:
            split: Its split.
            key: One of the `keys` of its file.
            name: For the report, if it has no file.
            labels: See `Entry`.
            roles: See `Entry`.
        """
        if (split, key) in self._listed:
            self.leave_out(split, name, TWICE)
            return
        self._listed.add((split, key))
        # A file that replaces a broken one lies beside it in a folder that says so.
        paths = sorted(self._files.get(key, ()), key=lambda path: "replacement" not in path)
        if paths:
            self.add_file(split, paths[0], labels, roles)
        else:
            self.leave_out(split, name, MISSING)

    def add_file(
        self, split: str, path: str, labels: Sequence[int] = (), roles: Sequence[int] = ()
    ) -> None:
        """Lists a recording by its path."""
        self._unused.pop(path, None)
        entry = Entry(printable(path), path, tuple(labels), tuple(roles))
        self._entries.setdefault(split, []).append(entry)

    def ignore(self, paths: Iterable[str]) -> None:
        """Says which files are no part of the data set."""
        for path in paths:
            self._ignored += path in self._unused
            self._unused.pop(path, None)

    def leave_out(self, split: str, name: str, reason: str) -> None:
        """Lists a recording that is not to be had."""
        self._left_out.append(LeftOut(split, printable(name), reason))

    def leave_out_file(self, path: str, reason: str) -> None:
        """Lists a media file that is not to be had, in no split."""
        self._unused.pop(path, None)
        self.leave_out("", path, reason)

    def note(self, text: str) -> None:
        """Tells of something that may not be what the owner of the data thinks."""
        self._notes.append(printable(text))

    def listing(
        self,
        class_names: Sequence[str] = (),
        partitions: Sequence[str] = (),
        require: str = "picture",
    ) -> Listing:
        """The listing, in which every media file that the annotations do not name is left out."""
        used = {key for _, key in self._listed}
        for path in self._unused:
            known = any(key in used for key in self._keys(path))
            self.leave_out("", path, DUPLICATE if known else NOT_LISTED)
        return Listing(
            splits={split: shuffled(entries) for split, entries in sorted(self._entries.items())},
            left_out=tuple(sorted(self._left_out, key=dataclasses.astuple)),
            class_names=tuple(map(printable, class_names)),
            partitions=tuple(partitions),
            require=require,
            ignored=self._ignored,
            notes=(*self._notes, *lookalikes(class_names)),
        )


class Found(NamedTuple):
    """The files below a folder, as relative paths with forward slashes, sorted.

    Attributes:
        media: The media files, and links to nothing that are called like some.
        others: All other files, hidden ones among them.
        unreadable: Folders that cannot be read, which end with a slash.
    """

    media: list[str]
    others: list[str]
    unreadable: list[str]


def find_files(root: pathlib.Path, extensions: frozenset[str]) -> Found:
    """Looks through a folder and all below it.

    Args:
        root: The folder.
        extensions: What the names of media files end with, in lower case.

    Returns:
        What is there; but hidden folders are left alone.

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
        if identity in seen:  # links may go round in circles
            folders.clear()
            continue
        seen.add(identity)
        # In sorted order, that of two links to one folder the same one is always followed.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = os.path.join(folder, name)
            # Hidden files are what programs leave behind, such as "._clip.mp4" beside "clip.mp4".
            hidden = name.startswith(".")
            if hidden or os.path.splitext(name)[1].lower() not in extensions:
                others.append(relative(path))
            elif os.path.isfile(path) or not os.path.exists(path):
                paths.append(relative(path))
            else:  # a device or a pipe, or a link to one, which might never end
                others.append(relative(path))
    return Found(sorted(paths), sorted(others), sorted(unreadable))


def lookalikes(class_names: Iterable[str]) -> list[str]:
    """Tells of classes that may be one, as "Playing Guitar" and "playing_guitar"."""
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for name in class_names:
        alike[" ".join(name.casefold().replace("_", " ").split())].append(printable(name))
    return [
        f"{len(names)} classes are called {' and '.join(map(repr, names))}: they are kept apart"
        for names in alike.values()
        if len(names) > 1
    ]


def shuffled(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Entries in the order of hashes of their names, so that any stretch of them is like another.

    Adding or removing some does not change the order of the others.
    """
    return tuple(
        sorted(
            entries, key=lambda entry: (hashlib.sha256(entry.name.encode()).digest(), entry.path)
        )
    )


def stem(path: str) -> str:
    """A file's name without folders and extension."""
    return os.path.splitext(path.rpartition("/")[2])[0]
