"""Batches of views. Batch k of a run is a function of the seed and k alone.

The examples of a source, or a subset of them, form one endless stream (see `example_order`), epoch
after epoch. Batch k starts at place `k * batch_size` of the stream. Nothing is dropped, so a batch
may end one epoch and begin the next. Every random draw is keyed by the example and its epoch (see
`views`). There is no state to save: a run that resumes at step k asks for batch k.

With P processes and B rows in a batch, process i makes rows [i * B / P, (i + 1) * B / P) of the
same batch. P must divide B. The stream never ends, so no process runs out of examples before
another.
"""

import functools
from collections.abc import Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline import processor_time, reading, views
from input_pipeline.example_order import ExampleOrder
from input_pipeline.reading import MODALITIES, Batches, ReadError
from input_pipeline.sources import ClipSource

__all__ = ["Batches", "Loader", "ReadError"]

_FOREVER = np.iinfo(np.int64).max


class Loader:
    """Loader of a run's batches, starting from any step.

    Attributes:
        source: Source of the clips.
        order: Stream of the examples.
        batch_size: Number of rows in a batch, over all processes.
        local_batch_size: Number of rows of a batch that this process makes.
        example_count: Number of examples to draw from, which is that of an epoch.
        steps_per_epoch: Number of batches in an epoch. A float, as it need not be whole.
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
        order: ExampleOrder | None = None,
    ) -> None:
        """Initializes the loader. It reads nothing before the first batch is requested.

        Args:
            source: Source of the clips.
            config: `views` section of the run's config.
            batch_size: Number of rows in a batch, over all processes.
            seed: Seed of the run, not negative.
            process_index: Index of this process, from 0.
            process_count: Number of processes.
            threads: Number of threads that decode and make views. 0 means one for each core that
                this process may use.
            prefetch: Number of batches made ahead.
            modalities: Modalities to make views of, from `reading.MODALITIES`. Without "video", no
                frames are decoded.
            order: Stream of the examples. Defaults to all examples of the source, each once in an
                epoch.

        Raises:
            ValueError: There are no examples, a modality is unknown, or the processes cannot share
                a batch evenly.
        """
        reading.check_modalities(modalities)
        self.order = ExampleOrder(range(len(source))) if order is None else order
        if batch_size % process_count:
            raise ValueError(
                f"batch_size is {batch_size}; allowed: a multiple of {process_count} processes"
            )
        self.batch_size = batch_size
        self.local_batch_size = batch_size // process_count
        self.example_count = len(self.order)
        self.steps_per_epoch = self.example_count / batch_size
        self._first_row = process_index * self.local_batch_size
        self.source = source
        self._modalities = tuple(modalities)
        self._config = config
        self._seed = seed
        self._threads = threads
        self._prefetch = prefetch
        self._meter = processor_time.ThreadMeter()

    def examples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the epochs and ids of the examples in this process's rows of a batch.

        Args:
            step: Index of the batch, from 0.

        Returns:
            Epochs (B,) int64, from 0, and example ids (B,) int64. B is the local batch size. The
            epoch is what `ExampleOrder.examples` calls the pass.
        """
        first = step * self.batch_size + self._first_row
        return self.order.examples(np.arange(first, first + self.local_batch_size), self._seed)

    def batches(self, start_step: int = 0, end_step: int = _FOREVER) -> Batches:
        """Makes batches `start_step` to `end_step` - 1, in order and ahead of time.

        Args:
            start_step: Index of the first batch. Skipping the batches before it costs nothing.
            end_step: Index after the last batch. Endless by default.

        Returns:
            A generator of batches. A batch has the views of `views.training_views` for the
            requested modalities, with a leading axis of the local batch size B, and `has_video`
            (B,) bool, `has_audio` (B,) bool, `example_id` (B,) int64 and `epoch` (B,) int32.
            Closing or dropping the generator stops its threads. The generator raises `ReadError` if
            the source cannot read an example.
        """
        reader = reading.ClipReader(self.source, self._config, "video" in self._modalities)
        self._meter = reader.meter
        return reading.batches(
            self._rows,
            functools.partial(self._load, reader),
            reader,
            range(start_step, end_step),
            self.local_batch_size,
            self._threads,
            self._prefetch,
        )

    def processor_seconds(self) -> float:
        """Returns the processor time of the threads behind the newest batches, in seconds.

        It is NaN before the first batch, and where the system does not tell.
        """
        return self._meter.seconds()

    def _rows(self, step: int) -> dict[str, np.ndarray]:
        epochs, ids = self.examples(step)
        return {"epoch": epochs, "example_id": ids}

    def _load(self, reader: reading.ClipReader, row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Reads one example and makes its views."""
        key = views.example_key(self._seed, row["epoch"], row["example_id"])
        clip = reader(row["example_id"], views.clip_position(key))
        return {
            **views.training_views(key, clip.frames, clip.waveform, self._config, self._modalities),
            "has_video": clip.has_video,
            "has_audio": clip.has_audio,
            "example_id": row["example_id"],
            "epoch": tf.cast(row["epoch"], tf.int32),
        }
