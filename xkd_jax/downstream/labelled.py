"""Labelled recordings to train and to test on, as each data set says which are which.

Every number of the paper is a mean over official partitions (the splits of UCF101 and HMDB51, the
folds of ESC50) or of one split each to train and to test on. Data that say nothing of the kind are
split at random, each class in the same proportion.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import ml_collections
import numpy as np
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from xkd_jax.config_check import ConfigError
from xkd_jax.config_rules import SEED, SHARE, TEXT, Rule, number, one_of, whole

if TYPE_CHECKING:  # brings TensorFlow in
    from input_pipeline.datasets import ClipSource

# Splits to look for by whatever they are called, the first that is there and labelled. Kinetics'
# labelled `test` came late, and the field reports `val`.
_TRAIN, _TEST, _VALIDATION = ("train",), ("test", "eval"), ("val",)
_TESTED_ON_VALIDATION = ("kinetics400", "kinetics_sound")

# Of the fields of the `data` section (configs/eval/labelled_data.py).
RULES = {
    "data.dataset": one_of("folder", "generated", "prepared"),
    "data.path": TEXT,
    "data.train_split": TEXT,
    "data.test_split": TEXT,
    "data.validation_split": TEXT,
    "data.partitions": Rule(
        "(), or names such as ('1',)",
        lambda x: isinstance(x, tuple) and all(isinstance(name, str) and name for name in x),
    ),
    "data.test_share": number(0.01, 0.5),
    "data.held_out": number(0, 0.5),
    "data.seed": whole(0, SEED),
    "data.threads": whole(0, 1024),
    "data.prefetch": whole(1, 1024),
    "data.max_bad_fraction": SHARE,
    "data.generated.train": whole(2, 10**6),
    "data.generated.test": whole(1, 10**6),
    "data.generated.val": whole(0, 10**6),
    "data.generated.seed": whole(0, SEED),
}


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Some recordings of a source and what they are of.

    Attributes:
        source: Of the clips.
        example_ids: (n,) int64, their numbers in it.
        targets: (n, C) bool, which classes each is of.
    """

    source: "ClipSource"
    example_ids: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.example_ids)

    def take(self, places: np.ndarray) -> "Recordings":
        """Those at some places, given as indices or as a (n,) bool mask."""
        return Recordings(self.source, self.example_ids[places], self.targets[places])

    @property
    def without_sound(self) -> int:
        """How many are silent for want of sound."""
        return int(np.sum(~self.source.has_audio[self.example_ids]))


class Partition(NamedTuple):
    """A partition into training and test.

    Attributes:
        name: Of it, such as "1" of UCF101's.
        train: To train on.
        test: To test on; never any of `train`.
        validation: To choose on, where the data set has a split for that; otherwise None.
    """

    name: str
    train: Recordings
    test: Recordings
    validation: Recordings | None


