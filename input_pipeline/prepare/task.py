"""What to prepare: a data set and its settings, and which of them are allowed."""

import dataclasses
import pathlib

from input_pipeline.datasets import listing
from input_pipeline.datasets.readers import READERS
from input_pipeline.prepare.output_plan import PrepareError
from input_pipeline.prepared import records
from input_pipeline.programs import terminal

_VERSION = 2  # increases when the same files and settings give other data


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set to prepare.

    Attributes:
        dataset: Name of the data set, from `READERS`.
        source: Folder with the files of the data set.
        output: Folder to prepare the data set in.
        frame_rate: Frames per second to keep.
        short_side: Shorter side of the frames in pixels.
        require: What a recording must have, from `listing.REQUIREMENTS`. Empty for the default of
            the data set.
        min_seconds: Recordings shorter than this are left out.
        max_seconds: Recordings longer than this are left out.
        shard_size: Largest number of recordings in a shard.
        max_bad_fraction: Largest share of recordings that may be left out.
        workers: Number of processes.
        beam: Flags of the Beam pipeline to run. None to use processes instead.
    """

    dataset: str
    source: pathlib.Path
    output: pathlib.Path
    frame_rate: float = 8.0
    short_side: int = 128
    require: str = ""
    min_seconds: float = 0.0
    max_seconds: float = 3600.0
    shard_size: int = 256
    max_bad_fraction: float = 0.05
    workers: int = 1
    beam: tuple[str, ...] | None = None


def check(task: Task) -> None:
    """Checks the arguments.

    Raises:
        PrepareError: An argument is not allowed.
    """
    if task.dataset not in READERS:
        raise PrepareError(f"--dataset is {task.dataset!r}; allowed: {', '.join(READERS)}")
    if task.output.exists() and not task.output.is_dir():
        raise PrepareError(f"--output is {str(task.output)!r}, a file; allowed: a folder")
    output = task.output.resolve()
    if terminal.printable(str(output)) != str(output):  # ArrayRecord accepts Unicode only
        raise PrepareError(f"--output is {str(output)!r}; allowed: names in UTF-8, on one line")
    if task.source.resolve() in (output, *output.parents):
        raise PrepareError(
            f"--output is {str(task.output)!r}, inside --source; allowed: a folder outside it"
        )
    if task.require and task.require not in listing.REQUIREMENTS:
        raise PrepareError(
            f"--require is {task.require!r}; allowed: {', '.join(listing.REQUIREMENTS)}"
        )
    lowest, highest = records.FRAME_RATES
    smallest, largest = records.SHORT_SIDES
    limits = {
        "frame_rate": (lowest <= task.frame_rate <= highest, f"{lowest:g} to {highest:g}"),
        "short_side": (smallest <= task.short_side <= largest, f"{smallest} to {largest}"),
        "min_seconds": (0 <= task.min_seconds < task.max_seconds, "0 or more, below max_seconds"),
        "max_seconds": (task.max_seconds <= 4 * 3600, "at most 14400"),  # a record holds 2 GB
        "shard_size": (task.shard_size >= 1, "1 or more"),
        "max_bad_fraction": (0 <= task.max_bad_fraction <= 1, "0 to 1"),
        "workers": (task.workers >= 1, "1 or more; 0 for one per core"),
    }
    for name, (is_allowed, allowed) in limits.items():
        if not is_allowed:
            raise PrepareError(f"--{name} is {getattr(task, name)}; allowed: {allowed}")


def requested(task: Task) -> dict[str, object]:
    """Returns the settings of the task that the written data depend on."""
    names = ("dataset", "frame_rate", "short_side", "min_seconds", "max_seconds", "shard_size")
    settings = {name: getattr(task, name) for name in names}
    if task.require:
        settings["require"] = task.require
    source = terminal.printable(str(task.source.resolve()))
    return settings | {"version": _VERSION, "source": source}
