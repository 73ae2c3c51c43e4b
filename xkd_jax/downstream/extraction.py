"""Extraction of features: clips of recordings are encoded on all devices and cached on disk.

All batches have the same shape, so one program is compiled. The parts on disk are whole batches, so
an interrupted extraction that is started again gives the same features bit for bit.
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
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from input_pipeline.programs import progress
from input_pipeline.programs.wording import counted
from xkd_jax import sharding
from xkd_jax.downstream.backbones import Backbones, weights_digest
from xkd_jax.downstream.feature_cache import FeatureCache
from xkd_jax.encoders.form import Form
from xkd_jax.method import augment
from xkd_jax.method.randomness import Purpose, example_keys
from xkd_jax.run import console, processes

if TYPE_CHECKING:  # imports TensorFlow
    from input_pipeline.sources import ClipSource

VERSION = 1  # increased by every change of code that changes features
_PART_ROWS = 512  # a part on disk has at least this many clips; an interruption costs about one

Batch = dict[str, Any]
Step = Callable[[Any, np.uint32, Batch], Batch]
KEYS = ("example_id", "clip", "valid", "replaced")  # of the rows of a batch, and of its features


class Protocol(NamedTuple):
    """How features are computed from recordings.

    Attributes:
        backbones: Encoders by modality.
        views: Section from `backbones.make_views`, with augmentation if `clips.augment`.
        clips: Section with `count`, `placement`, `augment` and `crop`, which is for clips that are
            not augmented (xkd_jax/config/probing.py).
        seed: Seed of random placement and of augmentation.
        batch_size: Clips per batch over all devices.
    """

    backbones: Backbones
    views: ml_collections.ConfigDict
    clips: ml_collections.ConfigDict
    seed: int
    batch_size: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities to read."""
        return tuple(self.backbones)

    @property
    def widths(self) -> dict[str, int]:
        """Widths of the features by modality."""
        return {m: encoder.sizes.width for m, encoder in self.backbones.items()}

    @property
    def exact(self) -> bool:
        """Whether products are in full float32."""
        return all(encoder.module.dtype == jnp.float32 for encoder in self.backbones.values())

    def program(self, mesh: Mesh) -> tuple[Any, Step]:
        """Returns the weights on the devices and the compiled function of a batch."""
        # From the host, a process can replicate whole arrays over the devices of all processes.
        params = {m: jax.tree.map(np.asarray, b.params) for m, b in self.backbones.items()}
        params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
        forms = tuple((m, encoder.form) for m, encoder in self.backbones.items())
        is_augmented = self.clips.augment
        video = ml_collections.FrozenConfigDict(self.views.video) if is_augmented else None
        return params, _program(forms, video, mesh)

    def identity(self) -> dict[str, Any]:
        """Returns everything besides the recordings that features depend on, as plain values."""
        clips = self.clips
        return {
            "version": VERSION,
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
            # It decides which clips are in a part.
            "batch_size": self.batch_size,
        }


