"""The tf.data pipeline that reads clips, makes rows of them and stacks the rows into batches.

Training and evaluation share it. There are two kinds of sources. One decodes media files with
FFmpeg in Python. The other fetches bytes of prepared data and decodes them in TensorFlow.
`ClipReader` hides the difference.
"""

import atexit
import functools
import gc
import itertools
import re
import traceback
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline import cores, processor_time
from input_pipeline.sources import ClipSource, ClipTensors, NativeSource, UnusableError

# TensorFlow only feeds the accelerator, and must not take its memory.
tf.config.set_visible_devices([], "GPU")

# PyAV's containers and streams refer to each other, so only Python's garbage collector frees the
# kilobyte or more per clip that FFmpeg holds for them. The collector looks at its oldest generation
# only once the number of new objects reaches a quarter of the old ones, and TensorFlow alone has
# half a million. So we collect explicitly, once in so many reads.
_READS_PER_COLLECTION = 1024

MODALITIES = ("video", "audio")

Batch = dict[str, np.ndarray]
Batches = Generator[Batch, None, None]

# TensorFlow's threads call Python to read. If they still run when the interpreter shuts down, they
# and the interpreter wait for each other forever.
_open_batches: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_batches() -> None:
    for batches in list(_open_batches):
        batches.close()


class ReadError(OSError):
    """An example that cannot be read. The message names it; `__cause__` is the original error."""


class ClipReader:
    """Reader of a source's clips, on TensorFlow's threads.

    Attributes:
        failures: Errors of the reads that failed so far.
        meter: Meter of the threads that make the batches.
    """

    def __init__(
        self, source: ClipSource, config: ml_collections.ConfigDict, picture: bool = True
    ) -> None:
        """Initializes the reader. It reads nothing yet.

        Args:
            source: Source of the clips.
            config: `views` section of the config with which the source was opened.
            picture: Whether to decode the frames too.
        """
        self._source = source
        self._picture = picture
        self._frames = config.video.global_frames
        self._samples = round(self._frames / config.video.frame_rate * config.audio.sample_rate)
        # TensorFlow passes on only the text of a Python error, so the errors are kept here.
        self.failures: list[ReadError] = []
        self.meter = processor_time.ThreadMeter()
        self._reads = itertools.count(1)

    def __call__(self, index: tf.Tensor, position: tf.Tensor) -> ClipTensors:
        """Reads one clip.

        Args:
            index: () int64 index of the recording.
            position: () float32 place of the clip in the recording, in [0, 1]. See
                `ClipSource.read`.

        Returns:
            The clip.
        """
        if isinstance(self._source, NativeSource):
            record = tf.numpy_function(self._guarded(self._fetch), [index], tf.string)
            clip = self._source.decode(tf.ensure_shape(record, []), position, self._picture)
        else:
            clip = ClipTensors(
                *tf.numpy_function(
                    self._guarded(self._read),
                    [index, position],
                    (tf.uint8, tf.float32, tf.bool, tf.bool),
                )
            )
        frames = clip.frames
        if self._picture:
            frames = tf.ensure_shape(frames, [self._frames, None, None, 3])
        waveform = tf.ensure_shape(clip.waveform, [self._samples])
        flags = (tf.ensure_shape(flag, []) for flag in (clip.has_video, clip.has_audio))
        return ClipTensors(frames, waveform, *flags)

    def failure(self, index: int, error: Exception) -> ReadError:
        """Makes the error that names the example that could not be read.

        Args:
            index: Index of the recording.
            error: Error of the source, or the one that TensorFlow raised.
        """
        # TensorFlow's message may begin with the place in the graph, and ends with it.
        reason = re.sub(r"^\{\{function_node \S+\}\} ", "", str(error))
        reason = reason.partition(" [Op:")[0].partition(" [[{{node")[0]
        names_example = not isinstance(error, UnusableError)
        example = f"example {index}, {self._source.name(int(index))}: " if names_example else ""
        failure = ReadError(f"{example}{reason}")
        failure.__cause__ = error
        return failure

    def _fetch(self, index: np.int64) -> bytes:
        return self._source.fetch(int(index))

    def _read(
        self, index: np.int64, position: np.float32
    ) -> tuple[np.ndarray, np.ndarray, np.bool, np.bool]:
        clip = self._source.read(int(index), float(position))
        if next(self._reads) % _READS_PER_COLLECTION == 0:
            gc.collect()
        return clip.frames, clip.waveform, np.bool(clip.has_video), np.bool(clip.has_audio)

    def _guarded(self, read: Callable) -> Callable:
        """Wraps a function so that its errors are kept in `failures`."""

        @functools.wraps(read)
        def guarded(index: np.int64, *args: object) -> object:
            try:
                return read(index, *args)
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
        rows_of: Function from the index of a batch to its rows: integer arrays (B,) by name, one of
            them `example_id`. The last batch may have fewer rows, or none.
        load: TensorFlow function that makes one row of a batch. Its argument holds scalars by the
            names that `rows_of` gives.
        reader: Reader that `load` uses.
        steps: Indices of the batches.
        batch_size: Number of rows in every batch but the last.
        threads: Number of threads. 0 means one for each core that this process may use.
        prefetch: Number of batches made ahead.

    Returns:
        A generator of batches. Closing or dropping it stops its threads. It raises `ReadError` if
        the source cannot read an example.
    """
    threads = threads or cores.count()
    generator = _generate(rows_of, load, reader, steps, batch_size, threads, prefetch)
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
    """Yields the batches, and turns TensorFlow's errors into a `ReadError`."""
    dataset = _dataset(rows_of, load, steps, batch_size, threads, prefetch)
    step = steps.start
    try:
        with reader.meter.starting():
            iterator = dataset.as_numpy_iterator()
            batch = next(iterator, None)
        while batch is not None:
            yield batch
            step += 1
            batch = next(iterator, None)
    except BaseException as error:
        # The traceback's stack frames hold the iterator, which holds the threads.
        traceback.clear_frames(error.__traceback__)
        if not isinstance(error, tf.errors.OpError):
            raise
        failures = reader.failures or _failures(rows_of(step), load, reader)
        if not failures:
            raise
        raise failures[0] from failures[0].__cause__


