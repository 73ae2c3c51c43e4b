"""Features of labelled data as classifiers take them: which clips of which recordings, and when."""

import copy
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import ml_collections
import numpy as np

from xkd_jax import sharding
from xkd_jax.downstream import backbones, extraction
from xkd_jax.downstream.labelled import LabelledData, Recordings, held_out
from xkd_jax.downstream.selection import Samples


class Fold(NamedTuple):
    """What is done with a partition's recordings.

    Attributes:
        name: Of the partition.
        train: To train on.
        test: To test on, and never of any influence.
        kept: To train on while choosing; all of `train` where there is a split to choose on. None
            where nothing is chosen on this partition.
        held: To choose on, in clips like those to test on; likewise.
    """

    name: str
    train: Recordings
    test: Recordings
    kept: Recordings | None
    held: Recordings | None

    def uses(self) -> Iterator[tuple[str, Recordings]]:
        """Which recordings are wanted in clips to train on, and which in clips to test on."""
        yield "train", self.train
        yield "test", self.test
        if self.held is not None:
            yield "test", self.held


def folds(config: ml_collections.ConfigDict, data: LabelledData) -> list[Fold]:
    """Says of each partition what its recordings are for.

    Args:
        config: Of the probe (configs/eval/probe.py).
        data: The recordings.
    """
    made: list[Fold] = []
    for partition in data.partitions:
        kept, held = None, None
        if not made or config.selection.tune_on == "each":
            kept, held = partition.train, partition.validation
            if held is None:
                kept, held = held_out(kept, config.data.held_out, config.data.seed)
        made.append(Fold(partition.name, partition.train, partition.test, kept, held))
    return made


class _Pool(NamedTuple):
    """Features of some recordings of one source; `example_ids` are in order."""

    example_ids: np.ndarray
    features: extraction.Features


class Sampled:
    """Features of the recordings of some folds, in clips to train on and to test on.

    Recordings that are in several partitions are encoded once, or twice where the clips to train on
    are others than those to test on.

    Attributes:
        unreadable: Names of the recordings that could not be read, and are left out.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        encoders: backbones.Backbones,
        folds: Sequence[Fold],
        cache: pathlib.Path,
    ) -> None:
        """Extracts them, or reads what has been extracted before.

        Args:
            config: Of the probe (configs/eval/probe.py).
            encoders: The encoders.
            folds: Of `folds`.
            cache: Folder of all features on disk.
        """
        self._clips = {
            "train": ml_collections.ConfigDict({**config.clips.train}),
            "test": ml_collections.ConfigDict({**config.clips.test, "augment": False}),
        }
        wanted: dict[tuple[int, str], list[tuple[str, Recordings]]] = {}
        for fold in folds:
            for use, part in fold.uses():
                if not len(part):
                    continue
                wanted.setdefault(self._key(part, use), []).append((use, part))
        mesh = sharding.make_mesh()
        self._pools: dict[tuple[int, str], _Pool] = {}
        unreadable = set()
        for key, parts in wanted.items():
            use, source = parts[0][0], parts[0][1].source
            example_ids = np.unique(np.concatenate([part.example_ids for _, part in parts]))
            clips = self._clips[use]
            views = backbones.make_views(encoders, config.augment if clips.augment else None)
            features = extraction.extract(
                extraction.Protocol(encoders, views, clips, config.seed, config.batch_size),
                source,
                example_ids,
                cache,
                mesh,
                threads=config.data.threads,
                prefetch=config.data.prefetch,
                title=f"clips to {' and '.join(sorted({use for use, _ in parts}))} on",
            )
            self._pools[key] = _Pool(example_ids, features)
            unreadable.update(source.name(number) for number in example_ids[features.replaced])
        self.unreadable = sorted(unreadable)

    def of(self, recordings: Recordings, use: str) -> Samples:
        """Features of those recordings that could be read, modalities side by side.

        Args:
            recordings: Of the folds.
            use: In which clips: train or test.

        Raises:
            ValueError: None of them could be read.
        """
        pool = self._pools[self._key(recordings, use)]
        places = np.searchsorted(pool.example_ids, recordings.example_ids)
        readable = ~pool.features.replaced[places]
        if not readable.any():
            raise ValueError(f"none of the {len(places)} recordings to {use} on could be read")
        rows = [features[places[readable]] for features in pool.features.of.values()]
        return Samples(fused(rows), recordings.targets[readable])

    def seen_by(self, modality: str) -> "Sampled":
        """The same, of one modality alone."""
        alone = copy.copy(self)
        alone._pools = {
            key: pool._replace(
                features=pool.features._replace(of={modality: pool.features.of[modality]})
            )
            for key, pool in self._pools.items()
        }
        return alone

    def _key(self, recordings: Recordings, use: str) -> tuple[int, str]:
        return id(recordings.source), self._clips[use].to_json(sort_keys=True)


def fused(features: Sequence[np.ndarray]) -> np.ndarray:
    """Features of modalities side by side, each clip's of unit length in each; one's as they are.

    Args:
        features: Of each modality, (n, k, D) float32.

    Returns:
        (n, k, sum of D) float32.
    """
    if len(features) == 1:
        return features[0]
    lengths = [np.linalg.norm(rows, axis=-1, keepdims=True) for rows in features]
    return np.concatenate(
        [rows / np.maximum(size, 1e-12) for rows, size in zip(features, lengths, strict=True)],
        axis=-1,
    )
