"""Online probe: classifiers and ranks on the features of a model during its training.

A small labeled set is read once, before the first step, and kept in memory as the networks' views:
uint8 frames and log-mels. Each probe then only has to encode them. The views depend on the config
alone, so the same state gives the same numbers, even after a restart.
"""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xkd_jax import sharding
from xkd_jax.config.checks import ConfigError, check_probe
from xkd_jax.downstream import (
    classifiers,
    extraction,
    labeled_data,
    metrics,
    ranks,
    ridge,
    selection,
)
from xkd_jax.encoders.descriptions import NETWORKS
from xkd_jax.method import augment
from xkd_jax.method.models.vit import mean_token
from xkd_jax.method.models.xkd import MODALITIES, XKD, modality_params
from xkd_jax.run import console, processes

if TYPE_CHECKING:
    from xkd_jax.method.state import TrainState

Metrics = dict[str, float]


class Clips(NamedTuple):
    """Views of k clips of each of n recordings.

    Attributes:
        batches: This process's share of each batch: `video` (B, T, P, P, 3) uint8, unless the
            recordings have no picture, `audio` (B, F, W) float32 and `used` (B,) bool. `used` is
            False for padding rows of the last batch, and for rows in which the source substituted
            another recording.
        targets: (n * k, C) bool. Targets of the rows of all processes, without padding. The k clips
            of a recording are adjacent.
        per_recording: k.
    """

    batches: list[dict[str, np.ndarray]]
    targets: np.ndarray
    per_recording: int = 1


class Encoded(NamedTuple):
    """What the networks of a state make of n rows of `Clips`.

    Attributes:
        features: (n, D) float32 by modality (or `fused`) and network, such as `fused_student`.
        outputs: (n, J) float32 by modality. Outputs of the teachers' projectors for unrefined
            features.
        targets: (n, C) bool.
    """

    features: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    targets: np.ndarray


def make(
    config: ml_collections.ConfigDict, model: XKD, mesh: Mesh
) -> Callable[["TrainState", int], tuple["TrainState", Metrics]]:
    """Reads the labeled set and makes the function that scores a state.

    Args:
        config: Config of the pretraining (xkd_jax/config/pretraining.py).
        model: Model in training.
        mesh: Device mesh of the run.

    Returns:
        Function `(state, step) -> (state, metrics)` for `loop.train`. It returns the state
        unchanged, and a float for each of `probe/video_teacher`, `probe/audio_teacher`,
        `probe/fused_teacher` and the same three of the student, the same six of `linear_probe/`,
        and those of `effective_ranks`. If the recordings have no picture, only those of audio.

    Raises:
        ConfigError: A field is not allowed or the data do not fit it.
        ValueError: The data are unusable.
        FileNotFoundError: The data do not exist.
    """
    fields = config.probe
    data = open_data(config)
    held_out, use = find_held_out(config, data)
    started = time.perf_counter()
    train = read(config, choose(data.partitions[0].train, fields.train, fields.seed))
    test = read(config, choose(held_out, fields.test, fields.seed))
    views = read(config, choose(held_out, fields.lidar, fields.seed), fields.views)
    metric = metrics.main_metric(data.multi_label)
    size = sum(x.nbytes for part in (train, test, views) for b in part.batches for x in b.values())
    console.say(
        f"Probe every {fields.every_steps} steps: {metrics.TITLES[metric.name]} on "
        f"{len(test.targets)} {use} recordings of {len(data.class_names)} classes, by {fields.k} "
        f"neighbors out of {len(train.targets)}; chance {metric.chance(test.targets):.2g}; "
        f"read in {time.perf_counter() - started:.1f} s, {size / 1e6:.0f} MB"
    )
    encode = make_encoder(model, mesh)

    def probe(state: "TrainState", step: int) -> tuple["TrainState", Metrics]:
        parts = [features(encode, state, clips, mesh) for clips in (train, test)]
        values = scores(*parts, fields.k, fields.temperature, metric)
        of_views = features(encode, state, views, mesh)
        return state, values | effective_ranks(parts[1], of_views, fields.views)

    return probe


