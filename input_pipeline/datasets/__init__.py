"""Sources of clips: what every one of them offers, and the choice of one by configuration."""

import typing
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from input_pipeline.media import Clip

if typing.TYPE_CHECKING:
    import tensorflow as tf

    from input_pipeline.reading import ClipTensors

DATASETS = ("folder", "generated", "prepared")


class UnusableError(ValueError):
    """A source too much of which can no longer be read; the message is all there is to say."""


class ClipSource(typing.Protocol):
    """A fixed sequence of recordings, each of which gives a clip from wherever it is asked to.

    Everything but the reporting of failures is a function of the files and of the arguments alone,
    and may be called from any number of threads.

    Attributes:
        labels: (N,) int64, indices into `class_names`; None unless every recording has exactly one.
        label_sets: N tuples of them, for recordings with none or several, see `multi_hot`.
        class_names: The classes in the order of their indices; empty without labels.
        roles: (N, K) int64: what each recording is in the K official partitions, see
            `records.Role`.
        partitions: Their K names; empty where the splits are the partition.
        has_audio: (N,) bool, whether there is any sound; without, the clips are silent.
        fingerprint: Digest of the recordings' names and of what tells changed files from the same
            ones elsewhere. Where it is the same, so are the clips.
        inventory: What tells whether a run goes on with the same data, ready for JSON: the number
            of `recordings`, and a `digest` that copies elsewhere share.
        failed: Why recordings could not be read so far, by name, where the clips of others were
            given in their place.
        replaced: How many clips that were.
    """

    labels: np.ndarray | None
    label_sets: Sequence[tuple[int, ...]]
    class_names: tuple[str, ...]
    roles: np.ndarray
    partitions: tuple[str, ...]
    has_audio: np.ndarray
    fingerprint: str
    inventory: Mapping[str, int | str]
    failed: Mapping[str, str]
    replaced: int

    def __len__(self) -> int:
        """Number N of usable recordings."""

    def name(self, index: int) -> str:
        """Name of a recording for people to find it by, unique within the source."""

    def read(self, index: int, position: float) -> Clip:
        """The clip of a recording at a position.

        Args:
            index: Which recording, in [0, N).
            position: Where in it, in [0, 1]: the clip starts at
                `position * max(0, duration - seconds)`.

        Returns:
            `round(seconds * frame_rate)` frames and `round(seconds * sample_rate)` samples.
        """


@typing.runtime_checkable
class NativeSource(typing.Protocol):
    """Of a `ClipSource` that TensorFlow decodes: `read` in two halves, the second without Python.

    Not derived from it: asking whether a source is one would look at all of its attributes.
    """

    def fetch(self, index: int) -> bytes:
        """What is stored of a recording; may be called from any number of threads."""

    def decode(self, stored: "tf.Tensor", position: "tf.Tensor", picture: bool) -> "ClipTensors":
        """Makes a clip of what `fetch` gave, by TensorFlow operations.

        Args:
            stored: () string.
            position: () float32, as `read`'s.
            picture: Whether to decode the picture too.

        Returns:
            The clip that `read` gives.
        """


def multi_hot(source: ClipSource) -> np.ndarray:
    """Says of every recording and class whether the recording bears the label.

    Returns:
        (N, C) bool.
    """
    marks = np.zeros((len(source), len(source.class_names)), bool)
    counts = [len(labels) for labels in source.label_sets]
    classes = [label for labels in source.label_sets for label in labels]
    marks[np.repeat(np.arange(len(source)), counts), classes] = True
    return marks


def open_dataset(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict, picture: bool = True
) -> ClipSource:
    """Opens the source that `data.dataset` names.

    Args:
        data: The `data` section of the configuration (configs/base.py).
        views: Its `views` section: length, frame rate, size and sample rate of the clips.
        picture: Whether the picture will be asked for. Prepared data are refused where it is and
            some recordings have none; a folder's files all have one.

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
    if data.dataset == "prepared":
        from input_pipeline.datasets import prepared

        return prepared.open_prepared(data, views, picture)
    raise ValueError(
        f"config.data.dataset is {data.dataset!r}; allowed: {', '.join(map(repr, DATASETS))}"
    )
