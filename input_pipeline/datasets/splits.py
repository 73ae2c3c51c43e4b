"""What the folders of a tree of media say: which are splits, and which below them are classes."""

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
    """Where a file lies.

    Attributes:
        split: Of the tree: "train", "val", "test" or "eval"; empty in a tree without splits, None
            beside those of a tree with some.
        label: Name of its class, a folder at the top or in a split; empty where it lies in none.
    """

    split: str | None
    label: str


def called(folder: str) -> str:
    """The split that a folder is called, such as "train" for "Training set"; empty if none."""
    match = _NAMES.fullmatch(folder)
    return next(split for split in _FORMS if match[split]) if match else ""


def among(folders: Iterable[str]) -> dict[str, str]:
    """Which of the folders at the top of a tree are its splits.

    A class may be called "train", too. They are splits if all are called like some, or if there is
    one to train on and another one.

    Returns:
        Splits by folder; empty where the folders are classes.

    Raises:
        ValueError: Two folders are one split.
    """
    folders = sorted(folders)
    found = {folder: split for folder in folders if (split := called(folder))}
    known = set(found.values())
    if len(found) < len(folders) and not ("train" in known and len(known) > 1):
        return {}
    for split in known:
        if len(same := [folder for folder in found if found[folder] == split]) > 1:
            raise ValueError(
                f"several folders for the split {split}: {' and '.join(map(repr, same))}"
            )
    return found


def places(paths: Sequence[str]) -> list[Place]:
    """Says where each file of a tree lies.

    Args:
        paths: Of all of them, relative to the tree's root, with forward slashes.

    Raises:
        ValueError: Two folders are one split.
    """
    parts = [path.split("/")[:-1] for path in paths]
    splits = among({folders[0] for folders in parts if folders})
    if not splits:
        return [Place("", folders[0] if folders else "") for folders in parts]
    return [
        Place(splits[folders[0]], folders[1] if folders[1:] else "")
        if folders and folders[0] in splits
        else Place(None, "")
        for folders in parts
    ]
