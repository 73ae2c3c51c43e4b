"""Rules for the fields of a finetuning's config, alone and in combination."""

from collections.abc import Mapping

import ml_collections

from xkd_jax.config import checks, finetuning, schema
from xkd_jax.config.rules import Rule
from xkd_jax.downstream import labeled_data
from xkd_jax.method.models.xkd import MODALITIES

_RULES = {m: schema.rules(finetuning.fields(m)) for m in (*MODALITIES, finetuning.JOINT)}


def rules(config: ml_collections.ConfigDict) -> Mapping[str, Rule]:
    """Returns the rules by field for the modalities that the config's `augmentation` is for."""
    fields = config.get("augmentation", {})
    if "audio" in fields:
        return _RULES[finetuning.JOINT]
    return _RULES["audio" if "gain" in fields else "video"]


def check(config: ml_collections.ConfigDict) -> None:
    """Checks each field of a finetuning's config, alone and in combination with others.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    checks.check_fields(config, rules(config))
    if not config.checkpoint:
        checks.refuse(config, "checkpoint", "the folder of a run, an export or converted weights")
    checks.check_data(config)
    checks.check_writers(config)
    if not config.steps and not config.epochs:
        checks.refuse(config, "steps", "at least 1, or config.epochs above 0")
    if config.modality == "audio":
        for field in ("frame_size", "short_side"):
            if config[field]:
                checks.refuse(config, field, "0 for audio")
    elif not config.short_side:
        checks.refuse(config, "short_side", "at least 1 for video")
    if config.evaluation.crops != 1 and config.modality != "video":
        checks.refuse(config, "evaluation.crops", "1 for audio")
    final, peak = config.optimizer.final_learning_rate, config.optimizer.learning_rate
    if final > peak:
        checks.refuse(
            config, "optimizer.final_learning_rate", f"at most optimizer.learning_rate={peak}"
        )


def check_data(config: ml_collections.ConfigDict, data: labeled_data.LabeledData) -> None:
    """Checks the fields whose allowed values depend on the data.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    if data.multi_label and config.label_smoothing:
        checks.refuse(config, "label_smoothing", "0 for multi-label data")
    has_validation = config.data.held_out or all(p.validation is not None for p in data.partitions)
    if config.selection.epoch == "best" and not has_validation:
        checks.refuse(
            config,
            "selection.epoch",
            "'last' without a validation split and with config.data.held_out=0",
        )
