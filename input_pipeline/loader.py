"""Batches of views: batch k of a run is a function of the seed and k alone.

The examples, all of a source or some of them, form one endless stream, epoch after epoch, each
epoch a permutation of all of them. Batch k is the stream from `k * batch_size` on; nothing is
dropped, so that a batch may end one epoch and begin the next. Every draw is keyed by the example
and its epoch (see `views`). So there is no state to save: to resume at step k, ask for batch k.

Process i of P makes rows [i * B / P, (i + 1) * B / P) of the same batch, whatever P is; P has to
divide B. As batches are cut from the endless stream and processes from batches, nothing ever ends
unevenly: no process runs out of examples before another, whatever their number.
"""

import functools
from collections.abc import Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline import reading, views
from input_pipeline.datasets import ClipSource
from input_pipeline.reading import MODALITIES, Batches, ReadError

__all__ = ["Batches", "Loader", "ReadError", "epoch_order"]

_FOREVER = np.iinfo(np.int64).max


class Loader:
    """Makes the batches of a run, from any step on.

    Attributes:
        source: The clips.
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
        *,
        modalities: Sequence[str] = MODALITIES,
        example_ids: Sequence[int] | None = None,
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
            modalities: Whose views to make, out of `reading.MODALITIES`; of a picture that is not
                asked for nothing is decoded.
            example_ids: The examples to draw from; by default all of the source.

        Raises:
            ValueError: There is no example, a value is not allowed, or the processes cannot share a
                batch evenly.
        """
        reading.check_modalities(modalities)
        if example_ids is None:
            example_ids = range(len(source))
        if not len(example_ids):
            raise ValueError("the source has no examples")
        if batch_size % process_count:
            raise ValueError(
                f"batch_size is {batch_size}: it must be a multiple of {process_count} processes"
            )
        self.batch_size = batch_size
        self.local_batch_size = batch_size // process_count
        self.steps_per_epoch = len(example_ids) / batch_size
        self._first_row = process_index * self.local_batch_size
        self.source = source
        self._example_ids = np.array(example_ids, np.int64)
        self._modalities = tuple(modalities)
        self._config = config
        self._seed = seed
        self._threads = threads
        self._prefetch = prefetch

    def examples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Says which examples this process's rows of a batch are.

        Args:
            step: Number of the batch, from 0.

        Returns:
            Epochs (B,) int64, from 0, and example ids (B,) int64, B the local batch size.
        """
        count = len(self._example_ids)
        first = step * self.batch_size + self._first_row
        epochs, places = np.divmod(np.arange(first, first + self.local_batch_size), count)
        ids = np.empty_like(places)
        for epoch in np.unique(epochs):
            rows = epochs == epoch
            order = epoch_order(count, self._seed, int(epoch))
            ids[rows] = self._example_ids[order[places[rows]]]
        return epochs, ids

    def batches(self, start_step: int = 0, end_step: int = _FOREVER) -> Batches:
        """Makes batches `start_step` to `end_step` - 1, in order and ahead of time.

        Args:
            start_step: Number of the first batch; those before it cost nothing.
            end_step: Number after the last batch's; endless by default.

        Returns:
            A generator of the views of `views.training_views`, as far as their modality is asked
            for, with a leading axis B, the local batch size, and of `has_audio` (B,) bool,
            `example_id` (B,) int64, `epoch` (B,) int32. Closing or dropping it stops the threads
            behind it. It raises a `ReadError` where the source could not read an example.
        """
        reader = reading.ClipReader(self.source, self._config, "video" in self._modalities)
        return reading.batches(
            self._rows,
            functools.partial(self._load, reader),
            reader,
            range(start_step, end_step),
            self.local_batch_size,
            self._threads,
            self._prefetch,
        )

    def _rows(self, step: int) -> dict[str, np.ndarray]:
        epochs, ids = self.examples(step)
        return {"epoch": epochs, "example_id": ids}

    def _load(self, reader: reading.ClipReader, row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Reads one example and makes its views."""
        key = views.example_key(self._seed, row["epoch"], row["example_id"])
        clip = reader(row["example_id"], views.clip_position(key))
        return {
            **views.training_views(key, clip.frames, clip.waveform, self._config, self._modalities),
            "has_audio": clip.has_audio,
            "example_id": row["example_id"],
            "epoch": tf.cast(row["epoch"], tf.int32),
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
