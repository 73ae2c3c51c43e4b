"""The data sets that `prepare` knows, with the function that lists the recordings of each."""

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
    tree,
    ucf101,
)

READERS: dict[str, Callable[[pathlib.Path], listing.Listing]] = {
    "kinetics400": kinetics.recordings,
    "kinetics_sound": kinetics.sound_recordings,
    "audioset": audioset.recordings,
    "ucf101": ucf101.recordings,
    "hmdb51": hmdb51.recordings,
    "esc50": esc50.recordings,
    "fsd50k": fsd50k.recordings,
    "folder": tree.recordings,
    "generated": generated.recordings,
}
