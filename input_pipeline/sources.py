"""The interface of all sources of clips."""

import typing
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.media.reader import Clip

if typing.TYPE_CHECKING:
    import tensorflow as tf


class UnusableError(ValueError):
    """Raised when too many files of a source can no longer be read.

    The message is meant for the user as it stands, without a traceback.
    """


class ClipSource(typing.Protocol):
    """A fixed sequence of recordings that returns a clip of any recording from any position.

    Apart from `failed` and `replaced`, everything depends on the files and the arguments alone. All
    methods are thread-safe.

    Attributes:
        labels: (N,) int64, indices into `class_names`; None unless every recording has exactly one
            label.
        label_sets: N tuples of such indices, for recordings with no label or several. See
            `multi_hot`.
        class_names: Names of the classes in the order of their indices; empty without labels.
        roles: (N, K) int64, role of each recording in each of the K official partitions. See
            `records.Role`.
        partitions: Names of the K partitions; empty where the splits are the partition.
        has_video: (N,) bool, whether the recording has a picture. Clips without one are black.
        has_audio: (N,) bool, whether the recording has sound. Clips without sound are silent.
        fingerprint: Digest of the recordings' names and of what changes when a file changes. Equal
            fingerprints mean equal clips.
        inventory: JSON-ready description that tells whether a resumed run uses the same data: the
            number of `recordings`, and a `digest` that copies elsewhere share.
        failed: Reason by name for each recording that could not be read so far and was replaced by
            another one.
        replaced: Number of clips that were taken from another recording.
    """

    labels: np.ndarray | None
    label_sets: Sequence[tuple[int, ...]]
    class_names: tuple[str, ...]
    roles: np.ndarray
    partitions: tuple[str, ...]
    has_video: np.ndarray
    has_audio: np.ndarray
    fingerprint: str
    inventory: Mapping[str, int | str]
    failed: Mapping[str, str]
    replaced: int

    def __len__(self) -> int:
        """Returns the number N of usable recordings."""

    def name(self, index: int) -> str:
        """Returns the name by which people find a recording, unique within the source."""

    def read(self, index: int, position: float) -> Clip:
        """Reads the clip of a recording at a position.

        Args:
            index: Index of the recording, in [0, N).
            position: Position in [0, 1]. The clip starts at
                `position * max(0, duration - seconds)`.

        Returns:
            A clip of `round(seconds * frame_rate)` frames and `round(seconds * sample_rate)`
            samples.
        """


class ClipTensors(typing.NamedTuple):
    """A clip inside the pipeline.

    Attributes:
        frames: (T, h, w, 3) uint8. None if frames were not requested. Black if there is no picture.
        waveform: (S,) float32. S is known when the graph is built. Zeros if there is no sound.
        has_video: () bool.
        has_audio: () bool.
    """

    frames: "tf.Tensor | None"
    waveform: "tf.Tensor"
    has_video: "tf.Tensor"
    has_audio: "tf.Tensor"


@typing.runtime_checkable
class NativeSource(typing.Protocol):
    """A `ClipSource` that TensorFlow decodes: `read` in two halves, the second without Python.

    It does not derive from `ClipSource`, because `isinstance` would then evaluate every attribute.
    """

    def fetch(self, index: int) -> bytes:
        """Returns a recording as it is stored; thread-safe."""

    def decode(self, stored: "tf.Tensor", position: "tf.Tensor", picture: bool) -> "ClipTensors":
        """Decodes a clip from the result of `fetch`, with TensorFlow operations.

        Args:
            stored: () string, result of `fetch`.
            position: () float32 in [0, 1], position of the clip as in `ClipSource.read`.
            picture: Whether to decode the frames too.

        Returns:
            The clip that `read` returns.
        """


def multi_hot(source: ClipSource) -> np.ndarray:
    """Returns (N, C) bool, whether recording n has the label of class c."""
    targets = np.zeros((len(source), len(source.class_names)), bool)
    counts = [len(labels) for labels in source.label_sets]
    classes = [label for labels in source.label_sets for label in labels]
    targets[np.repeat(np.arange(len(source)), counts), classes] = True
    return targets