class Features(NamedTuple):
    """Features of n recordings.

    Attributes:
        of: (n, k, D) float32 by modality, or by another name that the protocol gives. Features of k
            clips of each recording.
        replaced: (n,) bool. Whether a recording could not be read and the source substituted
            another one. Its features must not be used.
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
    """Encodes clips of recordings, and reads from disk what was encoded before.

    All processes must call it with the same arguments, except for paths. Only the first process
    reads and writes the cache. It prints how many recordings the cache has.

    Args:
        protocol: How to compute the features: a `Protocol`, or another one of the same interface,
            such as `retrieval.Projections`.
        source: Recordings, opened for the protocol's views.
        example_ids: (n,) int64. Distinct ids of the recordings in `source`.
        cache: Folder of all cached features.
        mesh: Device mesh over all devices.
        threads: Number of decoding threads. 0 for one per core.
        prefetch: Number of batches prepared ahead.
        title: What is encoded, for messages and the progress bar.

    Returns:
        Features in the order of `example_ids`. In all processes but the first, features that were
        read from disk are zeros.
    """
    count = protocol.clips.count
    # A part is the smallest number of recordings that fills whole batches and has enough clips.
    unit = protocol.batch_size // math.gcd(protocol.batch_size, count)
    part_size = unit * math.ceil(_PART_ROWS / (unit * count))
    part_of = np.arange(len(example_ids)) // part_size
    features = Features(
        {
            name: np.zeros((len(example_ids), count, width), np.float32)
            for name, width in protocol.widths.items()
        },
        np.zeros(len(example_ids), bool),
    )
    arrays = {**features.of, "replaced": features.replaced}
    saved, missing = None, np.ones(part_of[-1] + 1, bool)
    if processes.is_first():
        identity = {
            **protocol.identity(),
            "recordings": source.fingerprint,
            "example_ids": hashlib.sha256(np.asarray(example_ids, np.int64).tobytes()).hexdigest(),
        }
        saved = FeatureCache(cache, identity, len(example_ids), part_size)
        missing = np.array([not saved.read(part, arrays) for part in range(saved.parts)])
    if jax.process_count() > 1:
        missing = multihost_utils.broadcast_one_to_all(missing)
    wanted = example_ids[missing[part_of]]
    if saved:
        console.say(
            f"{title}: {count} from each of {counted(len(example_ids), 'recording')}, "
            f"{len(example_ids) - len(wanted)} of them already in {saved.folder}"
        )
    if not len(wanted):
        return features

    place_of = {int(example_id): place for place, example_id in enumerate(example_ids)}
    remaining = np.bincount(part_of) * count
    with (
        contextlib.closing(_encoded(protocol, source, wanted, mesh, threads, prefetch)) as batches,
        progress.bar(
            title,
            len(example_ids) * count,
            "clip",
            done=(len(example_ids) - len(wanted)) * count,
            shown=processes.is_first(),
        ) as bar,
    ):
        for batch in batches:
            rows = np.flatnonzero(batch["valid"])
            places = np.array([place_of[number] for number in batch["example_id"][rows].tolist()])
            for m, array in features.of.items():
                array[places, batch["clip"][rows]] = batch[m][rows]
            np.logical_or.at(features.replaced, places, batch["replaced"][rows])
            np.subtract.at(remaining, part_of[places], 1)
            for part in np.unique(part_of[places]):
                if saved and not remaining[part]:
                    saved.write(part, arrays)
            bar.update(len(rows))
    return features


def _encoded(
    protocol: Protocol,
    source: "ClipSource",
    example_ids: np.ndarray,
    mesh: Mesh,
    threads: int,
    prefetch: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Encodes clips of recordings batch by batch.

    Yields:
        (B, D) float32 by modality, and (B,) `example_id`, `clip`, `valid` and `replaced`. Each
        process gets whole batches.
    """
    from input_pipeline import evaluation  # imports TensorFlow

    clips = protocol.clips
    evaluation_clips = evaluation.EvaluationClips(
        source,
        protocol.views,
        protocol.batch_size,
        evaluation.Recipe(
            clips=clips.count,
            placement=clips.placement,
            crop_share=clips.crop,
            augment=clips.augment,
            seed=protocol.seed,
        ),
        modalities=protocol.modalities,
        example_ids=example_ids,
        **processes.place(),
        threads=threads,
        prefetch=prefetch,
    )
    params, step = protocol.program(mesh)
    seed = np.uint32(protocol.seed)
    with (
        contextlib.closing(evaluation_clips.batches()) as batches,
        sharding.Prefetch(mark_replaced(batches, source), mesh) as on_devices,
    ):
        previous = None
        for batch in on_devices:
            # The devices compute one batch while the host fetches the previous one.
            with jax.default_matmul_precision("highest" if protocol.exact else "default"):
                encoded = step(params, seed, batch)
            if previous is not None:
                yield jax.tree.map(np.asarray, previous)
            previous = encoded
        yield jax.tree.map(np.asarray, previous)


# Encoders of the same form share a compiled program.
@functools.cache
def _program(
    forms: tuple[tuple[str, Form], ...],
    augmentation: ml_collections.FrozenConfigDict | None,
    mesh: Mesh,
) -> Step:
    """Compiles the function `(params, seed, batch) -> features` with the ids of the rows.

    Args:
        forms: Pairs of a modality and the form of its encoder.
        augmentation: Section like `config.views.video`. None to augment nothing.
        mesh: Device mesh over all devices. The outputs are replicated.
    """

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def step(params: Any, seed: jax.Array, batch: Batch) -> Batch:
        out = {name: batch[name] for name in KEYS}
        for m, form in forms:
            views = batch[m]
            if m == "video" and augmentation is not None:
                keys = example_keys(
                    seed, batch["clip"], batch["example_id"], Purpose.VIDEO_FEATURES
                )
                views = augment.augment_local(keys, views, augmentation)
            if m == "video":
                views = views[:, 0]  # the only crop
            out[m] = form.apply(params[m], views)
        return out

    return step


def mark_replaced(
    batches: Iterator[dict[str, np.ndarray]], source: "ClipSource"
) -> Iterator[dict[str, np.ndarray]]:
    """Adds `replaced` (B,) bool to batches: whether the source substituted another recording."""
    for batch in batches:
        failed = source.failed
        replaced = [
            bool(failed) and number >= 0 and source.name(number) in failed
            for number in batch["example_id"].tolist()
        ]
        yield {**batch, "replaced": np.array(replaced)}
