"""Lists of the recordings of a data set as its publisher lays it out, before any is opened.

Whatever the annotations name and whatever media file lies there is on such a list, either as an
`Entry`, or with the reason why not.
"""

import collections
import csv
import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

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
REASONS = (MISSING, UNREADABLE, TWICE, DUPLICATE, NOT_LISTED)

FULL = "full"  # the split of a data set that has none, or several partitions into training and test

# What a recording must have to be kept.
REQUIREMENTS = ("picture", "sound", "both", "any")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A recording to prepare.

    Attributes:
        name: Unique in its split: its path, with what is not UTF-8 written out.
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
    """

    splits: dict[str, tuple[Entry, ...]]
    left_out: tuple[LeftOut, ...]
    class_names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    require: str = "picture"
    ignored: int = 0


class Source:
    """The files of a data set's folder.

    Args:
        root: The folder, which exists.
        extensions: What the names of media files end with.

    Attributes:
        root: The folder.
        media: Relative paths of its media files, sorted.
        others: Of all other files, sorted; the annotations are among them.
    """

    def __init__(self, root: pathlib.Path, extensions: frozenset[str] = VIDEO_EXTENSIONS) -> None:
        self.root = root
        self.media, self.others = find_files(root, extensions)

    def annotations(self, pattern: str) -> list[str]:
        """Paths of the other files whose names match a regular expression, shortest path first."""
        found = [p for p in self.others if re.fullmatch(pattern, p.rpartition("/")[2], re.I)]
        return sorted(found, key=lambda path: (path.count("/"), path))

    def rows(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """Rows of a CSV file that are not blank, without the blanks around values, by line."""
        with open(self.root / path, encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            for row in reader:
                if any(values := [value.strip() for value in row]):
                    yield reader.line_num, values

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
        """Lines of a text file that are not blank, with their numbers."""
        with open(self.root / path, encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()


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
            class_names=tuple(class_names),
            partitions=tuple(partitions),
            require=require,
            ignored=self._ignored,
        )


def find_files(root: pathlib.Path, extensions: frozenset[str]) -> tuple[list[str], list[str]]:
    """Looks through a folder and all below it.

    Args:
        root: The folder.
        extensions: What the names of media files end with, in lower case.

    Returns:
        Relative paths with forward slashes of the media files, and of all other files, both sorted.
        Hidden files are among the others, and hidden folders are left alone.
    """
    paths, others, seen = [], [], set()
    for folder, folders, names in os.walk(root, followlinks=True):
        identity = os.path.realpath(folder)
        if identity in seen:  # links may go round in circles
            folders.clear()
            continue
        seen.add(identity)
        # In sorted order, that of two links to one folder the same one is always followed.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = os.path.join(folder, name)
            relative = pathlib.PurePath(os.path.relpath(path, root)).as_posix()
            # Hidden files are what programs leave behind, such as "._clip.mp4" beside "clip.mp4".
            hidden = name.startswith(".")
            if hidden or os.path.splitext(name)[1].lower() not in extensions:
                others.append(relative)
            elif os.path.isfile(path) or os.path.islink(path):
                paths.append(relative)
            else:  # a device or a pipe, which might never end
                others.append(relative)
    return sorted(paths), sorted(others)


def shuffled(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Entries in the order of hashes of their names, so that any stretch of them is like another.

    Adding or removing some does not change the order of the others.
    """
    return tuple(
        sorted(
            entries, key=lambda entry: (hashlib.sha256(entry.name.encode()).digest(), entry.path)
        )
    )


def printable(path: str) -> str:
    """A path as valid Unicode, in which bytes that are not UTF-8 are written out."""
    return os.fsencode(path).decode(errors="backslashreplace")


def stem(path: str) -> str:
    """A file's name without folders and extension."""
    return os.path.splitext(path.rpartition("/")[2])[0]
