"""Rules for the fields of a probe's config, alone and in combination."""

from collections.abc import Mapping

import ml_collections

from xkd_jax.config import checks, probing, schema
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
    checks.check_fields(config, rules)
    if not config.checkpoint:
        checks.refuse(config, "checkpoint", "the folder of a run, an export or converted weights")
    checks.check_data(config)
    if config.frame_size and "video" not in config.modalities:
        checks.refuse(config, "frame_size", "0 without video in config.modalities")
    linear = config.classifier.linear
    if linear.warmup_epochs >= linear.epochs:
        field = "classifier.linear.warmup_epochs"
        checks.refuse(config, field, f"less than classifier.linear.epochs={linear.epochs}")
