"""Features of labeled recordings, divided into training, held-out and test sets."""

import copy
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import ml_collections
import numpy as np

from input_pipeline.programs.wording import counted
from xkd_jax import sharding
from xkd_jax.downstream import backbones, extraction
from xkd_jax.downstream.labeled_data import LabeledData, Recordings, held_out
from xkd_jax.downstream.selection import LabeledFeatures, fused


class Fold(NamedTuple):
    """A partition's recordings, divided by their use.

    Attributes:
        name: Name of the partition.
        train: Recordings to train on.
        test: Recordings to test on. They influence nothing else.
        kept: Recordings to train candidates on: all of `train` if there is a validation split. None
            if this partition takes its choice from the first one.
        held: Recordings to choose a candidate on, seen in test clips. None if `kept` is None.
    """

    name: str
    train: Recordings
    test: Recordings
    kept: Recordings | None
    held: Recordings | None

    def uses(self) -> Iterator[tuple[str, str, Recordings]]:
        """Yields each kind of clips, "train" or "test", their purpose, and whose they are."""
        yield "train", "train", self.train
        yield "test", "test", self.test
        if self.held is not None:
            yield "test", "validation", self.held


def folds(config: ml_collections.ConfigDict, data: LabeledData) -> list[Fold]:
    """Divides the recordings of each partition by their use.

    Args:
        config: Config of the probe (xkd_jax/config/probing.py).
        data: Labeled recordings.

    Returns:
        One fold per partition, in order.
    """
    divided: list[Fold] = []
    for partition in data.partitions:
        kept, held = None, None
        if not divided or config.selection.tune_on == "each":
            kept, held = partition.train, partition.validation
            if held is None:
                kept, held = held_out(kept, config.data.held_out, config.data.seed)
        divided.append(Fold(partition.name, partition.train, partition.test, kept, held))
    return divided


class _Pool(NamedTuple):
    """Features of recordings of one source, with their ids in ascending order."""

    example_ids: np.ndarray
    features: extraction.Features


class FeatureSource:
    """Features of all recordings of some folds, in training clips and in test clips.

    A recording is encoded once for each kind of clip that it is used with, however many partitions
    it is in. If training and test clips are configured alike, it is encoded once.

    Attributes:
        unreadable: Names of the recordings that could not be read. They are left out.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        encoders: backbones.Backbones,
        folds: Sequence[Fold],
        cache: pathlib.Path,
    ) -> None:
        """Extracts the features, or reads them from the cache.

        Args:
            config: Config of the probe (xkd_jax/config/probing.py).
            encoders: Encoders by modality.
            folds: Folds from the function `folds`.
            cache: Folder of all cached features.
        """
        # Training clips have their own crop only if they are augmented.
        crop = 1.0 if config.clips.train.augment else config.clips.test.crop
        self._clips = {
            "train": ml_collections.ConfigDict({**config.clips.train, "crop": crop}),
            "test": ml_collections.ConfigDict({**config.clips.test, "augment": False}),
        }
        self._has_unit_features = config.get("fusion", "unit") == "unit"
        wanted: dict[tuple[int, str], list[tuple[str, str, Recordings]]] = {}
        for fold in folds:
            for use, purpose, part in fold.uses():
                if len(part):
                    wanted.setdefault(self._key(part, use), []).append((use, purpose, part))
        mesh = sharding.make_mesh()
        self._pools: dict[tuple[int, str], _Pool] = {}
        unreadable = set()
        for key, parts in wanted.items():
            use, _, first = parts[0]
            source = first.source
            example_ids = np.unique(np.concatenate([part.example_ids for *_, part in parts]))
            clips = self._clips[use]
            views = backbones.make_views(encoders, config.augmentation if clips.augment else None)
            features = extraction.extract(
                extraction.Protocol(encoders, views, clips, config.seed, config.batch_size),
                source,
                example_ids,
                cache,
                mesh,
                threads=config.data.threads,
                prefetch=config.data.prefetch,
                title=f"{', '.join(dict.fromkeys(purpose for _, purpose, _ in parts))} clips",
            )
            self._pools[key] = _Pool(example_ids, features)
            unreadable.update(source.name(number) for number in example_ids[features.replaced])
        self.unreadable = sorted(unreadable)

    def load(self, recordings: Recordings, use: str) -> LabeledFeatures:
        """Returns the features of all readable recordings, with modalities concatenated.

        Args:
            recordings: Recordings of one of the folds.
            use: Kind of clips: "train" or "test".

        Raises:
            ValueError: None of the recordings could be read.
        """
        pool = self._pools[self._key(recordings, use)]
        places = np.searchsorted(pool.example_ids, recordings.example_ids)
        readable = ~pool.features.replaced[places]
        if not readable.any():
            raise ValueError(f"none of {counted(len(places), f'{use} recording')} could be read")
        rows = {m: features[places[readable]] for m, features in pool.features.of.items()}
        return LabeledFeatures(fused(rows, self._has_unit_features), recordings.targets[readable])

    def seen_by(self, modality: str) -> "FeatureSource":
        """Returns a copy that has the features of one modality only."""
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
