"""Clips inside a tf.data pipeline: read on its threads, made into rows, stacked into batches.

What training and evaluation share. A source reads in Python and gives pixels (media files, which
FFmpeg decodes), or it fetches bytes and decodes them in TensorFlow (prepared data); behind
`ClipReader` the two are the same.
"""

import atexit
import functools
import gc
import itertools
import os
import re
import traceback
import typing
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline.datasets import ClipSource, NativeSource, UnusableError

# TensorFlow only feeds the accelerator, and must not take its memory.
tf.config.set_visible_devices([], "GPU")

# PyAV's containers and streams refer to each other, so that what FFmpeg keeps for them, a kilobyte
# or more a clip, is freed by Python's garbage collector alone. Of the older objects this takes no
# notice before a quarter as many have come as there are, and TensorFlow has half a million.
_READS_PER_COLLECTION = 1024

MODALITIES = ("video", "audio")

Batch = dict[str, np.ndarray]
Batches = Generator[Batch, None, None]

# TensorFlow's threads call Python to read: left running while the interpreter shuts down, they wait
# for it and it for them, forever.
_open_batches: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_batches() -> None:
    for batches in list(_open_batches):
        batches.close()


class ReadError(OSError):
    """An example that could not be read, named in the message. Its cause is the source's error."""


class ClipTensors(typing.NamedTuple):
    """A clip on its way through a pipeline.

    Attributes:
        frames: (T, h, w, 3) uint8; None where the picture was not asked for.
        waveform: (S,) float32, S known when the graph is built; zeros where there is no sound.
        has_audio: () bool.
    """

    frames: tf.Tensor | None
    waveform: tf.Tensor
    has_audio: tf.Tensor


class ClipReader:
    """Reads the clips of a source on TensorFlow's threads."""

    def __init__(
        self, source: ClipSource, config: ml_collections.ConfigDict, picture: bool = True
    ) -> None:
        """Sets up a reader; nothing is read yet.

        Args:
            source: The clips.
            config: `views` of the run's config, for which the source was opened.
            picture: Whether to decode the picture too.
        """
        self._source = source
        self._picture = picture
        self._frames = config.video.global_frames
        self._samples = round(self._frames / config.video.frame_rate * config.audio.sample_rate)
        # TensorFlow passes only the text of a Python error on: the error itself waits here.
        self.failures: list[ReadError] = []
        self._reads = itertools.count(1)

    def __call__(self, index: tf.Tensor, position: tf.Tensor) -> ClipTensors:
        """Reads one clip, see `ClipSource.read` for the arguments."""
        if isinstance(self._source, NativeSource):
            record = tf.numpy_function(self._guarded(self._fetch), [index], tf.string)
            clip = self._source.decode(tf.ensure_shape(record, []), position, self._picture)
        else:
            clip = ClipTensors(
                *tf.numpy_function(
                    self._guarded(self._read), [index, position], (tf.uint8, tf.float32, tf.bool)
                )
            )
        frames = clip.frames
        if self._picture:
            frames = tf.ensure_shape(frames, [self._frames, None, None, 3])
        waveform = tf.ensure_shape(clip.waveform, [self._samples])
        return ClipTensors(frames, waveform, tf.ensure_shape(clip.has_audio, []))

    def failure(self, index: int, error: Exception) -> ReadError:
        """Makes the error that says which example could not be read."""
        # What TensorFlow says may begin and ends with the place in the graph.
        reason = re.sub(r"^\{\{function_node \S+\}\} ", "", str(error))
        reason = reason.partition(" [Op:")[0].partition(" [[{{node")[0]
        of_one = not isinstance(error, UnusableError)
        example = f"example {index}, {self._source.name(int(index))}: " if of_one else ""
        failure = ReadError(f"{example}{reason}")
        failure.__cause__ = error
        return failure

    def _fetch(self, index: np.int64) -> bytes:
        return self._source.fetch(int(index))

    def _read(
        self, index: np.int64, position: np.float32
    ) -> tuple[np.ndarray, np.ndarray, np.bool]:
        clip = self._source.read(int(index), float(position))
        if next(self._reads) % _READS_PER_COLLECTION == 0:
            gc.collect()
        return clip.frames, clip.waveform, np.bool(clip.has_audio)

    def _guarded(self, read: Callable) -> Callable:
        """The function, its errors kept."""

        @functools.wraps(read)
        def guarded(index: np.int64, *rest: object) -> object:
            try:
                return read(index, *rest)
            except Exception as error:
                self.failures.append(self.failure(index, error))
                raise

        return guarded


