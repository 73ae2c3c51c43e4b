"""Clips for features and evaluation: one pass over the recordings, in order, each several times.

The rows of a pass are the clips 0 to k - 1 of the first recording, then those of the second, and so
on. Batch n is rows `n * batch_size` on; the last batch is filled up with rows that are not `valid`,
so that all have one shape. Process i of P makes rows [i * B / P, (i + 1) * B / P) of every batch,
as in training. So all processes make the same number of batches, whatever the number of recordings,
and at the end some of them may have less, or nothing but filling.
"""

import contextlib
import functools
from collections.abc import Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline import reading, views
from input_pipeline.datasets import ClipSource
from input_pipeline.reading import MODALITIES
from input_pipeline.spectrogram import log_mel
from input_pipeline.views import Purpose

PLACEMENTS = ("uniform", "random")
CROPS = (1, 3)


class EvaluationClips:
    """Makes the batches of a pass.

    Attributes:
        batch_size: Rows of a batch, over all processes.
        local_batch_size: Rows of a batch that this process makes.
        rows: Rows of the pass that are valid: recordings times clips.
        steps: Batches of the pass.
    """

    def __init__(
        self,
        source: ClipSource,
        config: ml_collections.ConfigDict,
        batch_size: int,
        *,
        clips: int = 1,
        placement: str = "uniform",
        crops: int = 1,
        augment: bool = False,
        modalities: Sequence[str] = MODALITIES,
        example_ids: Sequence[int] | None = None,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        threads: int = 0,
        prefetch: int = 2,
    ) -> None:
        """Sets up a pass; nothing is read before the first batch is asked for.

        Args:
            source: The recordings.
            config: `views` of the config that the source was opened with: the clips are of its
                global views' length and size.
            batch_size: Rows of a batch, over all processes.
            clips: Clips of each recording.
            placement: Where they start. uniform: evenly from the first to the last possible place,
                a single one in the middle. random: anywhere, keyed by seed, recording and clip.
            crops: 1: the central square. 3: the squares at the two ends of the frames' longer side
                and the central one between them.
            augment: Whether to draw a resized crop and a volume as for the global views of
                training, in place of the central square; keyed as the places are.
            modalities: What to make, out of `MODALITIES`.
            example_ids: The recordings, in order; by default all.
            seed: Of what is random, not negative.
            process_index: Number of this process, from 0.
            process_count: Number of processes.
            threads: Threads that decode; 0: one for each core this process may use.
            prefetch: Batches made ahead.

        Raises:
            ValueError: A value is not allowed, or the processes cannot share a batch evenly.
        """
        _check("placement", placement, PLACEMENTS)
        _check("crops", crops, CROPS)
        reading.check_modalities(modalities)
        if clips < 1:
            raise ValueError(f"clips is {clips}; allowed: 1 or more")
        if augment and crops != 1:
            raise ValueError(f"crops is {crops}; allowed with augment: 1")
        if batch_size % process_count:
            raise ValueError(
                f"batch_size is {batch_size}: it must be a multiple of {process_count} processes"
            )
        if example_ids is None:
            example_ids = range(len(source))
        self._example_ids = np.array(example_ids, np.int64)
        self.batch_size = batch_size
        self.local_batch_size = batch_size // process_count
        self.rows = len(self._example_ids) * clips
        self.steps = -(-self.rows // batch_size)
        self._first_row = process_index * self.local_batch_size
        self._source = source
        self._config = config
        self._clips = clips
        self._placement = placement
        self._crops = crops
        self._augment = augment
        self._modalities = tuple(modalities)
        self._seed = seed
        self._threads = threads
        self._prefetch = prefetch

    def batches(self) -> reading.Batches:
        """Makes the batches of the pass, in order and ahead of time.

        Returns:
            A generator of `steps` batches, with B the local batch size, C the number of crops and
            the sizes of `views.training_views`: `video` (B, C, T, P, P, 3) uint8 and `audio` (B, F,
            W) float32, as far as asked for; `has_audio` (B,) bool, `example_id` (B,) int64 and
            `clip` (B,) int32, from 0; `valid` (B,) bool, False in rows that fill the last batch up,
            where ids are -1 and all else is zeros. Closing or dropping it stops the threads behind
            it. It raises a `reading.ReadError` where the source could not read an example.
        """
        reader = reading.ClipReader(self._source, self._config, "video" in self._modalities)
        full = reading.batches(
            self._rows,
            functools.partial(self._load, reader),
            reader,
            range(self.steps),
            self.local_batch_size,
            self._threads,
            self._prefetch,
        )
        with contextlib.closing(full):
            for _ in range(self.steps):
                yield self._filled_up(next(full, None))

    def _rows(self, step: int) -> dict[str, np.ndarray]:
        first = step * self.batch_size + self._first_row
        rows = np.arange(first, min(first + self.local_batch_size, self.rows))
        numbers, clips = np.divmod(rows, self._clips)
        return {"example_id": self._example_ids[numbers], "clip": clips.astype(np.int32)}

    def _load(self, reader: reading.ClipReader, row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Reads one clip and makes what is asked for of it."""
        video, audio, number = self._config.video, self._config.audio, row["clip"]
        key = views.example_key(self._seed, 0, row["example_id"])
        if self._placement == "random":
            position = views.clip_position(key, number)
        else:
            position = tf.constant(uniform_positions(self._clips), tf.float32)[number]
        clip = reader(row["example_id"], position)
        made = {"has_audio": clip.has_audio, **row}
        if "video" in self._modalities:
            size = tf.shape(clip.frames)[1:3]
            if self._augment:
                crop_key = views.draw_key(key, Purpose.VIDEO_GLOBAL_CROP, number)
                scale = video.global_scale
                boxes = [views.draw_video_crop(crop_key, size, scale, video.aspect_ratio)]
            else:
                boxes = square_crops(size, self._crops)
            made["video"] = tf.stack(
                [views.resized_video_crop(clip.frames, box, video.global_size) for box in boxes]
            )
        if "audio" in self._modalities:
            waveform = clip.waveform
            if self._augment:
                gain_key = views.draw_key(key, Purpose.AUDIO_GLOBAL_GAIN, number)
                waveform = views.draw_gain(gain_key, audio.global_gain) * waveform
            made["audio"] = log_mel(waveform, audio.global_frames, audio)
        return made

    def _filled_up(self, batch: reading.Batch | None) -> reading.Batch:
        """The batch with all its rows, and `valid`."""
        count = len(batch["example_id"]) if batch else 0
        valid = np.arange(self.local_batch_size) < count
        if count == self.local_batch_size:
            return {**batch, "valid": valid}
        filled = {"valid": valid}
        for name, (shape, dtype) in self._forms().items():
            filling = -1 if name in ("example_id", "clip") else 0
            filled[name] = np.full((self.local_batch_size, *shape), filling, dtype)
            if count:
                filled[name][:count] = batch[name]
        return filled

    def _forms(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and type of each entry of a row."""
        video, audio = self._config.video, self._config.audio
        size = video.global_size
        forms = {"has_audio": ((), bool), "example_id": ((), np.int64), "clip": ((), np.int32)}
        if "video" in self._modalities:
            forms["video"] = ((self._crops, video.global_frames, size, size, 3), np.uint8)
        if "audio" in self._modalities:
            forms["audio"] = ((audio.mel_bands, audio.global_frames), np.float32)
        return forms


def uniform_positions(clips: int) -> np.ndarray:
    """Places evenly from the first possible one to the last; a single one in the middle.

    Returns:
        (clips,) float64, in [0, 1], see `ClipSource.read`.
    """
    return np.linspace(0, 1, clips) if clips > 1 else np.array([0.5])


def square_crops(frame_size: tf.Tensor, crops: int) -> list[tf.Tensor]:
    """The squares that are as large as the frame allows.

    Args:
        frame_size: (2,) int32, height and width of the frames in pixels.
        crops: 1: the central one. 3: those at the start, in the middle and at the end of the longer
            side.

    Returns:
        That many (4,) int32: top, left, height and width, in pixels.
    """
    side = tf.reduce_min(frame_size)
    room = frame_size - side
    corners = [room // 2] if crops == 1 else [room * 0, room // 2, room]
    return [tf.concat([corner, [side, side]], axis=0) for corner in corners]


def _check(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
