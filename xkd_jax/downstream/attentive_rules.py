"""Rules for the fields of an attentive probe's config, alone and in combination."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import ml_collections

from xkd_jax.config import attentive, checks, schema
from xkd_jax.downstream import labeled_data

RULES = schema.rules(attentive.fields())


class Pair(NamedTuple):
    """The hyperparameters of one head of the grid."""

    learning_rate: float
    weight_decay: float

    def __str__(self) -> str:
        """Returns the pair as results name it."""
        return f"{self.learning_rate:g} and {self.weight_decay:g}"


def pairs(config: ml_collections.ConfigDict) -> Iterator[Pair]:
    """Yields the pairs of the grid, in the order of the heads."""
    for rate in config.grid.learning_rates:
        for decay in config.grid.weight_decays:
            yield Pair(rate, decay)


def check(config: ml_collections.ConfigDict) -> None:
    """Checks each field of an attentive probe's config, alone and in combination with others.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    checks.check_fields(config, RULES)
    if not config.checkpoint:
        checks.refuse(config, "checkpoint", "the folder of a run, an export or converted weights")
    checks.check_data(config)
    checks.check_writers(config)
    if not config.steps and not config.epochs:
        checks.refuse(config, "steps", "at least 1, or config.epochs above 0")
    for field in ("learning_rates", "weight_decays"):
        values = config.grid[field]
        if any(math.isclose(x, y, rel_tol=1e-5) for n, x in enumerate(values) for y in values[:n]):
            checks.refuse(config, f"grid.{field}", "distinct values")
    if config.frame_size and "video" not in config.modalities:
        checks.refuse(config, "frame_size", "0 without video in config.modalities")
    if config.evaluation.crops != 1 and "audio" in config.modalities:
        checks.refuse(config, "evaluation.crops", "1 with audio in config.modalities")


def check_data(config: ml_collections.ConfigDict, data: labeled_data.LabeledData) -> None:
    """Checks that there are recordings to choose a head on.

    Raises:
        ConfigError: There is nothing to choose one of several heads on.
    """
    has_validation = config.data.held_out or all(p.validation is not None for p in data.partitions)
    if len(list(pairs(config))) > 1 and not has_validation:
        checks.refuse(
            config,
            "data.held_out",
            "a share above 0 to choose one of several heads on, without a validation split",
        )
