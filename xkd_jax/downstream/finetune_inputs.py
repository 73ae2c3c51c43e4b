"""Clips of labelled recordings for finetuning: batches to train on, and passes to score."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
import tqdm
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xkd_jax import augment, sharding
from xkd_jax.downstream import backbones, selection
from xkd_jax.downstream.extraction import mark_replaced
from xkd_jax.downstream.finetune_model import FinetuneModel, Params
from xkd_jax.downstream.labelled import Recordings

Batch = dict[str, np.ndarray]


def make_views(
    config: ml_collections.ConfigDict, encoders: backbones.Backbones
) -> ml_collections.ConfigDict:
    """A `views` section, as of configs/base.py, of clips to train on: one view, of the whole clip.

    Args:
        config: Of the run.
        encoders: The one to finetune, at the size of its inputs.
    """
    views = backbones.make_views(encoders)
    video, audio = views.video, views.audio
    if config.modality == "video":
        video.short_side = config.short_side
        video.global_scale = config.augmentation.crop_scale
        video.aspect_ratio = config.augmentation.aspect_ratio
        video.update({"local_count": 0, "local_frames": 1, "local_size": 1})
    else:
        audio.global_gain = config.augmentation.gain
        audio.update({"local_count": 0, "local_frames": 1})
    return views


def make_loader(
    config: ml_collections.ConfigDict, recordings: Recordings, views: ml_collections.ConfigDict
):
    """This process's loader of one random clip of each recording."""
    # Here and not above, since this is what brings TensorFlow in.
    from input_pipeline import loader

    return loader.Loader(
        recordings.source,
        views,
        batch_size=config.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        modalities=(config.modality,),
        example_ids=recordings.example_ids,
    )


def training_batches(
    loader: Any, recordings: Recordings, modality: str
) -> Callable[[int], Iterator[Batch]]:
    """Makes the function `start_step -> batches` of a run, for `finetune_step.augmented`."""
    place_of = {int(example_id): n for n, example_id in enumerate(recordings.example_ids)}

    def batches(start_step: int) -> Iterator[Batch]:
        with contextlib.closing(loader.batches(start_step)) as clips:
            for batch in mark_replaced(clips, recordings.source):
                places = [place_of[example_id] for example_id in batch["example_id"].tolist()]
                yield {
                    "views": batch[f"{modality}_global"],
                    "targets": recordings.targets[places],
                    **{name: batch[name] for name in ("example_id", "epoch", "replaced")},
                }

    return batches


class Predictions(NamedTuple):
    """Of some recordings.

    Attributes:
        scores: (n, C) float32, probabilities.
        targets: (n, C) bool.
    """

    scores: np.ndarray
    targets: np.ndarray


class Predictor:
    """Scores recordings; compiles one program, however often it is asked.

    Args:
        model: To score with.
        config: Of the run.
        views: Of `make_views`.
        multi_label: Whether classes are independent of each other.
        mesh: Of the run.
    """

    def __init__(
        self,
        model: FinetuneModel,
        config: ml_collections.ConfigDict,
        views: ml_collections.ConfigDict,
        multi_label: bool,
        mesh: Mesh,
    ):
        self._config = config
        self._views = views
        self._mesh = mesh
        is_video = model.modality == "video"

        def predict(params: Params, clips: jax.Array) -> jax.Array:
            """Probabilities (B, C) of clips (B, crops, T, P, P, 3) uint8 or (B, F, W)."""
            rows = len(clips)
            if is_video:
                clips = augment.normalize(clips.reshape(-1, *clips.shape[2:]))
            logits = model.logits(params, clips)
            probabilities = jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits)
            return probabilities.reshape(rows, -1, probabilities.shape[-1]).mean(axis=1)

        # Whole in every process, each of which computes the metrics.
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._predict = jax.jit(
            lambda params, batch: (predict(params, batch["clips"]), batch["replaced"]),
            out_shardings=(everywhere, everywhere),
        )

    def __call__(self, params: Params, recordings: Recordings, title: str) -> Predictions:
        """Scores recordings by the mean over their clips.

        Those that could not be read are left out, and told of.

        Args:
            params: Of the model.
            recordings: One at least.
            title: Of the progress bar.
        """
        found, replaced = zip(*self._batches(params, recordings, title), strict=True)
        rows = len(recordings) * self._config.evaluation.clips
        scores = selection.of_recordings(np.concatenate(found)[:rows], len(recordings))
        usable = ~np.concatenate(replaced)[:rows].reshape(len(recordings), -1).any(axis=1)
        writes = jax.process_index() == 0
        if not usable.all() and writes:
            print(f"{title}: {np.sum(~usable)} recordings cannot be read; left out", flush=True)
        return Predictions(scores[usable], recordings.targets[usable])

    def _batches(
        self, params: Params, recordings: Recordings, title: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scores (B, C) of the rows of a pass, and whether they are of other recordings."""
        # Here and not above, since this is what brings TensorFlow in.
        from input_pipeline import evaluation

        fields, modality = self._config.evaluation, self._config.modality
        passing = evaluation.EvaluationClips(
            recordings.source,
            self._views,
            fields.batch_size,
            clips=fields.clips,
            crops=fields.crops,
            modalities=(modality,),
            example_ids=recordings.example_ids,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            threads=self._config.data.threads,
            prefetch=self._config.data.prefetch,
        )
        with contextlib.ExitStack() as stack:
            clips = stack.enter_context(contextlib.closing(passing.batches()))
            marked = (
                {"clips": batch[modality], "replaced": batch["replaced"]}
                for batch in mark_replaced(clips, recordings.source)
            )
            on_devices = stack.enter_context(sharding.Prefetch(marked, self._mesh))
            silent = None if jax.process_index() == 0 else True
            progress = tqdm.tqdm(on_devices, title, passing.steps, unit="batch", disable=silent)
            before = None
            for batch in progress:
                # The devices work on one batch while the one before is put away.
                made = self._predict(params, batch)
                if before is not None:
                    yield jax.tree.map(np.asarray, before)
                before = made
            yield jax.tree.map(np.asarray, before)
