"""Miniatures of the published data sets, with their folders, annotations and broken files."""

from tests.input_pipeline.layouts.miniature import Layout, Media, copy_of
from tests.input_pipeline.layouts.sounds import (
    audioset,
    audioset_20k,
    audioset_labels,
    esc50,
    fsd50k,
    vggsound,
)
from tests.input_pipeline.layouts.videos import (
    folder,
    hmdb51,
    kinetics400_flat,
    kinetics400_folders,
    kinetics700,
    kinetics_sound,
    something_something,
    ucf101,
)

ALL = (
    *(kinetics400_folders, kinetics400_flat, kinetics700, kinetics_sound, something_something),
    *(audioset, audioset_labels, audioset_20k, vggsound),
    *(ucf101, hmdb51, esc50, fsd50k, folder),
)

__all__ = [*(build.__name__ for build in ALL), "ALL", "Layout", "Media", "copy_of"]
