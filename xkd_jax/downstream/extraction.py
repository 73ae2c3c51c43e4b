"""Features of recordings: clips of each, through the encoders, on all devices, each made once.

Batches are of constant shape, so that one program is compiled, and the parts that are kept on disk
are whole batches: what is made after an interruption is what would have been made without it, bit
for bit.
"""

import contextlib
import functools
import hashlib
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xkd_jax import augment, sharding
from xkd_jax.downstream.backbones import Backbones, weights_digest
from xkd_jax.downstream.feature_cache import FeatureCache
from xkd_jax.encoders import Form
from xkd_jax.randomness import Purpose, example_keys

if TYPE_CHECKING:  # brings TensorFlow in
    from input_pipeline.datasets import ClipSource

_VERSION = 1  # of what is computed; raised where a change gives other features
_PART_ROWS = 512  # clips, or more, in a part on disk: what an interruption can cost

Batch = dict[str, Any]


class Protocol(NamedTuple):
    """How recordings become features.

    Attributes:
        backbones: The encoders, by modality.
        views: Of `backbones.make_views`; with augmentation where `clips` asks for it.
        clips: `count`, `placement` and `augment` (configs/eval/probe.py).
        seed: Of all that is random.
        batch_size: Clips at a time, on all devices.
    """

    backbones: Backbones
    views: ml_collections.ConfigDict
    clips: ml_collections.ConfigDict
    seed: int
    batch_size: int

    def identity(self) -> dict[str, Any]:
        """All that features depend on besides the recordings, as plain values."""
        clips = self.clips
        return {
            "version": _VERSION,
            "weights": weights_digest(self.backbones),
            "architecture": {
                m: [list(encoder.sizes), list(encoder.module.grid), encoder.module.depth]
                for m, encoder in self.backbones.items()
            },
            "dtypes": {
                m: jnp.dtype(encoder.module.dtype).name for m, encoder in self.backbones.items()
            },
            "views": self.views.to_dict(),
            "clips": clips.to_dict(),
            "seed": self.seed if clips.augment or clips.placement == "random" else None,
            # Parts are whole batches.
            "batch_size": self.batch_size,
        }


class Features(NamedTuple):
    """Of n recordings.

    Attributes:
        of: By modality, (n, k, D) float32, of k clips each.
        replaced: (n,) bool, whether a recording could not be read and the source gave another in
            its place: such are not to be used.
    """

    of: dict[str, np.ndarray]
    replaced: np.ndarray


def extract(
    protocol: Protocol,
    source: "ClipSource",
    example_ids: np.ndarray,
    cache: pathlib.Path,
    mesh: Mesh,
    *,
    threads: int = 0,
    prefetch: int = 2,
    title: str = "clips",
) -> Features:
    """Encodes clips of recordings, or takes from disk what has been encoded before; says which.

    All processes of a run have to call it, with the same arguments but for paths. The first of
    them alone reads and writes the disk.

    Args:
        protocol: How.
        source: Opened for the protocol's views.
        example_ids: (n,) int64, the recordings, none twice.
        cache: Folder of all features on disk.
        mesh: All devices.
        threads: That decode; 0: one a core.
        prefetch: Batches made ahead.
        title: What is encoded, for people.

    Returns:
        The features; in other processes than the first, only those that were not on disk.
    """
    count = protocol.clips.count
    # Recordings whose clips fill whole batches, and so many of these that they are worth a file.
    unit = protocol.batch_size // math.gcd(protocol.batch_size, count)
    part_size = unit * math.ceil(_PART_ROWS / (unit * count))
    part_of = np.arange(len(example_ids)) // part_size
    features = Features(
        {
            m: np.zeros((len(example_ids), count, encoder.sizes.width), np.float32)
            for m, encoder in protocol.backbones.items()
        },
        np.zeros(len(example_ids), bool),
    )
    arrays = {**features.of, "replaced": features.replaced}
    kept, missing = None, np.ones(part_of[-1] + 1, bool)
    if jax.process_index() == 0:
        identity = {
            **protocol.identity(),
            "recordings": source.fingerprint,
            "example_ids": hashlib.sha256(np.asarray(example_ids, np.int64).tobytes()).hexdigest(),
        }
        kept = FeatureCache(cache, identity, len(example_ids), part_size)
        missing = np.array([not kept.read(part, arrays) for part in range(kept.parts)])
    if jax.process_count() > 1:
        missing = multihost_utils.broadcast_one_to_all(missing)
    wanted = example_ids[missing[part_of]]
    if kept:
        print(
            f"{title}: {count} of each of {len(example_ids)} recordings, "
            f"{len(example_ids) - len(wanted)} of which are in {kept.folder}",
            flush=True,
        )
    if not len(wanted):
        return features

    place_of = {int(example_id): place for place, example_id in enumerate(example_ids)}
    remaining = np.bincount(part_of) * count
    with (
        contextlib.closing(_encoded(protocol, source, wanted, mesh, threads, prefetch)) as batches,
        tqdm.tqdm(
            desc=title,
            total=len(example_ids) * count,
            initial=(len(example_ids) - len(wanted)) * count,
            unit="clip",
            disable=None if kept else True,
        ) as progress,
    ):
        for batch in batches:
            rows = np.flatnonzero(batch["valid"])
            places = np.array([place_of[number] for number in batch["example_id"][rows].tolist()])
            for m, array in features.of.items():
                array[places, batch["clip"][rows]] = batch[m][rows]
            np.logical_or.at(features.replaced, places, batch["replaced"][rows])
            np.subtract.at(remaining, part_of[places], 1)
            for part in np.unique(part_of[places]):
                if kept and not remaining[part]:
                    kept.write(part, arrays)
            progress.update(len(rows))
    return features


