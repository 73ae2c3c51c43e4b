"""The folders that a config's data are in, and the share of a run's examples that each gives."""

import fractions
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

_Data = Mapping[str, Any] | ml_collections.ConfigDict


def folders(data: _Data) -> tuple[str, ...]:
    """Returns the folders that a section `data` names: those of a mixture, or the only one.

    Args:
        data: Section `data` of a config of any task and version.
    """
    return tuple(data.get("sources") or [data["path"]])


def is_mixture(data: _Data) -> bool:
    """Returns whether a section `data` names the sets of a mixture."""
    return bool(data.get("sources"))


def members(data: _Data, source: Any) -> dict[str, range]:
    """Returns the indices of the recordings of each folder, by its name.

    Args:
        data: Section `data` of a config.
        source: What it names: a source of clips, or prepared sets.
    """
    return source.sets if is_mixture(data) else {data["path"]: range(len(source))}


def weights(data: _Data, sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns the weights of the folders, which their shares of the examples are proportional to.

    Args:
        data: Section `data` of a config.
        sizes: Number of recordings that the run draws from in each folder; the weights where the
            config has none.
    """
    return tuple(data.get("weights") or sizes)


class Share(NamedTuple):
    """What a run takes from a folder.

    Attributes:
        folder: The folder.
        recordings: Number of its recordings that the run draws from.
        of_examples: The share of the run's examples that are from this folder.
    """

    folder: str
    recordings: int
    of_examples: fractions.Fraction

    def in_words(self, examples: int) -> str:
        """Says how many of a run's examples are from this folder, and how often each comes.

        Args:
            examples: Number of examples of the whole run.
        """
        passes = float(examples * self.of_examples / self.recordings)
        return f"{float(self.of_examples):.2%} of the examples, {passes:.4g} passes"


def shares(data: _Data, sizes: Sequence[int]) -> list[Share]:
    """Returns what a run takes from each folder; the arguments are those of `weights`."""
    numbers = weights(data, sizes)
    return [
        Share(folder, size, fractions.Fraction(number, sum(numbers)))
        for folder, size, number in zip(folders(data), sizes, numbers, strict=True)
    ]


def check(data: _Data) -> None:
    """Checks that the fields about the folders fit together.

    Raises:
        ValueError: They do not. The message names the field, its value and what is allowed.
    """
    sources, numbers = data.get("sources", ()), data.get("weights", ())
    if not sources:
        if numbers:
            _refuse(data, "weights", "() without config.data.sources")
        return
    if data["path"]:
        _refuse(data, "path", "'' with config.data.sources")
    if data["dataset"] != "prepared":
        _refuse(data, "dataset", "'prepared' with config.data.sources")
    if numbers and len(numbers) != len(sources):
        _refuse(data, "weights", f"(), or {len(sources)} numbers, as config.data.sources")
    places = [os.path.realpath(os.path.expanduser(folder)) for folder in sources]
    for number, folder in enumerate(sources):
        if places[number] in places[:number]:
            _refuse(data, "sources", f"different folders; {folder!r} comes twice")


def subject(data: _Data, folder: str) -> str:
    """Returns the beginning of a message about one of the folders."""
    verb = "holds" if is_mixture(data) else "is"
    return f"config.data.{'sources' if is_mixture(data) else 'path'} {verb} {folder!r}"


def _refuse(data: _Data, field: str, allowed: str) -> None:
    raise ValueError(f"config.data.{field} is {data[field]!r}; allowed: {allowed}")