class LabelledData(NamedTuple):
    """A labelled data set.

    Attributes:
        class_names: The C classes, in the order of the targets' columns.
        multi_label: Whether recordings may be of several.
        partitions: One or more.
        fingerprint: Digest of recordings, targets and partitions.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    partitions: tuple[Partition, ...]
    fingerprint: str


class _Splits(NamedTuple):
    """Names of the splits to open.

    Attributes:
        train: To train on; empty for all there is.
        test: To test on; None where that is a part of `train`.
        validation: To choose on; None where that is a part of what is to train on.
    """

    train: str
    test: str | None = None
    validation: str | None = None


def open_labelled(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict, picture: bool = True
) -> LabelledData:
    """Opens the data set that a config names, and says what is to train and what to test on.

    Prints what there is, and what is left out for want of a label.

    Args:
        data: The `data` section of the config (configs/eval/labelled_data.py).
        views: A `views` section as of configs/base.py: what clips are to be like.
        picture: Whether the picture will be asked for; not all data have one.

    Returns:
        The data, no part of which is empty.

    Raises:
        ConfigError, ValueError, FileNotFoundError: The data cannot serve; the message names a field
            of `data` and what is allowed.
    """
    splits = _find_splits(data)
    names = {"train": splits.train, "test": splits.test, "validation": splits.validation}
    sources = {
        part: _open(data, views, picture, split)
        for part, split in names.items()
        if split is not None
    }
    class_names = _class_names(data, sources)
    parts = {
        part: _recordings(data, source, names[part], class_names)
        for part, source in sources.items()
    }
    train, validation = parts["train"], parts.get("validation")
    if "test" in parts:
        partitions = [Partition(splits.test, train, parts["test"], validation)]
    elif train.source.partitions:
        partitions = _official(train, validation)
    else:
        kept, tested = held_out(train, data.test_share, data.seed)
        partitions = [Partition("random", kept, tested, validation)]
    partitions = _chosen(data, partitions)
    for partition in partitions:
        _check(data, partition)
    multi_label = any((part.targets.sum(axis=1) > 1).any() for part in parts.values())
    return LabelledData(class_names, multi_label, tuple(partitions), _fingerprint(partitions))


def all_recordings(data: LabelledData) -> list[tuple["ClipSource", np.ndarray]]:
    """The recordings of all partitions, each once.

    Returns:
        The sources, and of each (n,) int64 numbers in order.
    """
    found: dict[int, tuple[ClipSource, list[np.ndarray]]] = {}
    for partition in data.partitions:
        for part in (partition.train, partition.test, partition.validation):
            if part is not None:
                found.setdefault(id(part.source), (part.source, []))[1].append(part.example_ids)
    return [(source, np.unique(np.concatenate(ids))) for source, ids in found.values()]


def held_out(recordings: Recordings, share: float, seed: int) -> tuple[Recordings, Recordings]:
    """Divides recordings at random into some to keep and some to hold out.

    To be divided is whatever has `targets` and `take`: `Recordings`, or samples with features.
    Where each is of one class, all classes are in proportion on both sides, with at least one each
    if there are two. Those of a class of which there is but one are kept.

    Args:
        recordings: To divide.
        share: Of them to hold out, from 0 to 0.5.
        seed: Of the draw.

    Returns:
        Those kept and those held out, in their order; the latter are none where there are too few.
    """
    single = (recordings.targets.sum(axis=1) == 1).all()
    classes = recordings.targets.argmax(axis=1) if single else np.zeros(len(recordings), np.int64)
    divisible = np.flatnonzero(np.bincount(classes, minlength=1)[classes] > 1)
    least = len(np.unique(classes[divisible]))
    count = min(max(round(share * len(divisible)), least), len(divisible) - least)
    held = np.zeros(len(recordings), bool)
    if share and count:
        kind = StratifiedShuffleSplit if single else ShuffleSplit
        splitter = kind(n_splits=1, test_size=count, random_state=seed)
        [(_, places)] = splitter.split(divisible, classes[divisible])
        held[divisible[places]] = True
    return recordings.take(~held), recordings.take(held)


def _find_splits(data: ml_collections.ConfigDict) -> _Splits:
    """Says which splits to open, from what the config names and what is there."""
    fields = ("train_split", "test_split", "validation_split")
    named = [data[field] for field in fields if data[field]]
    there, tested = _available(data)
    if not there:  # opening it says what is wrong
        return _Splits("")
    for field in fields:
        if data[field] and data[field] not in there:
            _refuse(data, field, f"'' or a split that is there: {', '.join(map(repr, there))}")
        if data[field] and named.count(data[field]) > 1:
            _refuse(data, field, "another split than in the other fields")
    free = [split for split in there if split not in named]
    train = data.train_split or _first(data, "train_split", _TRAIN, free)
    test = data.test_split or _first(data, "test_split", tested, free)
    left = [split for split in free if split != test]
    validation = data.validation_split or _first(data, "validation_split", _VALIDATION, left)
    if train and test:
        return _Splits(train, test, validation)
    if data.test_split:
        _refuse(
            data, "train_split", f"one of {', '.join(map(repr, free)) or 'no split: none left'}"
        )
    if data.train_split or (train and data.dataset == "prepared"):
        return _Splits(train, None, data.validation_split or None)
    # What is there are classes, or splits that nobody knows the use of.
    if data.dataset == "prepared" and len(free) != 1:
        _refuse(data, "train_split", f"one of {', '.join(map(repr, there))}")
    return _Splits(
        free[0] if data.dataset == "prepared" else "", None, data.validation_split or None
    )


def _first(
    data: ml_collections.ConfigDict, field: str, kinds: Sequence[str], free: Sequence[str]
) -> str | None:
    """The first split there is of some kinds, such as "Testing" of "test"."""
    from input_pipeline.datasets import splits

    for kind in kinds:
        found = [name for name in free if kind in (name, splits.called(name))]
        if len(found) > 1:
            _refuse(data, field, f"one of {', '.join(map(repr, found))}")
        if found:
            return found[0]
    return None


def _available(data: ml_collections.ConfigDict) -> tuple[list[str], Sequence[str]]:
    """The splits there are, and names to look for among them for one to test on."""
    if data.dataset == "generated":
        return ["train", "test", *(["val"] if data.generated.val else [])], _TEST
    folder = pathlib.Path(os.path.abspath(os.path.expanduser(data.path)))
    if data.dataset == "folder":
        there = [path.name for path in folder.glob("*") if path.is_dir()] if data.path else []
        return sorted(there), _TEST + _VALIDATION
    from input_pipeline import metadata, records

    try:
        recipe = records.load_recipe(folder)
    except FileNotFoundError:
        return [], ()
    tested_on_validation = recipe.dataset in _TESTED_ON_VALIDATION
    names = _VALIDATION if tested_on_validation else _TEST + _VALIDATION
    return metadata.splits(folder, recipe), names


def _open(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict, picture: bool, split: str
) -> "ClipSource":
    from input_pipeline import datasets

    section = ml_collections.ConfigDict({**data, "split": split})
    return datasets.open_dataset(section, views, picture)


def _class_names(
    data: ml_collections.ConfigDict, sources: Mapping[str, "ClipSource"]
) -> tuple[str, ...]:
    """The classes of what is to train on, which those of all else are among."""
    class_names = sources["train"].class_names
    for part, source in sources.items():
        unknown = sorted(set(source.class_names) - set(class_names))
        if unknown and class_names:
            _refuse(
                data,
                f"{part}_split",
                f"a split of classes that are trained on, not {', '.join(map(repr, unknown[:3]))}"
                + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""),
            )
    return class_names


def _recordings(
    data: ml_collections.ConfigDict,
    source: "ClipSource",
    split: str,
    class_names: tuple[str, ...],
) -> Recordings:
    """The labelled recordings of a source; tells how many others there are."""
    from input_pipeline import datasets

    marks = datasets.multi_hot(source)
    labelled = marks.any(axis=1)
    what = f"split {split!r}" if split else "the data"
    if not labelled.any():
        _refuse(data, "path", f"labelled data; {what} there has no label on any recording")
    if not labelled.all():
        print(
            f"{what}: {np.sum(~labelled)} of {len(source)} recordings have no label; left out",
            flush=True,
        )
    targets = np.zeros((len(source), len(class_names)), bool)
    targets[:, [class_names.index(name) for name in source.class_names]] = marks
    example_ids = np.flatnonzero(labelled).astype(np.int64)
    return Recordings(source, example_ids, targets[example_ids])


def _official(recordings: Recordings, validation: Recordings | None) -> list[Partition]:
    """The partitions that come with a data set."""
    from input_pipeline.records import Role

    roles = recordings.source.roles[recordings.example_ids]
    return [
        Partition(
            name,
            recordings.take(roles[:, place] == Role.TRAIN),
            recordings.take(roles[:, place] == Role.TEST),
            validation,
        )
        for place, name in enumerate(recordings.source.partitions)
    ]


def _chosen(data: ml_collections.ConfigDict, partitions: list[Partition]) -> list[Partition]:
    """Those that the config names; all where it names none."""
    names = [partition.name for partition in partitions]
    if not set(data.partitions) <= set(names):
        _refuse(data, "partitions", f"() for all, or some of {tuple(names)}")
    return [part for part in partitions if not data.partitions or part.name in data.partitions]


def _check(data: ml_collections.ConfigDict, partition: Partition) -> None:
    """Refuses a partition that nothing can be learned from, or tested on."""
    for use, part in (("train", partition.train), ("test", partition.test)):
        if not len(part):
            _refuse(
                data,
                "partitions",
                f"partitions with something to train and to test on; {partition.name!r} has no "
                f"recording to {use} on",
            )
    learned = partition.train.targets.any(axis=0)
    if learned.sum() < 2:
        _refuse(
            data,
            "path",
            f"data of two classes or more; partition {partition.name!r} has recordings of "
            f"{learned.sum()} to train on",
        )
    unlearned = int(np.sum(partition.test.targets.any(axis=0) & ~learned))
    if unlearned:
        print(
            f"partition {partition.name!r}: {unlearned} classes are tested without a recording to "
            "train on",
            flush=True,
        )


def _fingerprint(partitions: Sequence[Partition]) -> str:
    digest = hashlib.sha256()
    for partition in partitions:
        for part in partition[1:]:
            if part is not None:
                digest.update(part.source.fingerprint.encode())
                digest.update(part.example_ids.tobytes() + part.targets.tobytes())
    return digest.hexdigest()


def _refuse(data: ml_collections.ConfigDict, field: str, allowed: str) -> NoReturn:
    raise ConfigError(f"config.data.{field} is {data[field]!r}; allowed: {allowed}")
