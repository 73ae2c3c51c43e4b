"""The prepared sets that a config names: one, or the several of a mixture. Reads no records."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import ml_collections
import numpy as np

from input_pipeline import data_folders
from input_pipeline.prepared import manifest, metadata, records, verification


class PreparedSet(NamedTuple):
    """A split of a prepared data set.

    Attributes:
        name: Its folder, as the config has it.
        folder: The same as an absolute path.
        recipe: What all records of the data set have in common.
        split: Name of the split.
        index: What is known of its records.
        subject: Beginning of a message about the split.
    """

    name: str
    folder: pathlib.Path
    recipe: records.Recipe
    split: str
    index: records.Index
    subject: str


class PreparedSets:
    """One set, or several one after another, as one.

    Args:
        parts: The sets, prepared alike.

    Attributes:
        parts: The sets.
        recipe: What all records have in common. Those of several sets have neither classes nor
            partitions.
        index: What is known of the records.
        sets: Indices of the records of each set, by the name of its folder.
        has_video: (N,) bool, whether the record has frames.
        has_audio: (N,) bool, whether the record has sound.
    """

    def __init__(self, parts: Sequence[PreparedSet]) -> None:
        self.parts = parts
        self.recipe, self.index = parts[0].recipe, parts[0].index
        if len(parts) > 1:
            self.recipe, self.index = _joined(parts)
        ends = itertools.accumulate(len(part.index.names) for part in parts)
        starts_and_ends = itertools.pairwise([0, *ends])
        self.sets = {
            part.name: range(*ids) for part, ids in zip(parts, starts_and_ends, strict=True)
        }
        self.has_video = np.asarray(self.index.frames) > 0
        self.has_audio = np.asarray(self.index.samples) > 0

    def __len__(self) -> int:
        return len(self.index.names)


def open_sets(data: ml_collections.ConfigDict) -> PreparedSets:
    """Opens a split of each prepared set that a section `data` names, and checks it quickly.

    Args:
        data: Section `data` of the config (xkd_jax/config/pretraining.py). An empty `data.split`
            means the only split of a set, or "train" if there are several.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: A folder does not hold prepared data or has no such split, the split is empty or
            damaged, or the sets are not prepared alike.
    """
    parts = [_open(data, folder) for folder in data_folders.folders(data)]
    _check_alike(parts, "frame_rate")
    # The size of frames of a set without pictures means nothing.
    _check_alike([part for part in parts if np.any(part.index.frames)], "short_side")
    return PreparedSets(parts)


def _open(data: ml_collections.ConfigDict, name: str) -> PreparedSet:
    subject = data_folders.subject(data, name)
    folder = verification.find(name, subject)
    recipe = records.load_recipe(folder)
    splits = metadata.splits(folder, recipe)
    split = data.split or (splits[0] if len(splits) == 1 else "train")
    if split not in splits:
        raise ValueError(
            f"config.data.split is {split!r}, which {name!r} does not hold; "
            f"allowed: {', '.join(map(repr, splits))}"
        )
    subject = f"{subject}, whose split {split!r}"
    try:
        index = _load_index(folder, recipe, split)
    except ValueError as error:
        raise ValueError(f"{subject} cannot be read: {error}") from None
    if not len(index.names):
        raise ValueError(f"{subject} is empty")
    if np.any((np.asarray(index.frames) == 0) & (np.asarray(index.samples) == 0)):
        raise ValueError(f"{subject} has recordings without picture and sound; {manifest.REMEDY}")
    return PreparedSet(name, folder, recipe, split, index, subject)


def _load_index(folder: pathlib.Path, recipe: records.Recipe, split: str) -> records.Index:
    """Checks the files of a split quickly, and reads its index.

    Raises:
        ValueError: The files have changed, or do not belong together.
    """
    verification.check(folder, recipe, [split])
    path = records.index_path(folder, split)
    if not path.is_file():
        raise ValueError(f"it lacks {path.name}; {manifest.REMEDY}")
    index = records.load_index(path)
    classes = 1 + max((label for labels in index.labels for label in labels), default=-1)
    if classes > len(recipe.class_names) or index.roles.shape[1] != len(recipe.partitions):
        raise ValueError(f"{path} and prepared.json belong to different data")
    return index


def _check_alike(parts: Sequence[PreparedSet], field: str) -> None:
    """Refuses sets whose recipes differ in a field that a mixture would hide."""
    for first, other in itertools.pairwise(parts):
        values = [getattr(part.recipe, field) for part in (first, other)]
        if values[0] != values[1]:
            raise ValueError(
                f"config.data.sources holds {first.name!r}, prepared with --{field}={values[0]:g}, "
                f"and {other.name!r}, with --{field}={values[1]:g}; allowed: sets prepared alike"
            )


def _joined(parts: Sequence[PreparedSet]) -> tuple[records.Recipe, records.Index]:
    """Returns the recipe and the index of several sets, without what only one of them defines."""
    seen = next((part for part in parts if np.any(part.index.frames)), parts[0])
    recipe = records.Recipe(
        "+".join(part.recipe.dataset for part in parts),
        parts[0].recipe.frame_rate,
        seen.recipe.short_side,
    )
    names = [name for part in parts for name in part.index.names]
    index = records.Index(
        names,
        [()] * len(names),
        np.zeros((len(names), 0), np.int64),
        np.concatenate([part.index.frames for part in parts]),
        np.concatenate([part.index.samples for part in parts]),
    )
    return recipe, index
