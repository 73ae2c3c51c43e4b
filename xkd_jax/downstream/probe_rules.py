"""Rules for the fields of a probe's config, alone and in combination."""

from collections.abc import Mapping

import ml_collections

from xkd_jax import config_check
from xkd_jax.config import probing, schema
from xkd_jax.config.rules import Rule

RULES = schema.rules(probing.fields())


def check(config: ml_collections.ConfigDict, rules: Mapping[str, Rule] = RULES) -> None:
    """Checks each field of a probe's config, alone and in combination with others.

    Args:
        config: Config of the task `probe` (`xkd_jax.config.probing`), or of `compare`.
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
