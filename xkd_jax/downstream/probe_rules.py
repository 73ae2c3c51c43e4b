"""Rules for the fields of a probe's config, alone and in combination."""

from collections.abc import Mapping

import ml_collections

from xkd_jax import config_check
from xkd_jax.config_rules import (
    SHARE,
    SWITCH,
    TEXT,
    Rule,
    above,
    each,
    interval,
    number,
    one_of,
    whole,
)
from xkd_jax.downstream import classifiers, evaluation_rules
from xkd_jax.models.xkd import MODALITIES

_PLACEMENT = one_of("uniform", "random")

RULES = {
    "task": one_of("probe"),
    **evaluation_rules.RULES,
    "modalities": Rule(
        "('video',), ('audio',) or ('video', 'audio')",
        lambda x: isinstance(x, tuple) and x in (("video",), ("audio",), MODALITIES),
    ),
    "clips.train.count": whole(1, 10_000),
    "clips.train.placement": _PLACEMENT,
    "clips.train.augment": SWITCH,
    "clips.test.count": whole(1, 10_000),
    "clips.test.placement": _PLACEMENT,
    "augment.crop_scale": interval(above(0, 1)),
    "augment.aspect_ratio": interval(above(0, 100)),
    "augment.flip_probability": SHARE,
    "augment.color_jitter": each(SHARE, SHARE, SHARE, number(0, 0.5)),
    "augment.gray_probability": SHARE,
    "augment.gain": SHARE,
    **classifiers.RULES,
    "selection.tune_on": one_of("first", "each"),
    "features.cache": TEXT,
}


def check(config: ml_collections.ConfigDict, rules: Mapping[str, Rule] = RULES) -> None:
    """Checks each field of a probe's config, alone and in combination with others.

    Args:
        config: Config as in configs/eval/probe.py.
        rules: Rules for the fields. `compare` passes its own.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    config_check.check_fields(config, rules)
    if not config.checkpoint:
        config_check.refuse(
            config, "checkpoint", "the folder of a run, an export or converted weights"
        )
    config_check.check_data(config)
    if config.frame_size and "video" not in config.modalities:
        config_check.refuse(config, "frame_size", "0 without video in config.modalities")