def _dataset(
    rows_of: Callable[[int], Mapping[str, np.ndarray]],
    load: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    steps: range,
    batch_size: int,
    threads: int,
    prefetch: int,
) -> tf.data.Dataset:
    """Makes the dataset of batches. The arguments are those of `batches`."""
    dtypes = {name: tf.as_dtype(array.dtype) for name, array in rows_of(steps.start).items()}

    @tf.autograph.experimental.do_not_convert
    def rows(step: tf.Tensor) -> tf.data.Dataset:
        arrays = tf.numpy_function(
            lambda step: tuple(rows_of(int(step)).values()), [step], tuple(dtypes.values())
        )
        return tf.data.Dataset.from_tensor_slices(dict(zip(dtypes, arrays, strict=True)))

    @tf.autograph.experimental.do_not_convert
    def row(scalars: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return load({name: tf.ensure_shape(scalar, []) for name, scalar in scalars.items()})

    dataset = tf.data.Dataset.range(steps.start, steps.stop).flat_map(rows)
    dataset = dataset.map(row, num_parallel_calls=threads, deterministic=True)
    dataset = dataset.batch(batch_size).prefetch(prefetch)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    # Only the map is parallel. Splitting single operations over threads as well would gain nothing,
    # and the order of a sum could depend on the number of threads.
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def _failures(
    rows: Mapping[str, np.ndarray],
    load: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    reader: ClipReader,
) -> list[ReadError]:
    """Finds the example of a batch that fails to decode, which TensorFlow does not name.

    Args:
        rows: Rows of the batch.
        load: See `batches`.
        reader: Reader that `load` uses.

    Returns:
        The failures that occur while the rows are loaded again, up to the first bad row. Empty if
        all rows load.
    """
    for row, example_id in enumerate(rows["example_id"]):
        try:
            load({name: tf.constant(array[row]) for name, array in rows.items()})
        except tf.errors.OpError as error:
            return reader.failures or [reader.failure(example_id, error)]
    return []


def check_modalities(modalities: Sequence[str]) -> None:
    """Checks that the modalities are one or both of `MODALITIES`.

    Raises:
        ValueError: A name is unknown, or there are none.
    """
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown or not modalities:
        raise ValueError(
            f"modalities is {tuple(modalities)!r}; allowed: one or both of 'video', 'audio'"
        )
