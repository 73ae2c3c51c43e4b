"""Labeled recordings, divided into training and test sets as each data set defines them.

Every result of the paper is either a mean over official partitions (the splits of UCF101 and
HMDB51, the folds of ESC50) or for one training split and one test split. Data without any of these
are divided at random, with each class in the same proportion.
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

from input_pipeline.programs.wording import counted
from xkd_jax.config.checks import ConfigError
from xkd_jax.run import console

if TYPE_CHECKING:  # imports TensorFlow
    from input_pipeline.sources import ClipSource

# Kinds of splits to look for, in order of preference; `input_pipeline.datasets.splits` knows other
# names for them. Results on Kinetics and Something-Something are reported for `val`: when they were
# published, their `test` had no labels.
_TRAIN, _TEST, _VALIDATION = ("train",), ("test", "eval"), ("val",)
_TESTED_ON_VALIDATION = (
    *("kinetics400", "kinetics600", "kinetics700", "kinetics_sound", "something_something"),
)


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Recordings of a source, with their classes.

    Attributes:
        source: Source that the recordings are in.
        example_ids: (n,) int64. Ids of the recordings in the source.
        targets: (n, C) bool. Classes of each recording.
    """

    source: "ClipSource"
    example_ids: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.example_ids)

    def take(self, places: np.ndarray) -> "Recordings":
        """Selects recordings by indices or by an (n,) bool mask."""
        return Recordings(self.source, self.example_ids[places], self.targets[places])

    @property
    def without_sound(self) -> int:
        """Number of recordings without sound."""
        return int(np.sum(~self.source.has_audio[self.example_ids]))


class Partition(NamedTuple):
    """A division of recordings into training and test sets.

    Attributes:
        name: Name of the partition, such as "1" for UCF101's first split.
        train: Recordings to train on.
        test: Recordings to test on. None of them is in `train`.
        validation: Recordings of the validation split. None if the data set has no such split.
    """

    name: str
    train: Recordings
    test: Recordings
    validation: Recordings | None