def open_data(config: ml_collections.ConfigDict) -> labeled_data.LabeledData:
    """Opens the labeled data that `config.probe` names, or the run's own if it names none.

    Raises:
        ConfigError: The data are unusable (see `labeled_data.open_labeled`).
    """
    check_probe(config)
    fields = config.probe
    source = fields if fields.path else config.data
    data = ml_collections.ConfigDict(
        {
            "dataset": source.dataset,
            "path": source.path,
            "train_split": fields.train_split,
            "test_split": fields.test_split,
            "validation_split": "",
            "partitions": (),
            "test_share": 0.2,
            "seed": fields.seed,
            "threads": config.data.threads,
            "prefetch": config.data.prefetch,
            "max_bad_fraction": config.data.max_bad_fraction,
            "generated": config.data.generated,
        }
    )
    try:
        return labeled_data.open_labeled(data, config.views, picture=False)
    except (ValueError, FileNotFoundError) as error:  # of the config, or of its data
        # The message names a field of an evaluation's config, which a pretraining does not have.
        prefix = "config.probe" if fields.path else "config.probe on the run's own data"
        raise ConfigError(f"{prefix}: {str(error).replace('config.data.', '')}") from error


def find_held_out(
    config: ml_collections.ConfigDict, data: labeled_data.LabeledData
) -> tuple[labeled_data.Recordings, str]:
    """Finds the recordings to score on: those that decisions may rest on, if there are any.

    Args:
        config: Config of the pretraining.
        data: Labeled data of the probe.

    Returns:
        The recordings of the validation split, unless the data have none or `config.probe` names
        its test split, and otherwise those to test on; and `"validation"` or `"test"`.
    """
    partition = data.partitions[0]
    if not partition.validation or config.probe.test_split:
        return partition.test, "test"
    return partition.validation, "validation"


def choose(recordings: labeled_data.Recordings, count: int, seed: int) -> labeled_data.Recordings:
    """Draws recordings at random, with classes as balanced as possible.

    A recording of several classes counts for its first one. Recordings without a picture are left
    out if others have one.

    Args:
        recordings: Recordings to draw from.
        count: Largest number of recordings to draw.
        seed: Seed of the draw.

    Returns:
        The drawn recordings, in their original order.
    """
    has_video = recordings.source.has_video[recordings.example_ids]
    if has_video.any():
        recordings = recordings.take(has_video)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(recordings))
    classes = recordings.targets.argmax(axis=1)[order]
    rank = np.zeros(len(order), np.int64)  # position of each recording within its class
    for label in np.unique(classes):
        rank[classes == label] = np.arange(np.sum(classes == label))
    drawn = order[np.argsort(rank, kind="stable")[:count]]
    return recordings.take(np.sort(drawn))


