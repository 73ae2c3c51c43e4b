"""The contents of a prepared data set: one record per recording, and an index of each split.

A prepared data set is a folder that TFDS reads (`tfds.builder_from_directory`). Its splits are
ArrayRecord files, which allow random access. Beside them, `index-<split>.npz` holds what must be
known of every record before any is read, in the order of `tfds.data_source`.
"""

import dataclasses
import json
import os
import pathlib
import typing
from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf import message

from input_pipeline.files import atomic, sealed
from input_pipeline.prepared import example, manifest

if typing.TYPE_CHECKING:  # TensorFlow takes seconds to load, and an index is read without it
    import tensorflow_datasets as tfds

SAMPLE_RATE = 16000  # Hz, of every prepared waveform
JPEG_QUALITY = 90
FRAME_RATES = (0.01, 120.0)  # lowest and highest allowed frames per second
SHORT_SIDES = (16, 4096)  # smallest and largest allowed shorter side of the frames in pixels

# Options of the ArrayRecord writer. Each record can be read without its neighbors. Records are not
# compressed: JPEG files would not get smaller, and decompressing costs as much as reading.
SHARD_OPTIONS = "group_size:1,uncompressed"

_MOST = 2**31 - 1  # largest record in bytes, and so the largest count of anything in it
_RECIPE = "prepared.json"  # written last: where it exists, the data set is complete
_FORMER_FIELDS = {"dataset", "frame_rate", "short_side", "class_names", "partitions"}


@dataclasses.dataclass(frozen=True)
class Record:
    """A recording as it is stored.

    Attributes:
        name: Name for people, unique in its split, such as the path in the source.
        frames: (T,) JPEG files in RGB, upright, at the data set's frame rate. Frame k is the one
            that the source shows at `k / frame_rate`. Empty without picture.
        frame_times: (T,) float32 times when each frame appeared in the source, in seconds.
        waveform: (S,) int16 mono at `SAMPLE_RATE`, from the time of frame 0 on. Empty without
            sound.
        labels: Indices into the data set's classes: none, one or several.
        roles: Role of the recording in each of the data set's official partitions, see `Role`.
    """

    name: str
    frames: Sequence[bytes]
    frame_times: np.ndarray
    waveform: np.ndarray
    labels: Sequence[int] = ()
    roles: Sequence[int] = ()


class Role:
    """Role of a recording in one of a data set's official partitions."""

    UNUSED, TRAIN, TEST = 0, 1, 2


