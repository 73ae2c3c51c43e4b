"""Batches of views: batch k of a run is a function of the seed and k alone.

The examples form one endless stream, epoch after epoch, each epoch a permutation of all of them.
Batch k is the stream from `k * batch_size` on; nothing is dropped, so that a batch may end one
epoch and begin the next. Every draw is keyed by the example and its epoch (see `views`). So there
is no state to save: to resume at step k, ask for batch k. Process i of P makes rows
[i * B / P, (i + 1) * B / P) of the same batch, whatever P is.
"""

import atexit
import functools
import os
import traceback
import weakref
from collections.abc import Generator

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline import views
from input_pipeline.datasets import ClipSource

# TensorFlow only feeds the accelerator, and must not take its memory.
tf.config.set_visible_devices([], "GPU")

_FOREVER = np.iinfo(np.int64).max

Batches = Generator[dict[str, np.ndarray], None, None]

# TensorFlow's threads call Python to read: left running while the interpreter shuts down, they wait
# for it and it for them, forever.
_open_batches: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_batches() -> None:
    for batches in list(_open_batches):
        batches.close()


class ReadError(RuntimeError):
    """An example that could not be read, named in the message. Its cause is the source's error."""


class Loader:
    """Makes the batches of a run, from any step on.

    Attributes:
        batch_size: Rows of a batch, over all processes.
        local_batch_size: Rows of a batch that this process makes.
        steps_per_epoch: Batches an epoch, a float: epochs need not end where batches do.
    """

    def __init__(
        self,
        source: ClipSource,
        config: ml_collections.ConfigDict,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
        threads: int = 0,
        prefetch: int = 2,
    ) -> None:
        """Sets up a loader; nothing is read before the first batch is asked for.

        Args:
            source: The clips.
            config: `views` of the run's config.
            batch_size: Rows of a batch, over all processes.
            seed: The run's, not negative.
            process_index: Number of this process, from 0.
            process_count: Number of processes.
            threads: Threads that decode and make views; 0: one for each core this process may use.
            prefetch: Batches made ahead.

        Raises:
            ValueError: There is no example, or the processes cannot share a batch evenly.
        """
        if not len(source):
            raise ValueError("the source has no examples")
        if batch_size % process_count:
            raise ValueError(
                f"batch_size is {batch_size}: it must be a multiple of {process_count} processes"
            )
        self.batch_size = batch_size
        self.local_batch_size = batch_size // process_count
        self.steps_per_epoch = len(source) / batch_size
        self._first_row = process_index * self.local_batch_size
        self._source = source
        self._config = config
        self._seed = seed
        self._threads = threads or _cores()
        self._prefetch = prefetch

    def examples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Says which examples this process's rows of a batch are.

        Args:
            step: Number of the batch, from 0.

        Returns:
            Epochs (B,) int64, from 0, and example ids (B,) int64, B the local batch size.
        """
        count = len(self._source)
        first = step * self.batch_size + self._first_row
        epochs, places = np.divmod(np.arange(first, first + self.local_batch_size), count)
        ids = np.empty_like(places)
        for epoch in np.unique(epochs):
            rows = epochs == epoch
            ids[rows] = epoch_order(count, self._seed, int(epoch))[places[rows]]
        return epochs, ids

    def batches(self, start_step: int = 0, end_step: int = _FOREVER) -> Batches:
        """Makes batches `start_step` to `end_step` - 1, in order and ahead of time.

        Args:
            start_step: Number of the first batch; those before it cost nothing.
            end_step: Number after the last batch's; endless by default.

        Returns:
            A generator of the views of `views.training_views` with a leading axis B, the local
            batch size, and of `has_audio` (B,) bool, `example_id` (B,) int64, `epoch` (B,) int32.
            Closing or dropping it stops the threads behind it. It raises a `ReadError` where the
            source could not read an example.
        """
        batches = self._batches(start_step, end_step)
        _open_batches.add(batches)
        return batches

    def _batches(self, start_step: int, end_step: int) -> Batches:
        # TensorFlow passes only the text of a Python error on: the error itself waits here.
        failures: list[ReadError] = []
        try:
            yield from self._dataset(start_step, end_step, failures).as_numpy_iterator()
        except BaseException as error:
            # The frames it came through hold the iterator, and with it the threads.
            traceback.clear_frames(error.__traceback__)
            if failures and isinstance(error, tf.errors.OpError):
                raise failures[0] from failures[0].__cause__
            raise

    def _dataset(
        self, start_step: int, end_step: int, failures: list[ReadError]
    ) -> tf.data.Dataset:
        @tf.autograph.experimental.do_not_convert
        def examples_of(step: tf.Tensor) -> tf.data.Dataset:
            epochs, ids = tf.numpy_function(self.examples, [step], (tf.int64, tf.int64))
            return tf.data.Dataset.from_tensor_slices((epochs, ids))

        load = functools.partial(self._load, failures)
        dataset = tf.data.Dataset.range(start_step, end_step).flat_map(examples_of)
        dataset = dataset.map(load, num_parallel_calls=self._threads, deterministic=True)
        dataset = dataset.batch(self.local_batch_size, drop_remainder=True).prefetch(self._prefetch)
        options = tf.data.Options()
        options.deterministic = True
        options.autotune.enabled = False
        # The threads of the map are all there are. Splitting one operation over threads as well
        # would gain nothing, and could let the order of a sum depend on their number.
        options.threading.private_threadpool_size = self._threads
        options.threading.max_intra_op_parallelism = 1
        return dataset.with_options(options)

    @tf.autograph.experimental.do_not_convert
    def _load(
        self, failures: list[ReadError], epoch: tf.Tensor, example_id: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Reads one example and makes its views."""

        def read(index: np.int64, position: np.float32) -> tuple[np.ndarray, np.ndarray, np.bool]:
            try:
                clip = self._source.read(int(index), float(position))
            except Exception as error:
                name = self._source.name(int(index))
                failure = ReadError(f"example {index}, {name}: {error}")
                failure.__cause__ = error
                failures.append(failure)
                raise
            return clip.frames, clip.waveform, np.bool(clip.has_audio)

        video, audio = self._config.video, self._config.audio
        samples = round(video.global_frames / video.frame_rate * audio.sample_rate)
        key = views.example_key(self._seed, epoch, example_id)
        frames, waveform, has_audio = tf.numpy_function(
            read,
            [example_id, views.clip_position(key)],
            (tf.uint8, tf.float32, tf.bool),
        )
        frames = tf.ensure_shape(frames, [video.global_frames, None, None, 3])
        waveform = tf.ensure_shape(waveform, [samples])
        return {
            **views.training_views(key, frames, waveform, self._config),
            "has_audio": tf.ensure_shape(has_audio, []),
            "example_id": tf.ensure_shape(example_id, []),
            "epoch": tf.ensure_shape(tf.cast(epoch, tf.int32), []),
        }


# A batch spans few epochs, and those of neighboring batches are the same.
@functools.lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Shuffles the examples for one epoch.

    Args:
        count: Number of examples.
        seed: The run's, not negative.
        epoch: From 0.

    Returns:
        (count,) int64, a permutation of range(count); read-only. It ranks the raw output of a bit
        generator, which NumPy keeps stable over its versions, as it does not a `Generator`'s.
    """
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(count)
    order = np.argsort(bits, kind="stable")
    order.flags.writeable = False
    return order


def _cores() -> int:
    """Number of cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
