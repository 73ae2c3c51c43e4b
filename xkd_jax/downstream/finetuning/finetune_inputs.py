"""Inputs of finetuning: training batches, and the scoring of labeled recordings."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from input_pipeline.programs import progress
from input_pipeline.programs.wording import counted
from xkd_jax import sharding
from xkd_jax.config import finetuning
from xkd_jax.downstream import backbones, selection
from xkd_jax.downstream.extraction import mark_replaced
from xkd_jax.downstream.labeled_data import Recordings
from xkd_jax.method import augment
from xkd_jax.run import console, processes

if TYPE_CHECKING:  # imports TensorFlow
    from input_pipeline.loader import Loader

Batch = dict[str, Any]


class Model(Protocol):
    """What a model under training has to offer to be scored."""

    def logits(self, params: Any, views: Mapping[str, jax.Array]) -> jax.Array:
        """Computes (B, ..., C) float32 of normalized views (B, ...) by modality."""


def make_views(
    config: ml_collections.ConfigDict, encoders: backbones.Backbones
) -> ml_collections.ConfigDict:
    """Makes a section `views` of a pretraining's config with one global view and no local views.

    Args:
        config: Config of the finetuning.
        encoders: Encoders by modality, loaded for the size of their inputs.

    Raises:
        ConfigError: The encoders take video and audio of different lengths.
    """
    views = backbones.make_views(encoders)
    video, audio = views.video, views.audio
    if "video" in encoders:
        augmentation = finetuning.augmentation(config, "video")
        video.short_side = config.short_side
        video.global_scale = augmentation.crop_scale
        video.aspect_ratio = augmentation.aspect_ratio
        video.update({"local_count": 0, "local_frames": 1, "local_size": 1})
    if "audio" in encoders:
        audio.global_gain = finetuning.augmentation(config, "audio").gain
        audio.update({"local_count": 0, "local_frames": 1})
    return views


def make_loader(
    config: ml_collections.ConfigDict, recordings: Recordings, views: ml_collections.ConfigDict
) -> "Loader":
    """Makes this process's loader of one random clip per recording, in epochs of any sampling."""
    from input_pipeline import example_order, loader  # imports TensorFlow

    ids = recordings.example_ids
    if config.data.sampling == "balanced":
        label_sets = [tuple(np.flatnonzero(classes)) for classes in recordings.targets]
        order = example_order.BalancedOrder(ids, label_sets)
    else:
        order = example_order.ExampleOrder(ids)
    return loader.Loader(
        recordings.source,
        views,
        batch_size=config.batch_size,
        seed=config.seed,
        **processes.place(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        modalities=finetuning.modalities(config),
        order=order,
    )


def training_batches(
    loader: "Loader", recordings: Recordings, modalities: Sequence[str]
) -> Callable[[int], Iterator[Batch]]:
    """Makes the function `start_step -> batches` that `loop.Task` takes.

    Args:
        loader: Loader from `make_loader`.
        recordings: Recordings of the loader, with their targets.
        modalities: "video", "audio" or both.

    Returns:
        Function that yields batches for `finetune_step.augmented`.
    """
    place_of = {int(example_id): n for n, example_id in enumerate(recordings.example_ids)}

    def batches(start_step: int) -> Iterator[Batch]:
        with contextlib.closing(loader.batches(start_step)) as clips:
            for batch in mark_replaced(clips, recordings.source):
                places = [place_of[example_id] for example_id in batch["example_id"].tolist()]
                yield {
                    "views": {m: batch[f"{m}_global"] for m in modalities},
                    "targets": recordings.targets[places],
                    **{name: batch[name] for name in ("example_id", "epoch", "replaced")},
                }

    return batches


class Predictions(NamedTuple):
    """Predictions for n recordings.

    Attributes:
        scores: (n, C) float32. Probabilities. (n, G, C) from a model of G heads.
        targets: (n, C) bool. Classes of each recording.
    """

    scores: np.ndarray
    targets: np.ndarray


class Predictor:
    """Scores recordings with a single compiled program.

    Args:
        model: Model to score with.
        config: Config of the finetuning.
        views: Section from `make_views`.
        multi_label: Whether recordings may have any number of classes.
        mesh: Device mesh of the run.
    """

    def __init__(
        self,
        model: Model,
        config: ml_collections.ConfigDict,
        views: ml_collections.ConfigDict,
        multi_label: bool,
        mesh: Mesh,
    ) -> None:
        self._config = config
        self._views = views
        self._mesh = mesh

        def predict(params: Any, clips: Mapping[str, jax.Array]) -> jax.Array:
            """Computes (B, ..., C) probabilities of clips by modality.

            Video is (B, crops, T, P, P, 3) uint8, audio (B, F, W) float. With audio, there is one
            crop.
            """
            rows, views = len(next(iter(clips.values()))), dict(clips)
            if "video" in clips:
                video = clips["video"]
                views["video"] = augment.normalize(video.reshape(-1, *video.shape[2:]))
            logits = model.logits(params, views)
            probabilities = jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits)
            return probabilities.reshape(rows, -1, *probabilities.shape[1:]).mean(axis=1)

        # The outputs are replicated, since every process computes the metrics.
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._predict = jax.jit(
            lambda params, batch: (predict(params, batch["clips"]), batch["replaced"]),
            out_shardings=(everywhere, everywhere),
        )

    def __call__(self, params: Any, recordings: Recordings, title: str) -> Predictions:
        """Scores recordings by the mean probabilities over their clips.

        Unreadable recordings are left out; a line tells how many.

        Args:
            params: Parameters of the model.
            recordings: At least one recording.
            title: Title of the progress bar.
        """
        scores, replaced = zip(*self._batches(params, recordings, title), strict=True)
        rows = len(recordings) * self._config.evaluation.clips
        means = selection.mean_over_clips(np.concatenate(scores)[:rows], len(recordings))
        usable = ~np.concatenate(replaced)[:rows].reshape(len(recordings), -1).any(axis=1)
        if not usable.all():
            console.say(
                f"{title}: left out {np.sum(~usable)} of "
                f"{counted(len(recordings), 'recording')} that could not be read"
            )
        return Predictions(means[usable], recordings.targets[usable])

    def _batches(
        self, params: Any, recordings: Recordings, title: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (B, ..., C) probabilities, and (B,) bool for clips of substituted recordings."""
        from input_pipeline import evaluation  # imports TensorFlow

        fields, modalities = self._config.evaluation, finetuning.modalities(self._config)
        evaluation_clips = evaluation.EvaluationClips(
            recordings.source,
            self._views,
            fields.batch_size,
            evaluation.Recipe(clips=fields.clips, crops=fields.crops),
            modalities=modalities,
            example_ids=recordings.example_ids,
            **processes.place(),
            threads=self._config.data.threads,
            prefetch=self._config.data.prefetch,
        )
        with contextlib.ExitStack() as stack:
            clips = stack.enter_context(contextlib.closing(evaluation_clips.batches()))
            inputs = (
                {"clips": {m: batch[m] for m in modalities}, "replaced": batch["replaced"]}
                for batch in mark_replaced(clips, recordings.source)
            )
            on_devices = stack.enter_context(sharding.Prefetch(inputs, self._mesh))
            steps, shown = evaluation_clips.steps, processes.is_first()
            bar = progress.bar(title, steps, "batch", on_devices, shown=shown)
            previous = None
            for batch in bar:
                # The devices compute one batch while the host fetches the previous one.
                predicted = self._predict(params, batch)
                if previous is not None:
                    yield jax.tree.map(np.asarray, previous)
                previous = predicted
            yield jax.tree.map(np.asarray, previous)