def read(
    config: ml_collections.ConfigDict, recordings: labeled_data.Recordings, count: int = 1
) -> Clips:
    """Reads this process's share of the clips of recordings.

    Args:
        config: Config of the pretraining.
        recordings: Recordings to read.
        count: Clips of each recording. One is the middle clip, its central square. More are drawn
            as training draws its global views: places, crops and volumes at random, keyed by
            `config.probe.seed`.
    """
    from input_pipeline import evaluation  # imports TensorFlow

    recipe = evaluation.MIDDLE_CLIP
    if count > 1:
        recipe = evaluation.Recipe(count, "random", augment=True, seed=config.probe.seed)
    has_video = recordings.source.has_video[recordings.example_ids].any()
    evaluation_clips = evaluation.EvaluationClips(
        recordings.source,
        config.views,
        config.batch_size,
        recipe,
        modalities=MODALITIES if has_video else ("audio",),
        example_ids=recordings.example_ids,
        **processes.place(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
    )
    with contextlib.closing(evaluation_clips.batches()) as clips:
        batches = [
            {
                **({"video": batch["video"][:, 0]} if has_video else {}),  # the only crop
                "audio": batch["audio"],
                "used": batch["valid"] & ~batch["replaced"],
            }
            for batch in extraction.mark_replaced(clips, recordings.source)
        ]
    return Clips(batches, recordings.targets.repeat(count, axis=0), count)


@functools.cache
def make_encoder(model: XKD, mesh: Mesh) -> Callable[..., dict[str, jax.Array]]:
    """Makes the jitted function `(params, teacher, batch) -> features`, once per model and mesh.

    Features are (B, D) float32 by names such as `video_teacher`: means of the patch tokens after
    the final norm. They are of the modalities in the batch. The output also has the teachers'
    projections of them, (B, J) float32, by names such as `video_outputs`, and `used` (B,) bool.
    Each process gets whole batches.
    """

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def encode(params: Any, teacher: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        views = {m: batch[m] for m in MODALITIES if m in batch}
        if "video" in views:
            views["video"] = augment.normalize(views["video"])
        weights = {"params": params, "teacher": teacher}
        out = {"used": batch["used"]}
        for m in views:
            for network, root in NETWORKS.items():
                parts = modality_params(weights[root], m)
                tokens = getattr(model, m).encode(parts, views[m]).tokens
                out[f"{m}_{network}"] = mean_token(tokens, jnp.float32)
                if network == "teacher":
                    out[f"{m}_outputs"] = getattr(model, m).project(parts, out[f"{m}_{network}"])
        return out

    return encode


def features(
    encode: Callable[..., dict[str, jax.Array]], state: "TrainState", clips: Clips, mesh: Mesh
) -> Encoded:
    """Encodes a labeled set with all networks of a state.

    Args:
        encode: Function from `make_encoder`.
        state: State of the training.
        clips: Labeled set from `read`.
        mesh: Device mesh of the run.

    Returns:
        Features, outputs and targets of the recordings whose rows all have `used` set.
    """
    encoded = [
        jax.device_get(encode(state.params, state.teacher, sharding.put_batch(batch, mesh)))
        for batch in clips.batches
    ]
    count = len(clips.targets)
    rows = {name: np.concatenate([batch[name] for batch in encoded])[:count] for name in encoded[0]}
    used = rows.pop("used").reshape(-1, clips.per_recording).all(axis=1)
    used = used.repeat(clips.per_recording)
    by_name = {}
    for network in NETWORKS:
        by_modality = {
            m: rows[f"{m}_{network}"][used] for m in MODALITIES if f"{m}_{network}" in rows
        }
        if len(by_modality) == len(MODALITIES):
            by_modality[selection.FUSED] = selection.fused(by_modality)
        by_name |= {f"{m}_{network}": x for m, x in by_modality.items()}
    outputs = {m: rows[f"{m}_outputs"][used] for m in MODALITIES if f"{m}_outputs" in rows}
    return Encoded(by_name, outputs, clips.targets[used])


def scores(
    train: Encoded, test: Encoded, k: int, temperature: float, metric: metrics.Metric
) -> Metrics:
    """Scores features by nearest neighbors and by a linear classifier.

    Args:
        train: Features and targets of the training set.
        test: Features and targets of the test set.
        k: Number of neighbors.
        temperature: Temperature of the neighbors' votes.
        metric: Metric to compute.

    Returns:
        Scores of the neighbors by names such as `probe/video_teacher`, then those of the linear
        classifier by names such as `linear_probe/video_teacher`.
    """
    settings = ml_collections.ConfigDict({"k": (k,), "temperature": temperature})
    neighbors, linear = {}, {}
    for name, x in train.features.items():
        if name not in test.features:
            continue
        test_x = test.features[name]
        [(_, [votes])] = classifiers.nearest_neighbors(settings, x, train.targets, [test_x])
        neighbors[f"probe/{name}"] = metric.overall(votes, test.targets)
        logits = ridge.scores(x, train.targets, test_x)
        linear[f"linear_probe/{name}"] = metric.overall(logits, test.targets)
    return neighbors | linear


def effective_ranks(single: Encoded, several: Encoded, views: int) -> Metrics:
    """Measures how many directions features and the teachers' outputs use.

    LiDAR is of features alone: outputs come to tell groups of clips apart as teachers learn, so
    that theirs falls in healthy runs too.

    Args:
        single: One view of each of n recordings.
        several: Several views of each of some recordings, those of one adjacent.
        views: Number of views of each of them.

    Returns:
        RankMe of `single` and LiDAR of `several`, by names such as `rankme/video_teacher` for
        features and `rankme/video_outputs` for outputs. No LiDAR of fewer than two recordings.
    """
    values = {f"rankme/{n}": ranks.rankme(x) for n, x in _of_one_modality(single).items()}
    values |= {f"rankme/{m}_outputs": ranks.rankme(x) for m, x in single.outputs.items()}
    for name, x in _of_one_modality(several).items():
        if len(x) > views:
            values[f"lidar/{name}"] = ranks.lidar(x.reshape(-1, views, x.shape[-1]))
    return values


def _of_one_modality(encoded: Encoded) -> dict[str, np.ndarray]:
    """Returns the features that are not fused, by name."""
    return {name: x for name, x in encoded.features.items() if not name.startswith("fused_")}
