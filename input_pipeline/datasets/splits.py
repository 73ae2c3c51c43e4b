"""Tells from folder names which folders of a media tree are splits and which are classes."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_FORMS = {
    "train": "train|training",
    "val": "val|valid|validation|validate",
    "test": "test|testing",
    "eval": "eval|evaluation",
}
_NAMES = re.compile(
    rf"({'|'.join(f'(?P<{split}>{forms})' for split, forms in _FORMS.items())})"
    r"([ ._-]?(set|split|data))?",
    re.IGNORECASE,
)


class Place(NamedTuple):
    """The split and the class of a file.

    Attributes:
        split: "train", "val", "test" or "eval"; empty in a tree without splits; None for a file
            outside the splits of a tree that has some.
        label: Name of the class, which is a folder at the top or in a split; empty if the file lies
            in no such folder.
    """

    split: str | None
    label: str


def split_of_name(folder: str) -> str:
    """Returns the split that a folder's name means, e.g. "train" for "Training set", or ""."""
    match = _NAMES.fullmatch(folder)
    return next(split for split in _FORMS if match[split]) if match else ""


def find_splits(folders: Iterable[str]) -> dict[str, str]:
    """Finds the splits among the top-level folders of a tree.

    A class may be called "train" too. So the folders count as splits only if all of them have names
    of splits, or if there is a training split and another one.

    Args:
        folders: Names of the top-level folders.

    Returns:
        The split by folder; empty if the folders are classes.

    Raises:
        ValueError: Two folders name the same split.
    """
    folders = sorted(folders)
    split_by_folder = {folder: split for folder in folders if (split := split_of_name(folder))}
    present = set(split_by_folder.values())
    if len(split_by_folder) < len(folders) and not ("train" in present and len(present) > 1):
        return {}
    for split in present:
        same = [folder for folder, other in split_by_folder.items() if other == split]
        if len(same) > 1:
            raise ValueError(
                f"several folders for the split {split}: {' and '.join(map(repr, same))}"
            )
    return split_by_folder


def locate(paths: Sequence[str]) -> list[Place]:
    """Returns the split and the class of each file of a tree.

    Args:
        paths: Paths of all files, relative to the tree's root, with forward slashes.

    Raises:
        ValueError: Two folders name the same split.
    """
    parts = [path.split("/")[:-1] for path in paths]
    splits = find_splits({folders[0] for folders in parts if folders})
    if not splits:
        return [Place("", folders[0] if folders else "") for folders in parts]
    return [
        Place(splits[folders[0]], folders[1] if folders[1:] else "")
        if folders and folders[0] in splits
        else Place(None, "")
        for folders in parts
    ]
