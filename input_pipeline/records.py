"""What a prepared data set holds: one record a recording, and an index of each split beside them.

A prepared data set is a folder that TFDS reads (`tfds.builder_from_directory`), its splits in
ArrayRecord files, which are read at random. Beside them, `index-<split>.npz` says of every record,
in the order of `tfds.data_source`, what must be known before any is read.
"""

import dataclasses
import json
import os
import pathlib
import typing
from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf import message

from input_pipeline import atomic, example, manifest, sealed

if typing.TYPE_CHECKING:  # TensorFlow takes seconds to load, which reading an index need not
    import tensorflow_datasets as tfds

SAMPLE_RATE = 16000  # Hz, of every prepared sound
JPEG_QUALITY = 90
FRAME_RATES = (0.01, 120.0)  # per second, of prepared pictures: the lowest and the highest

# How ArrayRecord keeps records: each to be had without its neighbors, and as it is, for JPEG files
# do not get smaller and unpacking them would cost as much as reading them.
SHARD_OPTIONS = "group_size:1,uncompressed"

_MOST = 2**31 - 1  # bytes of a record, so that there are no more of anything in it
_RECIPE = "prepared.json"  # written last: where it is, the data set is complete
_OF_FORMER_VERSIONS = {"dataset", "frame_rate", "short_side", "class_names", "partitions"}


@dataclasses.dataclass(frozen=True)
class Record:
    """A recording as it is kept.

    Attributes:
        name: For people to find it by, unique in its split: the path in the source, say.
        frames: (T,) JPEG files in RGB, upright, at the data set's frame rate; none without picture.
        frame_times: (T,) float32 seconds: when, in the source, each frame came on the screen. Frame
            k is the one that the source shows at `k / frame_rate`.
        waveform: (S,) int16 mono at `SAMPLE_RATE` from the time of frame 0 on; none without sound.
        labels: Indices into the data set's classes; none, one, or several of them.
        roles: What it is in each of the data set's official partitions, see `Role`.
    """

    name: str
    frames: Sequence[bytes]
    frame_times: np.ndarray
    waveform: np.ndarray
    labels: Sequence[int] = ()
    roles: Sequence[int] = ()


class Role:
    """What a recording is in one of a data set's official partitions."""

    UNUSED, TRAIN, TEST = 0, 1, 2


