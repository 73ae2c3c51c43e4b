"""Rules for the fields of a finetuning's config, alone and in combination."""

from collections.abc import Mapping

import ml_collections

from xkd_jax import config_check
from xkd_jax.config_rules import (
    EPOCHS,
    FRAMES,
    PIXELS,
    RULES,
    SHARE,
    STEPS,
    SWITCH,
    Rule,
    above,
    below,
    interval,
    number,
    one_of,
    whole,
)
from xkd_jax.downstream import evaluation_rules, labelled, rand_augment

_COMMON = {
    "task": one_of("finetune"),
    **evaluation_rules.RULES,
    "short_side": whole(0, PIXELS),
    "epochs": number(0, EPOCHS),
    "steps": whole(0, STEPS),
    "dropout": below(1),
    "drop_path": below(1),
    "label_smoothing": below(1),
    "mixing.mixup": number(0, 1000),
    "mixing.cutmix": number(0, 1000),
    "mixing.probability": SHARE,
    "mixing.switch_probability": SHARE,
    "optimizer.learning_rate": above(0, 1000),
    "optimizer.final_learning_rate": number(0, 1000),
    "optimizer.warmup_epochs": number(0, EPOCHS),
    "optimizer.layer_decay": above(0, 1),
    "optimizer.b1": below(1),
    "optimizer.b2": below(1),
    "optimizer.eps": above(0, 1),
    "optimizer.weight_decay": number(0, 1000),
    "selection": one_of("last", "best"),
    "evaluation.every_epochs": number(0, EPOCHS),
    "evaluation.clips": whole(1, 10_000),
    "evaluation.crops": Rule("1 or 3", lambda x: type(x) is int and x in (1, 3)),
    "evaluation.batch_size": whole(1, 2**20),
    "evaluation.watch_test": SWITCH,
    "log.every_steps": whole(1, STEPS),
    "log.stall_minutes": number(0, 100_000),
    "saving.every_steps": whole(1, STEPS),
    "saving.keep": whole(1, STEPS),
    "saving.keep_every_steps": whole(0, STEPS),
    **{field: RULES[field] for field in ("parallel.fsdp", "parallel.remat")},
}
_AUGMENTATION = {
    "video": {
        "augmentation.crop_scale": interval(above(0, 1)),
        "augmentation.aspect_ratio": interval(above(0, 100)),
        "augmentation.flip_probability": SHARE,
        "augmentation.rand_augment.operations": whole(0, 64),
        "augmentation.rand_augment.probability": SHARE,
        "augmentation.rand_augment.magnitude": number(0, rand_augment.LARGEST),
        "augmentation.rand_augment.magnitude_std": number(0, 1000),
    },
    "audio": {
        "augmentation.gain": SHARE,
        "augmentation.time_masks": whole(0, 1024),
        "augmentation.time_mask_frames": whole(1, FRAMES),
        "augmentation.frequency_masks": whole(0, 1024),
        "augmentation.frequency_mask_bands": whole(1, 1024),
        "augmentation.time_warp": whole(0, FRAMES),
    },
}


def rules(config: ml_collections.ConfigDict) -> Mapping[str, Rule]:
    """Returns the rules by field for the modality that the config's `augmentation` is for."""
    is_audio = "gain" in config.get("augmentation", {})
    modality = "audio" if is_audio else "video"
    other = "video" if is_audio else "audio"
    allowed = f"{modality!r}, or another config, such as configs/eval/finetune_{other}.py"
    modality_rule = Rule(allowed, lambda x: isinstance(x, str) and x == modality)
    return {**_COMMON, **_AUGMENTATION[modality], "modality": modality_rule}


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
    if config.selection == "best" and not has_validation:
        config_check.refuse(
            config, "selection", "'last' without a validation split and with config.data.held_out=0"
        )
