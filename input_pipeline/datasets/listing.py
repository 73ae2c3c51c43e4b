"""Lists the recordings of a data set in its publisher's layout, without opening any of them.

A listing accounts for every recording that the annotations name and for every media file that is
there: each is either an `Entry`, or left out with a reason.
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Sequence

from input_pipeline.datasets.source_files import SOUND_EXTENSIONS, Source
from input_pipeline.programs.terminal import printable

# Reasons why a recording is left out.
MISSING = "listed but missing"
UNREADABLE = "unreadable name in the annotations"
TWICE = "listed twice"
DUPLICATE = "another file of the same name is used"
NOT_LISTED = "not in the annotations"
BESIDE_SPLITS = "beside the folders of the splits"
UNREADABLE_FOLDER = "folder that cannot be read"
REASONS = (MISSING, UNREADABLE, TWICE, DUPLICATE, NOT_LISTED, BESIDE_SPLITS, UNREADABLE_FOLDER)

FULL = "full"  # the only split of a data set without splits, or with several partitions

# What a data set may require of its recordings.
REQUIREMENTS = ("picture", "sound", "both", "any")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A recording to prepare.

    Attributes:
        name: Name, unique in its split: the path as `terminal.printable` writes it.
        path: Path of the file relative to the source, with forward slashes.
        labels: Indices of the recording's classes.
        roles: Role of the recording in each partition. See `records.Role`.
    """

    name: str
    path: str
    labels: tuple[int, ...] = ()
    roles: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A recording that cannot be used.

    Attributes:
        split: Split that the recording would be in; empty if unknown.
        name: Path of the file; if there is none, the recording's name in the annotations, or the
            file and line of the annotations.
        reason: One of `REASONS`.
    """

    split: str
    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """The recordings of a data set.

    Attributes:
        splits: Entries by split, in a shuffled order that does not follow classes or names.
        left_out: Recordings that cannot be used.
        class_names: Names of the classes in the order of their indices; empty without labels.
        partitions: Names of the official partitions, in the order of `Entry.roles`.
        require: What a recording must have to be kept, one of `REQUIREMENTS`.
        ignored: Number of files that do not belong to the data set.
        notes: Remarks on what may differ from what the owner of the data expects.
    """

    splits: dict[str, tuple[Entry, ...]]
    left_out: tuple[LeftOut, ...]
    class_names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    require: str = "picture"
    ignored: int = 0
    notes: tuple[str, ...] = ()


class Lister:
    """Builds a listing by matching the names in the annotations with the files.

    Args:
        source: Files of the data set.
        keys: Function that maps a file's path to the keys by which the annotations may refer to it,
            none if they cannot.
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
        """Lists a recording by its key in the annotations.

        Args:
            split: Split of the recording.
            key: One of the `keys` of its file.
            name: Name to report if there is no such file.
            labels: Indices of the recording's classes.
            roles: Role of the recording in each partition.
        """
        if (split, key) in self._listed:
            self.leave_out(split, name, TWICE)
            return
        self._listed.add((split, key))
        paths = sorted(self._files.get(key, ()), key=_preference)
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
        """Marks files as not belonging to the data set."""
        for path in paths:
            self._ignored += path in self._unused
            self._unused.pop(path, None)

    def leave_out(self, split: str, name: str, reason: str) -> None:
        """Leaves a recording out."""
        self._left_out.append(LeftOut(split, printable(name), reason))

    def leave_out_file(self, path: str, reason: str) -> None:
        """Leaves a media file out that belongs to no split."""
        self._unused.pop(path, None)
        self.leave_out("", path, reason)

    def note(self, text: str) -> None:
        """Adds a remark on what may differ from what the owner of the data expects."""
        self._notes.append(printable(text))

    def listing(
        self,
        class_names: Sequence[str] = (),
        partitions: Sequence[str] = (),
        require: str = "picture",
    ) -> Listing:
        """Returns the listing, with every media file not listed so far left out.

        Args:
            class_names: Names of the classes in the order of their indices.
            partitions: Names of the official partitions, in the order of `Entry.roles`.
            require: What a recording must have to be kept, one of `REQUIREMENTS`.
        """
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


def lookalikes(class_names: Iterable[str]) -> list[str]:
    """Returns remarks on names that may mean one class: "Playing Guitar", "playing_guitar"."""
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for name in class_names:
        alike[" ".join(name.casefold().replace("_", " ").split())].append(printable(name))
    return [
        f"{len(names)} classes are called {' and '.join(map(repr, names))}: they are kept apart"
        for names in alike.values()
        if len(names) > 1
    ]


def shuffled(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Sorts entries by hashes of their names, so that any part of them is like any other part.

    Adding or removing entries does not change the order of the others.
    """
    return tuple(
        sorted(
            entries, key=lambda entry: (hashlib.sha256(entry.name.encode()).digest(), entry.path)
        )
    )


def _preference(path: str) -> tuple[bool, bool]:
    """Orders files of the same key: those to be preferred come first.

    Kinetics400's repaired copies of broken files lie in a folder of replacements. Sound is often
    extracted into files beside the videos.
    """
    is_sound = os.path.splitext(path)[1].lower() in SOUND_EXTENSIONS
    return "replacement" not in path, is_sound