class LabeledData(NamedTuple):
    """A labeled data set.

    Attributes:
        class_names: C names, in the order of the targets' columns.
        multi_label: Whether some recordings have several classes.
        partitions: At least one partition.
        fingerprint: Digest of recordings, targets and partitions.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    partitions: tuple[Partition, ...]
    fingerprint: str


class _Splits(NamedTuple):
    """Names of the splits to open.

    Attributes:
        train: Training split. Empty for all data.
        test: Test split. None to take the test set from `train`.
        validation: Validation split. None to hold out a share of the training recordings.
    """

    train: str
    test: str | None = None
    validation: str | None = None


def open_labeled(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict, picture: bool = True
) -> LabeledData:
    """Opens the data set that a config names, and divides it into partitions.

    Prints how many recordings have no label and are left out.

    Args:
        data: Section `data` of the config (`xkd_jax.config.evaluation`).
        views: Section `views` of a pretraining's config, which describes the views to make.
        picture: Whether video is needed. Not all data have video.

    Returns:
        Labeled data with non-empty training and test sets.

    Raises:
        ConfigError: A field of `data` is not allowed. The message names it and what is allowed.
        ValueError: The data are unusable.
        FileNotFoundError: The data do not exist.
    """
    if data.get("short_sound", "repeat") == "silence" and (picture or data.dataset != "prepared"):
        _refuse(data, "short_sound", "'repeat', except for audio alone from prepared data")
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
        kept, test = held_out(train, data.test_share, data.seed)
        partitions = [Partition("random", kept, test, validation)]
    partitions = _select(data, partitions)
    for partition in partitions:
        _check(data, partition)
    multi_label = any((part.targets.sum(axis=1) > 1).any() for part in parts.values())
    return LabeledData(class_names, multi_label, tuple(partitions), _fingerprint(partitions))


def all_recordings(data: LabeledData) -> list[tuple["ClipSource", np.ndarray]]:
    """Collects the recordings of all partitions, each once.

    Returns:
        Pairs of a source and the (n,) int64 ids of its recordings, in ascending order.
    """
    by_source: dict[int, tuple[ClipSource, list[np.ndarray]]] = {}
    for partition in data.partitions:
        for part in (partition.train, partition.test, partition.validation):
            if part is not None:
                _, ids = by_source.setdefault(id(part.source), (part.source, []))
                ids.append(part.example_ids)
    return [(source, np.unique(np.concatenate(ids))) for source, ids in by_source.values()]


def held_out(recordings: Recordings, share: float, seed: int) -> tuple[Recordings, Recordings]:
    """Divides recordings at random into some to keep and some to hold out.

    Works on anything with `targets` and `take`: `Recordings` or `selection.LabeledFeatures`. If
    each recording has one class, both sides have the classes in the same proportion, and at least
    one recording of each class that has two or more. A class's only recording is kept.

    Args:
        recordings: Recordings to divide.
        share: Share to hold out, from 0 to 0.5.
        seed: Seed of the draw.

    Returns:
        The kept and the held-out recordings, each in their original order. None are held out if
        there are too few.
    """
    single = (recordings.targets.sum(axis=1) == 1).all()
    classes = recordings.targets.argmax(axis=1) if single else np.zeros(len(recordings), np.int64)
    divisible = np.flatnonzero(np.bincount(classes, minlength=1)[classes] > 1)
    class_count = len(np.unique(classes[divisible]))
    count = min(max(round(share * len(divisible)), class_count), len(divisible) - class_count)
    held = np.zeros(len(recordings), bool)
    if share and count:
        splitter_class = StratifiedShuffleSplit if single else ShuffleSplit
        splitter = splitter_class(n_splits=1, test_size=count, random_state=seed)
        [(_, indices)] = splitter.split(divisible, classes[divisible])
        held[divisible[indices]] = True
    return recordings.take(~held), recordings.take(held)


def _find_splits(data: ml_collections.ConfigDict) -> _Splits:
    """Decides which splits to open, from those that the config names and those that exist."""
    fields = ("train_split", "test_split", "validation_split")
    named = [data[field] for field in fields if data[field]]
    available, test_kinds = _available(data)
    if not available:  # opening the data raises the error
        return _Splits("")
    for field in fields:
        if data[field] and data[field] not in available:
            _refuse(data, field, f"'' or an existing split: {', '.join(map(repr, available))}")
        if data[field] and named.count(data[field]) > 1:
            _refuse(data, field, "a split that no other field names")
    free = [split for split in available if split not in named]
    train = data.train_split or _first(data, "train_split", _TRAIN, free)
    test = data.test_split or _first(data, "test_split", test_kinds, free)
    left = [split for split in free if split != test]
    validation = data.validation_split or _first(data, "validation_split", _VALIDATION, left)
    if train and test:
        return _Splits(train, test, validation)
    if data.test_split:
        _refuse(
            data, "train_split", f"one of {', '.join(map(repr, free)) or 'no split: none is left'}"
        )
    if data.train_split or (train and data.dataset == "prepared"):
        return _Splits(train, None, data.validation_split or None)
    # The folders are classes, or splits of unknown use.
    if data.dataset == "prepared" and len(free) != 1:
        _refuse(data, "train_split", f"one of {', '.join(map(repr, available))}")
    return _Splits(
        free[0] if data.dataset == "prepared" else "", None, data.validation_split or None
    )


def _first(
    data: ml_collections.ConfigDict, field: str, kinds: Sequence[str], free: Sequence[str]
) -> str | None:
    """Finds a split by its kind, in order of preference: "Testing" has the kind "test"."""
    from input_pipeline.datasets import splits

    for kind in kinds:
        candidates = [name for name in free if kind in (name, splits.split_of_name(name))]
        if len(candidates) > 1:
            _refuse(data, field, f"one of {', '.join(map(repr, candidates))}")
        if candidates:
            return candidates[0]
    return None


def _available(data: ml_collections.ConfigDict) -> tuple[list[str], Sequence[str]]:
    """Returns the existing splits, and the kinds of splits to test on in order of preference."""
    if data.dataset == "generated":
        return ["train", "test", *(["val"] if data.generated.val else [])], _TEST
    folder = pathlib.Path(os.path.abspath(os.path.expanduser(data.path)))
    if data.dataset == "folder":
        names = [path.name for path in folder.glob("*") if path.is_dir()] if data.path else []
        return sorted(names), _TEST + _VALIDATION
    from input_pipeline.prepared import metadata, records

    try:
        recipe = records.load_recipe(folder)
    except FileNotFoundError:
        return [], ()
    tested_on_validation = recipe.dataset in _TESTED_ON_VALIDATION
    kinds = _VALIDATION if tested_on_validation else _TEST + _VALIDATION
    return metadata.splits(folder, recipe), kinds


def _open(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict, picture: bool, split: str
) -> "ClipSource":
    from input_pipeline import datasets

    section = ml_collections.ConfigDict({**data, "split": split})
    return datasets.open_dataset(section, views, picture)


def _class_names(
    data: ml_collections.ConfigDict, sources: Mapping[str, "ClipSource"]
) -> tuple[str, ...]:
    """Returns the classes of the training split. The other splits must not have more."""
    class_names = sources["train"].class_names
    for part, source in sources.items():
        unknown = sorted(set(source.class_names) - set(class_names))
        if unknown and class_names:
            _refuse(
                data,
                f"{part}_split",
                "a split without classes that the training split lacks, such as "
                + ", ".join(map(repr, unknown[:3]))
                + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""),
            )
    return class_names


def _recordings(
    data: ml_collections.ConfigDict,
    source: "ClipSource",
    split: str,
    class_names: tuple[str, ...],
) -> Recordings:
    """Selects the labeled recordings of a source. Prints how many have no label."""
    from input_pipeline import sources

    source_targets = sources.multi_hot(source)
    labeled = source_targets.any(axis=1)
    place = f"split {split!r}" if split else "the data"
    if not labeled.any():
        _refuse(data, "path", f"labeled data; no recording of {place} has a label")
    if not labeled.all():
        console.say(
            f"{place}: left out {np.sum(~labeled)} of {counted(len(source), 'recording')} without "
            "a label"
        )
    targets = np.zeros((len(source), len(class_names)), bool)
    targets[:, [class_names.index(name) for name in source.class_names]] = source_targets
    example_ids = np.flatnonzero(labeled).astype(np.int64)
    return Recordings(source, example_ids, targets[example_ids])


def _official(recordings: Recordings, validation: Recordings | None) -> list[Partition]:
    """Returns the partitions that a data set defines."""
    from input_pipeline.prepared.records import Role

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


def _select(data: ml_collections.ConfigDict, partitions: list[Partition]) -> list[Partition]:
    """Returns the partitions that the config names, or all if it names none."""
    names = [partition.name for partition in partitions]
    if not set(data.partitions) <= set(names):
        _refuse(data, "partitions", f"() for all, or some of {tuple(names)}")
    return [p for p in partitions if not data.partitions or p.name in data.partitions]


def _check(data: ml_collections.ConfigDict, partition: Partition) -> None:
    """Raises ConfigError for a partition that cannot be trained or tested on."""
    for use, part in (("train", partition.train), ("test", partition.test)):
        if not len(part):
            _refuse(
                data,
                "partitions",
                f"partitions with recordings to train and to test on; {partition.name!r} has none "
                f"to {use} on",
            )
    learned = partition.train.targets.any(axis=0)
    if learned.sum() < 2:
        _refuse(
            data,
            "path",
            f"data with at least two classes; the training recordings of partition "
            f"{partition.name!r} have {learned.sum()}",
        )
    unlearned = int(np.sum(partition.test.targets.any(axis=0) & ~learned))
    if unlearned:
        console.say(
            f"partition {partition.name!r}: {counted(unlearned, 'class')} with test "
            "recordings but without training recordings"
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
