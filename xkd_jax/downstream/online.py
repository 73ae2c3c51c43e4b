"""The online probe: how well nearest neighbors do on the features of a model that is being trained.

A small labelled set is read once, before the first step, and kept in memory as the networks see it:
uint8 frames and log-mels. Each probe then costs only its encoding. The set and its clips are a
function of the config, and the networks of the state: the same step gives the same numbers, in
whatever parts a run is made.
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

from xkd_jax import augment, sharding
from xkd_jax.config_check import ConfigError
from xkd_jax.downstream import classifiers, extraction, labelled, metrics, selection
from xkd_jax.interop.pretrained import NETWORKS
from xkd_jax.models.xkd import MODALITIES, XKD, encoder_params

if TYPE_CHECKING:
    from xkd_jax.train_step import TrainState

Metrics = dict[str, float]
# Features by modality, or `fused`, and network, such as `fused_student`, and the targets.
Labelled = tuple[dict[str, np.ndarray], np.ndarray]


class Clips(NamedTuple):
    """One clip of each of n recordings, as the networks see it.

    Attributes:
        batches: This process's share of each batch: `video` (B, T, P, P, 3) uint8, `audio`
            (B, F, W) float32 and `used` (B,) bool, False in rows that fill the last batch up and
            where another recording stands in for one that could not be read.
        targets: (n, C) bool, of all rows of all processes but those that fill up.
    """

    batches: list[dict[str, np.ndarray]]
    targets: np.ndarray


def make(
    config: ml_collections.ConfigDict, model: XKD, mesh: Mesh
) -> Callable[["TrainState", int], tuple["TrainState", Metrics]]:
    """Reads the labelled set, and makes what looks at a state every so many steps.

    Args:
        config: Of a pretraining, see configs/base.py.
        model: That is trained.
        mesh: Of the run.

    Returns:
        Function `(state, step) -> (state, metrics)`, as `train.train` takes it: the state as it is,
        and a float for each of `probe/video_teacher`, `probe/audio_teacher`, `probe/fused_teacher`
        and the same of the student.

    Raises:
        ConfigError, ValueError, FileNotFoundError: The data cannot serve.
    """
    fields = config.probe
    data = open_data(config)
    partition = data.partitions[0]
    started = time.perf_counter()
    train = read(config, choose(partition.train, fields.train, fields.seed))
    test = read(config, choose(partition.test, fields.test, fields.seed))
    metric = metrics.main_metric(data.multi_label)
    if jax.process_index() == 0:
        size = sum(x.nbytes for part in (train, test) for b in part.batches for x in b.values())
        print(
            f"Probe every {fields.every_steps} steps: {metrics.TITLES[metric.name]} on "
            f"{len(test.targets)} recordings of {len(data.class_names)} classes, by {fields.k} "
            f"neighbors out of {len(train.targets)}; chance {metric.chance(test.targets):.2g}; "
            f"read in {time.perf_counter() - started:.1f} s, {size / 1e6:.0f} MB",
            flush=True,
        )
    encode = make_encoder(model, mesh)

    def probe(state: "TrainState", step: int) -> tuple["TrainState", Metrics]:
        parts = [features(encode, state, clips, mesh) for clips in (train, test)]
        return state, scores(*parts, fields.k, fields.temperature, metric)

    return probe


def open_data(config: ml_collections.ConfigDict) -> labelled.LabelledData:
    """The labelled data of `config.probe`: those that it names, or else those of the run."""
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
        return labelled.open_labelled(data, config.views, picture=True)
    except ConfigError as error:
        # It speaks of an evaluation's config.
        whose = "config.probe" if fields.path else "config.probe on the run's own data"
        raise ConfigError(f"{whose}: {str(error).replace('config.data.', '')}") from error


def choose(recordings: labelled.Recordings, count: int, seed: int) -> labelled.Recordings:
    """Draws some recordings, as evenly over their (first) classes as these allow.

    Args:
        recordings: To draw from.
        count: How many, at most.
        seed: Of the draw.

    Returns:
        Those drawn, in their order.
    """
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(recordings))
    classes = recordings.targets.argmax(axis=1)[order]
    turn = np.zeros(len(order), np.int64)  # how many of its class come before each
    for label in np.unique(classes):
        turn[classes == label] = np.arange(np.sum(classes == label))
    drawn = order[np.argsort(turn, kind="stable")[:count]]
    return recordings.take(np.sort(drawn))


def read(config: ml_collections.ConfigDict, recordings: labelled.Recordings) -> Clips:
    """Reads the middle clip of each recording; of every batch, this process its share."""
    # Here and not above, since this is what brings TensorFlow in.
    from input_pipeline import evaluation

    passing = evaluation.EvaluationClips(
        recordings.source,
        config.views,
        config.batch_size,
        example_ids=recordings.example_ids,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
    )
    with contextlib.closing(passing.batches()) as made:
        batches = [
            {
                "video": batch["video"][:, 0],  # the only crop
                "audio": batch["audio"],
                "used": batch["valid"] & ~batch["replaced"],
            }
            for batch in extraction.mark_replaced(made, recordings.source)
        ]
    return Clips(batches, recordings.targets)


@functools.cache
def make_encoder(model: XKD, mesh: Mesh) -> Callable[..., dict[str, jax.Array]]:
    """The program `(params, teacher, batch) -> features`, whole in every process, made once.

    Features are (B, D) float32, the mean of the patch tokens after the final norm, by names such as
    `video_teacher`; `used` comes with them.
    """

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def encode(params: Any, teacher: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        views = {"video": augment.normalize(batch["video"]), "audio": batch["audio"]}
        weights = {"params": params, "teacher": teacher}
        out = {"used": batch["used"]}
        for m in MODALITIES:
            modality = getattr(model, m)
            patches, grid = modality.tokenize(views[m])
            for network, root in NETWORKS.items():
                variables = {"params": encoder_params(weights[root], m)}
                tokens, _ = modality.encoder.apply(variables, patches, grid)
                out[f"{m}_{network}"] = tokens[:, 1:].astype(jnp.float32).mean(axis=1)
        return out

    return encode


def features(
    encode: Callable[..., dict[str, jax.Array]], state: "TrainState", clips: Clips, mesh: Mesh
) -> Labelled:
    """Encodes a labelled set by all networks of a state.

    Args:
        encode: Of `make_encoder`.
        state: Of the run.
        clips: The set.
        mesh: Of the run.

    Returns:
        (n, D) float32 features by name and (n, C) bool targets, what is not `used` left out.
    """
    made = [
        jax.device_get(encode(state.params, state.teacher, sharding.put_batch(batch, mesh)))
        for batch in clips.batches
    ]
    count = len(clips.targets)
    rows = {name: np.concatenate([batch[name] for batch in made])[:count] for name in made[0]}
    used = rows.pop("used")
    found = {}
    for network in NETWORKS:
        of = {m: rows[f"{m}_{network}"][used] for m in MODALITIES}
        of["fused"] = selection.fused(of)
        found |= {f"{m}_{network}": x for m, x in of.items()}
    return found, clips.targets[used]


def scores(
    train: Labelled, test: Labelled, k: int, temperature: float, metric: metrics.Metric
) -> Metrics:
    """What nearest neighbors make of features, by `probe/` and the features' names.

    Args:
        train: Of `features`, to learn from.
        test: To score.
        k: Neighbors.
        temperature: Of their votes.
        metric: Of the scores.
    """
    settings = ml_collections.ConfigDict({"k": (k,), "temperature": temperature})
    found = {}
    for name, x in train[0].items():
        fits = classifiers.nearest_neighbors(settings, x, train[1], [test[0][name]])
        [(_, [votes])] = fits
        found[f"probe/{name}"] = metric.overall(votes, test[1])
    return found