def _encoded(
    protocol: Protocol,
    source: "ClipSource",
    example_ids: np.ndarray,
    mesh: Mesh,
    threads: int,
    prefetch: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Encodes clips of recordings, batch by batch, each batch whole in every process.

    Yields:
        (B, D) float32 by modality; and `example_id`, `clip`, `valid` and `replaced` of each row.
    """
    # Here and not above, since this is what brings TensorFlow in.
    from input_pipeline import evaluation

    clips, backbones = protocol.clips, protocol.backbones
    passing = evaluation.EvaluationClips(
        source,
        protocol.views,
        protocol.batch_size,
        clips=clips.count,
        placement=clips.placement,
        augment=clips.augment,
        modalities=tuple(backbones),
        example_ids=example_ids,
        seed=protocol.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=threads,
        prefetch=prefetch,
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    # By way of the host: each process may put whole arrays on the devices of all.
    params = {m: jax.tree.map(np.asarray, encoder.params) for m, encoder in backbones.items()}
    params = jax.device_put(params, everywhere)
    forms = tuple((m, encoder.form) for m, encoder in backbones.items())
    augmentation = ml_collections.FrozenConfigDict(protocol.views.video) if clips.augment else None
    step = _program(forms, augmentation, mesh)
    seed = np.uint32(protocol.seed)
    exact = all(encoder.module.dtype == jnp.float32 for encoder in backbones.values())
    with (
        contextlib.closing(passing.batches()) as batches,
        sharding.Prefetch(mark_replaced(batches, source), mesh) as on_devices,
    ):
        before = None
        for batch in on_devices:
            # The devices work on one batch while the one before is put away.
            with jax.default_matmul_precision("highest" if exact else "default"):
                made = step(params, seed, batch)
            if before is not None:
                yield jax.tree.map(np.asarray, before)
            before = made
        yield jax.tree.map(np.asarray, before)


# Extractions by equal encoders share a program.
@functools.cache
def _program(
    forms: tuple[tuple[str, Form], ...],
    augmentation: ml_collections.FrozenConfigDict | None,
    mesh: Mesh,
) -> Callable[[Any, np.uint32, Batch], Batch]:
    """The program: weights, a seed and a batch -> features, and what tells the rows apart.

    Args:
        forms: Forms of the encoders, by modality.
        augmentation: Of video, such as `config.views.video`; None where nothing is augmented.
        mesh: All devices; the outputs are whole on each.
    """

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def step(params: Any, seed: jax.Array, batch: Batch) -> Batch:
        out = {name: batch[name] for name in ("example_id", "clip", "valid", "replaced")}
        for m, form in forms:
            seen = batch[m]
            if m == "video" and augmentation is not None:
                keys = example_keys(
                    seed, batch["clip"], batch["example_id"], Purpose.VIDEO_FEATURES
                )
                seen = augment.augment_local(keys, seen, augmentation)
            if m == "video":
                seen = seen[:, 0]  # the only crop
            out[m] = form.apply(params[m], seen)
        return out

    return step


def mark_replaced(
    batches: Iterator[dict[str, np.ndarray]], source: "ClipSource"
) -> Iterator[dict[str, np.ndarray]]:
    """Batches, and of each row whether the source has put another recording in its place."""
    for batch in batches:
        failed = source.failed
        replaced = [
            bool(failed) and number >= 0 and source.name(number) in failed
            for number in batch["example_id"].tolist()
        ]
        yield {**batch, "replaced": np.array(replaced)}
