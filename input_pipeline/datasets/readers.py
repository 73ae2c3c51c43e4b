"""The data sets that `prepare` knows, with the function that lists the recordings of each."""

import dataclasses
import pathlib
from collections.abc import Callable

from input_pipeline.datasets import (
    audioset,
    esc50,
    fsd50k,
    generated,
    hmdb51,
    kinetics,
    listing,
    published,
    something_something,
    tree,
    ucf101,
    vggsound,
)

READERS: dict[str, Callable[[pathlib.Path], listing.Listing]] = {
    "kinetics400": kinetics.recordings,
    "kinetics600": kinetics.recordings,
    "kinetics700": kinetics.recordings,
    "kinetics_sound": kinetics.sound_recordings,
    "something_something": something_something.recordings,
    "audioset": audioset.recordings,
    "audioset_20k": audioset.balanced_recordings,
    "vggsound": vggsound.recordings,
    "ucf101": ucf101.recordings,
    "hmdb51": hmdb51.recordings,
    "esc50": esc50.recordings,
    "fsd50k": fsd50k.recordings,
    "folder": tree.recordings,
    "generated": generated.recordings,
}


def read(dataset: str, root: pathlib.Path) -> listing.Listing:
    """Lists the recordings of a data set, and notes what it lacks of the published one.

    Args:
        dataset: One of `READERS`.
        root: Folder of the data set.

    Raises:
        ValueError: The folder does not hold the data set.
        OSError: The folder cannot be read.
    """
    recordings = READERS[dataset](root)
    entries = [entry for split in recordings.splits.values() for entry in split]
    classes = len({label for entry in entries for label in entry.labels})
    missing = published.shortfall(
        dataset,
        classes=classes if recordings.class_names else None,
        recordings={split: len(entries) for split, entries in recordings.splits.items()},
    )
    notes = (*recordings.notes, *([missing] if missing else []))
    return dataclasses.replace(recordings, notes=notes)
