"""The task `retrieval`: sound finds the video of its recording among all, and video its sound.

See configs/eval/retrieval.py. Queries and candidates are the projectors' outputs, the only ones
that training makes agree between modalities. Each is of one modality alone: a teacher's are not
refined by the attention of the other modality, which would carry what is to be found.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from input_pipeline.programs.wording import counted
from xkd_jax import sharding
from xkd_jax.config import checks, schema
from xkd_jax.config import retrieval as retrieval_config
from xkd_jax.downstream import backbones, extraction, results, retrieval_scores
from xkd_jax.encoders import networks
from xkd_jax.encoders.descriptions import NETWORKS
from xkd_jax.encoders.networks import Networks
from xkd_jax.method import augment
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES, OTHER
from xkd_jax.run import console, processes

RULES = schema.rules(retrieval_config.fields())
# Networks that ask and answer, by name of the pair.
PAIRS = {
    "students": ("student", "student"),
    "teachers": ("teacher", "teacher"),
    "teacher asks, student answers": ("teacher", "student"),
}


def check(config: ml_collections.ConfigDict) -> None:
    """Checks each field of a retrieval's config, alone and in combination with others.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    checks.check_fields(config, RULES)
    if not config.checkpoint:
        checks.refuse(config, "checkpoint", "the folder of a run, or an export of everything")
    checks.check_data(config)


class Projections(NamedTuple):
    """How outputs of projectors are computed from recordings, for `extraction.extract`.

    Attributes:
        model: The model, whose dtype is that of the computation.
        weights: Weights by network and modality.
        views: Section `views` of the pretraining.
        clips: As in `extraction.Protocol`.
        seed: Seed of random placement.
        batch_size: Clips per batch over all devices.
    """

    model: xkd.XKD
    weights: dict[str, dict[str, Any]]
    views: ml_collections.ConfigDict
    clips: ml_collections.ConfigDict
    seed: int
    batch_size: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities to read."""
        return MODALITIES

    @property
    def widths(self) -> dict[str, int]:
        """Number of outputs by name, such as `video_student`."""
        count = self.model.video.projector.out
        return {f"{m}_{network}": count for network in self.weights for m in MODALITIES}

    def identity(self) -> dict[str, Any]:
        """Returns everything besides the recordings that outputs depend on, as plain values."""
        return {
            "version": extraction.VERSION,
            "outputs": "projections",
            "weights": backbones.digest_of(self.weights),
            "model": repr(self.model),
            "views": self.views.to_dict(),
            "clips": self.clips.to_dict(),
            "seed": self.seed if self.clips.placement == "random" else None,
            "batch_size": self.batch_size,
        }

    def program(self, mesh: Mesh) -> tuple[Any, extraction.Step]:
        """Returns the weights on the devices and the compiled function of a batch."""
        weights = sharding.replicate(self.weights, mesh)
        return weights, _program(self.model, tuple(self.weights), mesh)

    @property
    def exact(self) -> bool:
        """Whether products are in full float32."""
        return self.model.video.encoder.dtype == jnp.float32


@functools.cache
def _program(model: xkd.XKD, held: tuple[str, ...], mesh: Mesh) -> Callable[..., Any]:
    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def step(weights: Any, seed: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        del seed  # nothing is augmented
        out = {name: batch[name] for name in extraction.KEYS}
        seen = {"video": augment.normalize(batch["video"][:, 0]), "audio": batch["audio"]}
        for network in held:
            outputs = model.observe(weights[network], seen, attend=False, refine=False)
            for m, output in outputs.items():
                out[f"{m}_{network}"] = output.projections.astype(jnp.float32)
        return out

    return step


def retrieval(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Computes outputs for all recordings, ranks the partners, and writes the results.

    Args:
        config: Config as in xkd_jax/config/retrieval.py.
        workdir: Folder for `results.json`, and for the outputs if `config.features.cache` is empty.

    Returns:
        Content of `results.json`. None in all processes but the first.

    Raises:
        ConfigError: The config is invalid.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
    """
    from input_pipeline import datasets  # imports TensorFlow

    check(config)
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh)
    loaded = networks.load(config.checkpoint)
    if config.untrained and loaded.model is not None:
        loaded = loaded.untrained(config.seed)
    protocol = _protocol(config, loaded)
    source = datasets.open_dataset(config.data, protocol.views)
    example_ids = _choose(config, source)
    cache = config.features.cache or os.path.join(workdir, "features")
    outputs = extraction.extract(
        protocol,
        source,
        example_ids,
        pathlib.Path(cache),
        mesh,
        threads=config.data.threads,
        prefetch=config.data.prefetch,
    )
    summary = None
    if processes.is_first():
        usable = ~outputs.replaced
        if usable.sum() < 2:
            raise ValueError(
                f"{usable.sum()} of {counted(len(usable), 'recording')} could be read; allowed: 2"
            )
        # All clips of a recording count alike.
        means = {name: x[usable].mean(axis=1) for name, x in outputs.of.items()}
        summary = {
            **score(means, tuple(protocol.weights)),
            "title": _title(config, int(usable.sum())),
            "checkpoint": _describe(config, loaded, protocol),
            "data": {
                "dataset": config.data.dataset,
                "path": config.data.path,
                "split": config.data.split,
                "fingerprint": source.fingerprint,
                "recordings": int(usable.sum()),
                "left_out": len(source) - len(example_ids),
                "unreadable": sorted(source.name(n) for n in example_ids[~usable].tolist()),
            },
            "protocol": config.to_dict(),
        }
        results.save(workdir, summary)
        console.say(table(summary))
    processes.meet("results")
    return summary