def features() -> "tfds.features.FeaturesDict":
    """The form of a record for TFDS. What is an array is kept as bytes: quicker to parse."""
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
    """The record as a `tf.train.Example`, as TFDS would write it."""
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
    """The record that `serialize` was given; raises ValueError where it was given none."""
    stored = example.new()
    try:
        stored.ParseFromString(data)
        values = {name: list(f.bytes_list.value) for name, f in stored.features.feature.items()}
        (name,), (times,), (sound,) = (values[n] for n in ("name", "frame_times", "waveform"))
        (labels,), (roles,) = values["labels"], values["roles"]
    except (message.DecodeError, KeyError, ValueError) as error:
        raise ValueError(f"no record: {error}") from None
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
        roles: (N, K) int64, see `Role`; K is the number of official partitions.
        frames: (N,) int64 numbers of frames; 0 without picture.
        samples: (N,) int64 numbers of samples; 0 without sound.
    """

    names: Sequence[str]
    labels: Sequence[tuple[int, ...]]
    roles: np.ndarray
    frames: np.ndarray
    samples: np.ndarray

    def save(self, path: str | os.PathLike) -> None:
        """Writes it, whole or not at all, and the same bytes for the same content."""
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
    """Reads what `Index.save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no index; the message names it.
    """
    # Not by its seal, which those of former versions lack: the recipe tells what bytes it has.
    try:
        return _index(sealed.unpack(sealed.read(path)))
    except KeyError as error:
        raise ValueError(f"{os.fspath(path)} is damaged: it lacks {error}") from None
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None


def _index(arrays: Mapping[str, np.ndarray]) -> Index:
    """Makes an index of its arrays; raises ValueError or KeyError where they are of none."""
    frames, samples, roles = (arrays[name] for name in ("frames", "samples", "roles"))
    labels, counts = arrays["labels"], arrays["label_counts"]
    numbers = {"frames": frames, "samples": samples, "labels": labels, "label_counts": counts}
    for name, array in {**numbers, "roles": roles}.items():
        axes = 2 if name == "roles" else 1
        if array.dtype.kind not in "iu" or array.ndim != axes:
            raise ValueError(f"its {name} are no counts")
        if np.any((array < 0) | (array > _MOST)):
            raise ValueError(f"its {name} are no counts of what fits into a record")
    count = len(frames)
    names = arrays["names"].tobytes().decode().split("\0") if count else []
    if {len(names), len(samples), len(roles), len(counts)} != {count} or counts.sum() != len(
        labels
    ):
        raise ValueError("its arrays are not of as many records")
    ends = np.cumsum(counts)[:-1]
    label_sets = [tuple(part.tolist()) for part in np.split(labels, ends)] if count else []
    return Index(names, label_sets, roles, frames, samples)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What all records of a prepared data set have in common; kept as `prepared.json`.

    Attributes:
        dataset: Its name, as `prepare --dataset` knows it.
        frame_rate: Frames per second.
        short_side: Pixels of the frames' shorter side.
        class_names: The classes in the order of their indices; empty without labels.
        partitions: Names of the official partitions into training and test, in the order of
            `Record.roles`, such as the splits of UCF101 and the folds of ESC50; empty where the
            splits are the partition.
        contents: The splits and what their files are; None where a former version has prepared
            them. No part of what is printed, by which data sets are told apart.
    """

    dataset: str
    frame_rate: float
    short_side: int
    class_names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    contents: manifest.Manifest | None = dataclasses.field(default=None, repr=False)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes it into the data set's folder, whole or not at all."""
        values = dataclasses.asdict(self)
        if contents := values.pop("contents"):
            values = sealed.seal(values | contents)
        text = json.dumps(values, indent=1, ensure_ascii=False)
        atomic.write_text(pathlib.Path(folder) / _RECIPE, text + "\n")


def load_recipe(folder: str | os.PathLike) -> Recipe:
    """Reads what `Recipe.save` wrote.

    Raises:
        FileNotFoundError: The folder holds none: it is no prepared data set, or not finished.
        ValueError: It is no recipe, or has changed since it was written; the message names it.
    """
    path = pathlib.Path(folder) / _RECIPE
    values = sealed.load_json(path)
    try:
        contents = None
        if set(values) != _OF_FORMER_VERSIONS:
            values = sealed.unseal(values)
            contents = manifest.parse(values.pop("splits"), values.pop("files"))
        for name in ("class_names", "partitions"):
            names = values[name]
            if type(names) is not list or not all(isinstance(n, str) for n in names):
                raise ValueError(f"its {name} are no names")
            values[name] = tuple(names)
        recipe = Recipe(**values, contents=contents)
        lowest, highest = FRAME_RATES
        if type(recipe.frame_rate) not in (int, float) or not (
            lowest <= recipe.frame_rate <= highest
        ):
            raise ValueError(f"its frame_rate is {recipe.frame_rate!r:.40}")
        if type(recipe.short_side) is not int or recipe.short_side < 1:
            raise ValueError(f"its short_side is {recipe.short_side!r:.40}")
        if not isinstance(recipe.dataset, str):
            raise ValueError(f"its dataset is {recipe.dataset!r:.40}")
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it lacks {error}; {manifest.REMEDY}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}; {manifest.REMEDY}") from None
    return recipe


def index_path(folder: str | os.PathLike, split: str) -> pathlib.Path:
    """Where the index of a split is."""
    return pathlib.Path(folder) / f"index-{split}.npz"