def features() -> "tfds.features.FeaturesDict":
    """Returns the features of a record for TFDS. Arrays are stored as bytes, which parse faster."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def array(dtype: type) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes")

    return tfds.features.FeaturesDict(
        {
            "name": tfds.features.Text(),
            "frames": tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=tf.string)),
            "frame_times": array(np.float32),
            "waveform": array(np.int16),
            "labels": array(np.int64),
            "roles": array(np.int64),
        }
    )


def serialize(record: Record) -> bytes:
    """Serializes a record as a `tf.train.Example`, in the way TFDS would."""
    result = example.new()
    entries = {
        "name": [record.name.encode()],
        "frames": list(record.frames),
        "frame_times": [np.asarray(record.frame_times, np.float32).tobytes()],
        "waveform": [np.asarray(record.waveform, np.int16).tobytes()],
        "labels": [np.asarray(record.labels, np.int64).tobytes()],
        "roles": [np.asarray(record.roles, np.int64).tobytes()],
    }
    for name, values in entries.items():
        result.features.feature[name].bytes_list.value.extend(values)
    return result.SerializeToString(deterministic=True)


def parse(data: bytes) -> Record:
    """Parses what `serialize` returned.

    Raises:
        ValueError: `data` is not a serialized record.
    """
    stored = example.new()
    try:
        stored.ParseFromString(data)
        values = {name: list(f.bytes_list.value) for name, f in stored.features.feature.items()}
        (name,), (times,), (sound,) = (values[n] for n in ("name", "frame_times", "waveform"))
        (labels,), (roles,) = values["labels"], values["roles"]
    except (message.DecodeError, KeyError, ValueError) as error:
        raise ValueError(f"not a record: {error}") from None
    return Record(
        name=name.decode(),
        frames=values.get("frames", []),
        frame_times=np.frombuffer(times, np.float32),
        waveform=np.frombuffer(sound, np.int16),
        labels=np.frombuffer(labels, np.int64).tolist(),
        roles=np.frombuffer(roles, np.int64).tolist(),
    )


@dataclasses.dataclass(frozen=True)
class Index:
    """What is known of the N records of a split before any is read.

    Attributes:
        names: N names.
        labels: N tuples of class indices.
        roles: (N, K) int64, see `Role`. K is the number of official partitions.
        frames: (N,) int64 numbers of frames. 0 without picture.
        samples: (N,) int64 numbers of samples. 0 without sound.
    """

    names: Sequence[str]
    labels: Sequence[tuple[int, ...]]
    roles: np.ndarray
    frames: np.ndarray
    samples: np.ndarray

    def save(self, path: str | os.PathLike) -> None:
        """Writes the index, whole or not at all. The same content gives the same bytes."""
        arrays = {
            "names": np.frombuffer("\0".join(self.names).encode(), np.uint8),
            "label_counts": np.array([len(labels) for labels in self.labels], np.int64),
            "labels": np.array([label for labels in self.labels for label in labels], np.int64),
            "roles": np.asarray(self.roles, np.int64),
            "frames": np.asarray(self.frames, np.int64),
            "samples": np.asarray(self.samples, np.int64),
        }
        sealed.save_arrays(path, arrays)


def load_index(path: str | os.PathLike) -> Index:
    """Reads an index that `Index.save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an index. The message names it.
    """
    # The seal is not checked, as indices of former versions have none. The recipe has the digest.
    try:
        return _index(sealed.unpack(sealed.read(path)))
    except KeyError as error:
        raise ValueError(f"{os.fspath(path)} is damaged: it lacks {error}") from None
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None


def _index(arrays: Mapping[str, np.ndarray]) -> Index:
    """Makes an index from its arrays.

    Raises:
        ValueError: The arrays do not fit together.
        KeyError: An array is missing.
    """
    frames, samples, roles = (arrays[name] for name in ("frames", "samples", "roles"))
    labels, counts = arrays["labels"], arrays["label_counts"]
    numbers = {"frames": frames, "samples": samples, "labels": labels, "label_counts": counts}
    for name, array in {**numbers, "roles": roles}.items():
        axes = 2 if name == "roles" else 1
        if array.dtype.kind not in "iu" or array.ndim != axes:
            raise ValueError(f"its {name} are not counts")
        if np.any((array < 0) | (array > _MOST)):
            raise ValueError(f"its {name} are not counts between 0 and {_MOST}")
    count = len(frames)
    names = arrays["names"].tobytes().decode().split("\0") if count else []
    if {len(names), len(samples), len(roles), len(counts)} != {count} or counts.sum() != len(
        labels
    ):
        raise ValueError("its arrays differ in the number of records")
    ends = np.cumsum(counts)[:-1]
    label_sets = [tuple(part.tolist()) for part in np.split(labels, ends)] if count else []
    return Index(names, label_sets, roles, frames, samples)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What all records of a prepared data set have in common, stored as `prepared.json`.

    Attributes:
        dataset: Name of the data set, as in `prepare --dataset`.
        frame_rate: Frames per second.
        short_side: Shorter side of the frames in pixels.
        class_names: Names of the classes, in the order of their indices. Empty without labels.
        partitions: Names of the official partitions into training and test, in the order of
            `Record.roles`, such as the splits of UCF101 and the folds of ESC50. Empty if the data
            set's splits are the partition.
        contents: Names of the splits and digests of the files. None if a former version prepared
            the data. Left out of the repr, which identifies a data set.
    """

    dataset: str
    frame_rate: float
    short_side: int
    class_names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    contents: manifest.Manifest | None = dataclasses.field(default=None, repr=False)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the recipe into the data set's folder, whole or not at all."""
        values = dataclasses.asdict(self)
        if contents := values.pop("contents"):
            values = sealed.seal(values | contents)
        text = json.dumps(values, indent=1, ensure_ascii=False)
        atomic.write_text(pathlib.Path(folder) / _RECIPE, text + "\n")


def load_recipe(folder: str | os.PathLike) -> Recipe:
    """Reads a recipe that `Recipe.save` wrote.

    Raises:
        FileNotFoundError: The folder has no recipe: it is not a prepared data set, or not finished.
        ValueError: The file is not a recipe, or has changed since it was written. The message names
            it.
    """
    path = pathlib.Path(folder) / _RECIPE
    values = sealed.load_json(path)
    try:
        contents = None
        if set(values) != _FORMER_FIELDS:
            values = sealed.unseal(values)
            contents = manifest.parse(values.pop("splits"), values.pop("files"))
        for name in ("class_names", "partitions"):
            names = values[name]
            if type(names) is not list or not all(isinstance(n, str) for n in names):
                raise ValueError(f"its {name} are not a list of names")
            values[name] = tuple(names)
        recipe = Recipe(**values, contents=contents)
        lowest, highest = FRAME_RATES
        if type(recipe.frame_rate) not in (int, float) or not (
            lowest <= recipe.frame_rate <= highest
        ):
            raise ValueError(
                f"its frame_rate is {recipe.frame_rate!r:.40}; allowed: {lowest:g} to {highest:g}"
            )
        lowest, highest = SHORT_SIDES
        if type(recipe.short_side) is not int or not lowest <= recipe.short_side <= highest:
            raise ValueError(
                f"its short_side is {recipe.short_side!r:.40}; allowed: {lowest} to {highest}"
            )
        if not isinstance(recipe.dataset, str):
            raise ValueError(f"its dataset is {recipe.dataset!r:.40}; allowed: a name")
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it lacks {error}; {manifest.REMEDY}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}; {manifest.REMEDY}") from None
    return recipe


def index_path(folder: str | os.PathLike, split: str) -> pathlib.Path:
    """Returns the path of a split's index."""
    return pathlib.Path(folder) / f"index-{split}.npz"