def score(outputs: Mapping[str, np.ndarray], held: tuple[str, ...]) -> dict[str, Any]:
    """Scores retrieval in both directions, for each pair of networks.

    Args:
        outputs: (n, J) float32 by name, such as `video_student`. Row n is of recording n.
        held: Networks that there are.

    Returns:
        A dictionary with `pairs`, for each pair and modality of the queries `recall` by depth and
        `median_rank`; and with `chance`, the same of random orders.
    """
    unit = {name: retrieval_scores.centered(x) for name, x in outputs.items()}
    pairs: dict[str, Any] = {}
    for name, (asking, answering) in PAIRS.items():
        if not {asking, answering} <= set(held):
            continue
        pairs[name] = {}
        for m in MODALITIES:
            rank = retrieval_scores.ranks_of(unit[f"{m}_{asking}"], unit[f"{OTHER[m]}_{answering}"])
            pairs[name][f"{m}_to_{OTHER[m]}"] = _plain(
                retrieval_scores.recall(rank), retrieval_scores.median_rank(rank)
            )
    count = len(next(iter(outputs.values())))
    return {"pairs": pairs, "chance": _plain(*retrieval_scores.chance(count))}


def _plain(recall: Mapping[int, float], median_rank: float) -> dict[str, Any]:
    return {"recall": {str(k): share for k, share in recall.items()}, "median_rank": median_rank}


def table(summary: Mapping[str, Any]) -> str:
    """Formats results as a table for the terminal, recalls in percent."""
    depths = list(summary["chance"]["recall"])
    rows = [("", [*(f"recall@{k}" for k in depths), "median rank"], "")]

    def row(label: str, scores: Mapping[str, Any]) -> None:
        shares = [results.percent(scores["recall"][k]) for k in depths]
        rows.append((label, [*shares, f"{scores['median_rank']:g}"], ""))

    for pair, directions in summary["pairs"].items():
        for direction, scores in directions.items():
            row(f"{direction.replace('_', ' ')}, {pair}", scores)
    row("chance", summary["chance"])
    return "\n".join([summary["title"], *results.aligned(rows)])


def _protocol(config: ml_collections.ConfigDict, loaded: Networks) -> Projections:
    """Makes the protocol of the networks that have projectors of both modalities."""
    held = [
        network
        for network in NETWORKS
        if all(loaded.holds(network, m, "projector") for m in MODALITIES)
    ]
    if loaded.config is None or not held:
        checks.refuse(
            config,
            "checkpoint",
            "a run of both modalities with projectors, or an export of everything: encoders alone "
            "have no outputs that agree between modalities",
        )
    dtype = sharding.compute_dtype(config.compute_dtype)
    crop = ml_collections.ConfigDict({**config.clips.test, "augment": False})
    views = loaded.config.views.copy_and_resolve_references()
    # Media files are decoded so large that a crop has the size of the encoder's input.
    views.video.short_side = round(views.video.global_size / crop.crop)
    weights = {n: {m: loaded.weights(n, m) for m in MODALITIES} for n in held}
    model = xkd.build(loaded.config, dtype)
    return Projections(model, weights, views, crop, config.seed, config.batch_size)


def _choose(config: ml_collections.ConfigDict, source: Any) -> np.ndarray:
    """Returns the ids of the recordings with picture and sound, or of some of them by the seed."""
    paired = np.flatnonzero(source.has_audio & source.has_video)
    if len(paired) < 2:
        checks.refuse(config, "data.path", "data with picture and sound in at least 2 recordings")
    if len(paired) < len(source):
        console.say(
            f"left out {len(source) - len(paired)} of {counted(len(source), 'recording')} without "
            "picture or sound"
        )
    if config.recordings and config.recordings < len(paired):
        rng = np.random.Generator(np.random.Philox(config.seed))
        paired = np.sort(rng.permutation(paired)[: config.recordings])
    return paired.astype(np.int64)


def _describe(
    config: ml_collections.ConfigDict, loaded: Networks, protocol: Projections
) -> dict[str, Any]:
    description = loaded.description
    return {
        "path": config.checkpoint,
        "networks": list(protocol.weights),
        "untrained": config.untrained,
        "provenance": description["provenance"],
        "architecture": {m: description["architecture"][m] for m in MODALITIES},
        "preprocessing": {m: description["preprocessing"][m] for m in MODALITIES},
        "weights_sha256": backbones.digest_of(protocol.weights),
    }


def _title(config: ml_collections.ConfigDict, count: int) -> str:
    data_name = os.path.basename(os.path.normpath(config.data.path))
    kind = "untrained networks" if config.untrained else "networks"
    among = f"retrieval among {counted(count, 'recording')} of {data_name}"
    return f"{among}, {kind} of {config.checkpoint}"
