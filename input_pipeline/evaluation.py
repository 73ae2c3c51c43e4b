"""Clips for features and evaluation: one ordered pass over the recordings, several clips of each.

The rows of a pass are clips 0 to k - 1 of the first recording, then those of the second, and so on.
Batch n starts at row `n * batch_size`. The last batch is padded with rows that are not `valid`, so
all batches have one shape. With P processes and B rows in a batch, process i makes rows [i * B / P,
(i + 1) * B / P) of every batch, as in training. So all processes make the same number of batches.
In the last batch, some processes may have nothing but padding.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline import reading, views
from input_pipeline.reading import MODALITIES
from input_pipeline.sources import ClipSource
from input_pipeline.spectrogram import log_mel
from input_pipeline.views import Draw

PLACEMENTS = ("uniform", "random")
CROPS = (1, 3)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to make of each recording.

    Attributes:
        clips: Number of clips.
        placement: Where the clips start. "uniform" spaces them evenly from the first to the last
            possible place, and puts a single clip in the middle. "random" draws each place, keyed
            by seed, recording and clip.
        crops: Number of square crops of the frames. 1 takes the central square. 3 takes the squares
            at both ends of the longer side and the central one.
        crop_share: Side of the squares over the frames' shorter side, above 0 and at most 1.
        augment: Whether to draw a resized crop and a volume as for training's global views, in
            place of the central square. The draws are keyed like the places.
        seed: Seed of all draws, not negative.

    Raises:
        ValueError: A value is not allowed.
    """

    clips: int = 1
    placement: str = "uniform"
    crops: int = 1
    crop_share: float = 1.0
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values."""
        for name, allowed in (("placement", PLACEMENTS), ("crops", CROPS)):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
        if not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share is {self.crop_share}; allowed: above 0, at most 1")
        if self.clips < 1:
            raise ValueError(f"clips is {self.clips}; allowed: 1 or more")
        if self.augment and self.crops != 1:
            raise ValueError(f"crops is {self.crops}; allowed with augment: 1")


MIDDLE_CLIP = Recipe()  # the central square of the clip in the middle


class EvaluationClips:
    """Batches of one pass over the recordings.

    Attributes:
        batch_size: Number of rows in a batch, over all processes.
        local_batch_size: Number of rows of a batch that this process makes.
        rows: Number of valid rows in the pass: recordings times clips.
        steps: Number of batches in the pass.
    """

    def __init__(
        self,
        source: ClipSource,
        config: ml_collections.ConfigDict,
        batch_size: int,
        recipe: Recipe = MIDDLE_CLIP,
        *,
        modalities: Sequence[str] = MODALITIES,
        example_ids: Sequence[int] | None = None,
        process_index: int = 0,
        process_count: int = 1,
        threads: int = 0,
        prefetch: int = 2,
    ) -> None:
        """Initializes the pass. It reads nothing before the first batch is requested.

        Args:
            source: Source of the recordings.
            config: `views` section of the config with which the source was opened. The clips have
                the length and size of its global views.
            batch_size: Number of rows in a batch, over all processes.
            recipe: What to make of each recording.
            modalities: Modalities to make, from `MODALITIES`.
            example_ids: Ids of the recordings, in order. Defaults to all.
            process_index: Index of this process, from 0.
            process_count: Number of processes.
            threads: Number of threads that decode. 0 means one for each core that this process may
                use.
            prefetch: Number of batches made ahead.

        Raises:
            ValueError: A modality is unknown, or the processes cannot share a batch evenly.
        """
        reading.check_modalities(modalities)
        if batch_size % process_count:
            raise ValueError(
                f"batch_size is {batch_size}; allowed: a multiple of {process_count} processes"
            )
        if example_ids is None:
            example_ids = range(len(source))
        self._example_ids = np.array(example_ids, np.int64)
        self.batch_size = batch_size
        self.local_batch_size = batch_size // process_count
        self.rows = len(self._example_ids) * recipe.clips
        self.steps = -(-self.rows // batch_size)
        self._first_row = process_index * self.local_batch_size
        self._source = source
        self._config = config
        self._recipe = recipe
        self._modalities = tuple(modalities)
        self._threads = threads
        self._prefetch = prefetch

    def batches(self) -> reading.Batches:
        """Makes the batches of the pass, in order and ahead of time.

        Returns:
            A generator of `steps` batches. With B the local batch size, C the number of crops and
            the sizes of `views.training_views`, a batch has `video` (B, C, T, P, P, 3) uint8 and
            `audio` (B, F, W) float32, if requested, and `has_audio` (B,) bool, `example_id` (B,)
            int64, `clip` (B,) int32, from 0, and `valid` (B,) bool. `valid` is False in padding
            rows, where ids and clips are -1 and all else is 0. Closing or dropping the generator
            stops its threads. The generator raises `reading.ReadError` if the source cannot read an
            example.
        """
        reader = reading.ClipReader(self._source, self._config, "video" in self._modalities)
        unpadded = reading.batches(
            self._rows,
            functools.partial(self._load, reader),
            reader,
            range(self.steps),
            self.local_batch_size,
            self._threads,
            self._prefetch,
        )
        with contextlib.closing(unpadded):
            for _ in range(self.steps):
                yield self._padded(next(unpadded, None))

    def _rows(self, step: int) -> dict[str, np.ndarray]:
        first = step * self.batch_size + self._first_row
        rows = np.arange(first, min(first + self.local_batch_size, self.rows))
        numbers, clips = np.divmod(rows, self._recipe.clips)
        return {"example_id": self._example_ids[numbers], "clip": clips.astype(np.int32)}

    def _load(self, reader: reading.ClipReader, row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Reads one clip and makes the requested entries of its row."""
        video, audio, clip_index = self._config.video, self._config.audio, row["clip"]
        recipe = self._recipe
        key = views.example_key(recipe.seed, 0, row["example_id"])
        if recipe.placement == "random":
            position = views.clip_position(key, clip_index)
        else:
            position = tf.constant(uniform_positions(recipe.clips), tf.float32)[clip_index]
        clip = reader(row["example_id"], position)
        entries = {"has_audio": clip.has_audio, **row}
        if "video" in self._modalities:
            size = tf.shape(clip.frames)[1:3]
            if recipe.augment:
                crop_key = views.draw_key(key, Draw.VIDEO_GLOBAL_CROP, clip_index)
                scale = video.global_scale
                boxes = [views.draw_video_crop(crop_key, size, scale, video.aspect_ratio)]
            else:
                boxes = square_crops(size, recipe.crops, recipe.crop_share)
            entries["video"] = tf.stack(
                [views.resized_video_crop(clip.frames, box, video.global_size) for box in boxes]
            )
        if "audio" in self._modalities:
            waveform = clip.waveform
            if recipe.augment:
                gain_key = views.draw_key(key, Draw.AUDIO_GLOBAL_GAIN, clip_index)
                waveform = views.draw_gain(gain_key, audio.global_gain) * waveform
            entries["audio"] = log_mel(waveform, audio.global_frames, audio)
        return entries

    def _padded(self, batch: reading.Batch | None) -> reading.Batch:
        """Pads a batch to all its rows and adds `valid`."""
        count = len(batch["example_id"]) if batch else 0
        valid = np.arange(self.local_batch_size) < count
        if count == self.local_batch_size:
            return {**batch, "valid": valid}
        padded = {"valid": valid}
        for name, (shape, dtype) in self._row_specs().items():
            padding = -1 if name in ("example_id", "clip") else 0
            padded[name] = np.full((self.local_batch_size, *shape), padding, dtype)
            if count:
                padded[name][:count] = batch[name]
        return padded

    def _row_specs(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Returns the shape and dtype of each entry of a row."""
        video, audio = self._config.video, self._config.audio
        size = video.global_size
        specs = {"has_audio": ((), bool), "example_id": ((), np.int64), "clip": ((), np.int32)}
        if "video" in self._modalities:
            specs["video"] = ((self._recipe.crops, video.global_frames, size, size, 3), np.uint8)
        if "audio" in self._modalities:
            specs["audio"] = ((audio.mel_bands, audio.global_frames), np.float32)
        return specs


def uniform_positions(clips: int) -> np.ndarray:
    """Spaces clips evenly from the first possible place to the last; one clip is in the middle.

    Returns:
        (clips,) float64 in [0, 1], see `ClipSource.read`.
    """
    return np.linspace(0, 1, clips) if clips > 1 else np.array([0.5])


def square_crops(frame_size: tf.Tensor, crops: int, share: float = 1.0) -> list[tf.Tensor]:
    """Returns squares of the frame, in the middle of its shorter side.

    Args:
        frame_size: (2,) int32 height and width of the frames, in pixels.
        crops: Number of squares. 1 gives the central one. 3 gives those at the start, in the middle
            and at the end of the longer side; smaller squares keep the margin of the shorter side.
        share: Side of the squares over the frame's shorter side.

    Returns:
        `crops` tensors (4,) int32: top, left, height and width, in pixels.
    """
    shorter = tf.reduce_min(frame_size)
    side = tf.maximum(tf.cast(tf.round(share * tf.cast(shorter, tf.float32)), tf.int32), 1)
    inset = (shorter - side) // 2
    margin = frame_size - shorter
    margins = [margin // 2] if crops == 1 else [margin * 0, margin // 2, margin]
    return [tf.concat([inset + corner, [side, side]], axis=0) for corner in margins]