def batches(
    rows_of: Callable[[int], Mapping[str, np.ndarray]],
    load: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    reader: ClipReader,
    steps: range,
    batch_size: int,
    threads: int,
    prefetch: int,
) -> Batches:
    """Makes batches in order and ahead of time.

    Args:
        rows_of: What tells the rows of a batch apart, by its number: integer arrays (B,), of which
            `example_id` is one. The last batch may be of fewer rows, or of none.
        load: Makes a row of a batch of scalars of those names, in TensorFlow.
        reader: What `load` reads with.
        steps: Numbers of the batches.
        batch_size: Rows of a batch, the same for all but the last.
        threads: At work at once; 0: one for each core this process may use.
        prefetch: Batches made ahead.

    Returns:
        A generator of batches. Closing or dropping it stops the threads behind it. It raises a
        `ReadError` where the source could not read an example.
    """
    generator = _generate(rows_of, load, reader, steps, batch_size, threads or cores(), prefetch)
    _open_batches.add(generator)
    return generator


def _generate(
    rows_of: Callable[[int], Mapping[str, np.ndarray]],
    load: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    reader: ClipReader,
    steps: range,
    batch_size: int,
    threads: int,
    prefetch: int,
) -> Batches:
    dataset = _dataset(rows_of, load, steps, batch_size, threads, prefetch)
    step = steps.start
    try:
        for batch in dataset.as_numpy_iterator():
            yield batch
            step += 1
    except BaseException as error:
        # The frames it came through hold the iterator, and with it the threads.
        traceback.clear_frames(error.__traceback__)
        if not isinstance(error, tf.errors.OpError):
            raise
        found = reader.failures or _failures(rows_of(step), load, reader)
        if not found:
            raise
        raise found[0] from found[0].__cause__


def _dataset(
    rows_of: Callable[[int], Mapping[str, np.ndarray]],
    load: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    steps: range,
    batch_size: int,
    threads: int,
    prefetch: int,
) -> tf.data.Dataset:
    form = {name: tf.as_dtype(array.dtype) for name, array in rows_of(steps.start).items()}

    @tf.autograph.experimental.do_not_convert
    def rows(step: tf.Tensor) -> tf.data.Dataset:
        arrays = tf.numpy_function(
            lambda step: tuple(rows_of(int(step)).values()), [step], tuple(form.values())
        )
        return tf.data.Dataset.from_tensor_slices(dict(zip(form, arrays, strict=True)))

    @tf.autograph.experimental.do_not_convert
    def row(numbers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return load({name: tf.ensure_shape(number, []) for name, number in numbers.items()})

    dataset = tf.data.Dataset.range(steps.start, steps.stop).flat_map(rows)
    dataset = dataset.map(row, num_parallel_calls=threads, deterministic=True)
    dataset = dataset.batch(batch_size).prefetch(prefetch)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    # The threads of the map are all there are. Splitting one operation over threads as well
    # would gain nothing, and could let the order of a sum depend on their number.
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def _failures(
    rows: Mapping[str, np.ndarray],
    load: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    reader: ClipReader,
) -> Iterable[ReadError]:
    """Finds the first example of a batch that does not decode, of which TensorFlow says nothing."""
    for number, example_id in enumerate(rows["example_id"]):
        try:
            load({name: tf.constant(array[number]) for name, array in rows.items()})
        except tf.errors.OpError as error:
            return reader.failures or [reader.failure(example_id, error)]
    return []


def check_modalities(modalities: Sequence[str]) -> None:
    """Raises a ValueError unless these are one or both of `MODALITIES`."""
    wrong = [name for name in modalities if name not in MODALITIES]
    if wrong or not modalities:
        raise ValueError(
            f"modalities is {tuple(modalities)!r}; allowed: one or both of 'video', 'audio'"
        )


def cores() -> int:
    """Number of cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
