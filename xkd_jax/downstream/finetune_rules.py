"""Rules for the fields of a finetuning's config, alone and in combination."""

from collections.abc import Mapping

import ml_collections

from xkd_jax import config_check
from xkd_jax.config import finetuning, schema
from xkd_jax.config.rules import Rule
from xkd_jax.downstream import labelled
from xkd_jax.models.xkd import MODALITIES

_RULES = {m: schema.rules(finetuning.fields(m)) for m in MODALITIES}


def rules(config: ml_collections.ConfigDict) -> Mapping[str, Rule]:
    """Returns the rules by field for the modality that the config's `augmentation` is for."""
    return _RULES["audio" if "gain" in config.get("augmentation", {}) else "video"]


def check(config: ml_collections.ConfigDict) -> None:
    """Checks each field of a finetuning's config, alone and in combination with others.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    config_check.check_fields(config, rules(config))
    if not config.checkpoint:
        config_check.refuse(
            config, "checkpoint", "the folder of a run, an export or converted weights"
        )
    config_check.check_data(config)
    if not config.steps and not config.epochs:
        config_check.refuse(config, "steps", "at least 1, or config.epochs above 0")
    if config.modality == "audio":
        for field in ("frame_size", "short_side"):
            if config[field]:
                config_check.refuse(config, field, "0 for audio")
        if config.evaluation.crops != 1:
            config_check.refuse(config, "evaluation.crops", "1 for audio")
    elif not config.short_side:
        config_check.refuse(config, "short_side", "at least 1 for video")
    final, peak = config.optimizer.final_learning_rate, config.optimizer.learning_rate
    if final > peak:
        config_check.refuse(
            config, "optimizer.final_learning_rate", f"at most optimizer.learning_rate={peak}"
        )


def check_data(config: ml_collections.ConfigDict, data: labelled.LabelledData) -> None:
    """Checks the fields whose allowed values depend on the data.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    if data.multi_label and config.label_smoothing:
        config_check.refuse(config, "label_smoothing", "0 for multi-label data")
    has_validation = config.data.held_out or all(p.validation is not None for p in data.partitions)
    if config.selection.epoch == "best" and not has_validation:
        config_check.refuse(
            config,
            "selection.epoch",
            "'last' without a validation split and with config.data.held_out=0",
        )
