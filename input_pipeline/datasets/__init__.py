"""Sources of clips: what every one of them offers, and the choice of one by configuration."""

import typing

import ml_collections
import numpy as np

from input_pipeline.media import Clip

DATASETS = ("folder", "generated")


class ClipSource(typing.Protocol):
    """A fixed sequence of recordings, each of which gives a clip from wherever it is asked to.

    Everything but the reporting of failures is a function of the files and of the arguments alone,
    and may be called from any number of threads.

    Attributes:
        labels: (N,) int64, indices into `class_names`; None where the files bear no labels.
        class_names: The classes in the order of their indices; empty without labels.
    """

    labels: np.ndarray | None
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number N of usable recordings."""

    def name(self, index: int) -> str:
        """Name of a recording for people to find it by, unique within the source."""

    def read(self, index: int, position: float) -> Clip:
        """The clip of a recording at a position.

        Args:
            index: Which recording, in [0, N).
            position: Where in it, in [0, 1): the clip starts at
                `position * max(0, duration - seconds)`.

        Returns:
            `round(seconds * frame_rate)` frames and `round(seconds * sample_rate)` samples.
        """


def open_dataset(data: ml_collections.ConfigDict, views: ml_collections.ConfigDict) -> ClipSource:
    """Opens the source that `data.dataset` names.

    Args:
        data: The `data` section of the configuration (configs/base.py).
        views: Its `views` section: length, frame rate, size and sample rate of the clips.

    Returns:
        The source, its files scanned and at least one of them usable.

    Raises:
        ValueError: `data.dataset` is not known, or its path holds nothing usable.
        FileNotFoundError: `data.path` does not exist.
    """
    # Imported on demand: `python -m input_pipeline.datasets.generated` must not find itself loaded.
    if data.dataset == "folder":
        from input_pipeline.datasets import folder

        return folder.open_folder(data, views)
    if data.dataset == "generated":
        from input_pipeline.datasets import generated

        return generated.open_generated(data, views)
    raise ValueError(
        f"config.data.dataset is {data.dataset!r}; allowed: {', '.join(map(repr, DATASETS))}"
    )
