"""Rules for the single fields of a pretraining config, in one table: `RULES`."""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xkd_jax.models.xkd import MODALITIES, VARIANTS


class Rule(NamedTuple):
    """A condition on the value of a field.

    Attributes:
        allowed: The condition in words, for the error message.
        holds: Returns whether a value, of any type, meets the condition.
    """

    allowed: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    """Allows integers from `low` to `high`."""
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda x: isinstance(x, numbers.Integral) and not isinstance(x, bool) and low <= x <= high,
    )


def number(low: float, high: float) -> Rule:
    """Allows numbers from `low` to `high`, but neither infinity nor NaN."""
    return Rule(f"a number from {low:,} to {high:,}", lambda x: _is_number(x) and low <= x <= high)


def above(low: float, high: float) -> Rule:
    """Allows numbers above `low`, also when rounded to float32, and at most `high`."""
    return Rule(
        f"a number above {low:,}, at most {high:,}",
        lambda x: _is_number(x) and x <= high and low < np.float32(x),
    )


def below(high: float) -> Rule:
    """Allows numbers from 0 to less than `high`, also when rounded to float32."""
    return Rule(
        f"a number from 0 to less than {high:,}",
        lambda x: _is_number(x) and 0 <= x < high and np.float32(x) < high,
    )


def each(*rules: Rule) -> Rule:
    """Allows tuples with one value for each of the rules."""
    words = [rule.allowed for rule in rules]
    allowed = f"each {words[0]}" if len(set(words)) == 1 else "; ".join(words)
    return Rule(
        f"{len(rules)} values, {allowed}",
        lambda x: (
            isinstance(x, tuple)
            and len(x) == len(rules)
            and all(rule.holds(value) for rule, value in zip(rules, x, strict=True))
        ),
    )


def some(rule: Rule) -> Rule:
    """Allows tuples of one value or more, each by the rule."""
    return Rule(
        f"one value or more, each {rule.allowed}",
        lambda x: isinstance(x, tuple) and len(x) > 0 and all(map(rule.holds, x)),
    )


def interval(rule: Rule) -> Rule:
    """Allows tuples (low, high) with low <= high, each by the rule."""
    pair = each(rule, rule)
    return Rule(
        f"a pair, low <= high, each {rule.allowed}", lambda x: pair.holds(x) and x[0] <= x[1]
    )


def one_of(*names: str) -> Rule:
    """Allows one of some words."""
    return Rule(", ".join(map(repr, names)), lambda x: isinstance(x, str) and x in names)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


TEXT = Rule("text", lambda x: isinstance(x, str))
SWITCH = Rule("True or False", lambda x: isinstance(x, bool))
SHARE = number(0, 1)

# Upper limits for fields that have no natural one. They refuse values that can only be typing
# errors, and that would exhaust memory or threads.
STEPS = 2**31 - 1  # the state counts steps in an int32
SEED = 2**32 - 1  # the state holds the seed as a uint32
EPOCHS = 1_000_000
PIXELS = 8192
FRAMES = 65_536
WEIGHT = 1_000_000

RULES = {
    "task": one_of("pretrain"),
    "seed": whole(0, SEED),
    "batch_size": whole(1, 2**20),
    "epochs": number(0, EPOCHS),
    "steps": whole(0, STEPS),
    "compute_dtype": one_of("auto", "bfloat16", "float32"),
    "parallel.fsdp": whole(1, 2**20),
    "parallel.remat": one_of("none", "dots", "full"),
    "parallel.accumulate": whole(1, 2**20),
    "init_from": TEXT,
    "data.dataset": one_of("folder", "generated", "prepared"),
    "data.path": TEXT,
    "data.split": TEXT,
    "data.threads": whole(0, 1024),
    "data.prefetch": whole(1, 1024),
    "data.max_bad_fraction": SHARE,
    "data.generated.train": whole(0, 10**6),
    "data.generated.test": whole(0, 10**6),
    "data.generated.val": whole(0, 10**6),
    "data.generated.seed": whole(0, SEED),
    "views.video.frame_rate": above(0, 1000),
    "views.video.short_side": whole(1, PIXELS),
    "views.video.global_frames": whole(1, FRAMES),
    "views.video.global_size": whole(1, PIXELS),
    "views.video.global_scale": interval(above(0, 1)),
    "views.video.local_count": whole(0, 64),
    "views.video.local_frames": whole(1, FRAMES),
    "views.video.local_size": whole(1, PIXELS),
    "views.video.local_scale": interval(above(0, 1)),
    "views.video.aspect_ratio": interval(above(0, 100)),
    "views.video.flip_probability": SHARE,
    "views.video.color_jitter": each(SHARE, SHARE, SHARE, number(0, 0.5)),
    "views.video.local_gray_probability": SHARE,
    "views.video.local_blur_probability": SHARE,
    "views.video.local_blur_kernel": whole(1, PIXELS),
    "views.video.local_blur_sigma": interval(above(0, PIXELS)),
    "views.audio.sample_rate": whole(1, 1_000_000),
    "views.audio.mel_bands": whole(1, 1024),
    "views.audio.window": whole(2, 2**20),
    "views.audio.hop": whole(1, 2**20),
    "views.audio.max_frequency": above(0, 500_000),
    "views.audio.log_offset": above(0, 1),
    "views.audio.mean": number(-1000, 1000),
    "views.audio.std": above(0, 1000),
    "views.audio.global_frames": whole(1, FRAMES),
    "views.audio.global_gain": SHARE,
    "views.audio.local_count": whole(0, 64),
    "views.audio.local_seconds": above(0, 3600),
    "views.audio.local_start_step": whole(1, 10**6),
    "views.audio.local_frames": whole(1, FRAMES),
    "views.audio.local_gain": SHARE,
    "views.audio.local_crop_extent": interval(above(0, 100)),
    "views.audio.local_crop_canvas": each(number(1, 100), number(1, 100)),
    "model.variant": one_of(*VARIANTS),
    "model.video.patch": each(*3 * [whole(1, PIXELS)]),
    "model.audio.patch": each(*2 * [whole(1, FRAMES)]),
    **{f"model.{m}.mask_ratio": SHARE for m in MODALITIES},
    **{
        f"model.{m}.{network}.{field}": whole(1, limit)
        for m in MODALITIES
        for network in ("encoder", "decoder")
        for field, limit in (("width", 65_536), ("depth", 1024), ("heads", 65_536))
    },
    "model.projector.layers": whole(1, 64),
    "model.projector.hidden": whole(1, 2**20),
    "model.projector.bottleneck": whole(1, 2**20),
    "model.projector.out": whole(2, 2**24),
    "model.projector.norm": one_of("every", "last", "none"),
    "xkd.lambda_ae": number(0, WEIGHT),
    "xkd.lambda_da": number(0, WEIGHT),
    "xkd.lambda_kd": number(0, WEIGHT),
    "xkd.total": one_of("release", "sum"),
    "xkd.reconstruct": Rule(
        f"one or more, none twice, of {', '.join(map(repr, MODALITIES))}",
        lambda x: isinstance(x, tuple) and 0 < len(x) == len(set(x)) and set(x) <= {*MODALITIES},
    ),
    "xkd.refine": SWITCH,
    "xkd.cross_attention": one_of("mean", "softmax"),
    "xkd.query": one_of("cls", "mean"),
    "xkd.refine_weight": one_of("root", "ratio"),
    "xkd.alignment": one_of("da", "da1", "da2"),
    "xkd.mmd_gammas": some(above(0, WEIGHT)),
    "xkd.mmd_root": SWITCH,
    "xkd.student_temperature": above(0, 1000),
    **{
        f"xkd.teacher_temperature.{m}_{end}": above(0, 1000)
        for m in MODALITIES
        for end in ("start", "end")
    },
    "xkd.teacher_temperature.warmup_epochs": number(0, EPOCHS),
    "xkd.centering": SWITCH,
    "xkd.center_momentum": SHARE,
    "xkd.ema_video": SHARE,
    "xkd.ema_audio": SHARE,
    "xkd.ema_end": SHARE,
    "optimizer.learning_rate": above(0, 1000),
    "optimizer.warmup_epochs": number(0, EPOCHS),
    "optimizer.warmup_steps": whole(0, STEPS),
    "optimizer.b1": below(1),
    "optimizer.b2": below(1),
    "optimizer.eps": above(0, 1),
    "optimizer.weight_decay": number(0, 1000),
    "optimizer.clip_norm": number(0, WEIGHT),
    "probe.every_steps": whole(0, STEPS),
    "probe.dataset": one_of("folder", "generated", "prepared"),
    "probe.path": TEXT,
    "probe.train_split": TEXT,
    "probe.test_split": TEXT,
    "probe.train": whole(2, 10**6),
    "probe.test": whole(1, 10**6),
    "probe.k": whole(1, 10**6),
    "probe.temperature": above(0, 1000),
    "probe.seed": whole(0, SEED),
    "log.every_steps": whole(1, STEPS),
    "log.images_every_steps": whole(0, STEPS),
    "log.stall_minutes": number(0, 100_000),
    "checkpoint.every_steps": whole(1, STEPS),
    "checkpoint.keep": whole(1, STEPS),
    "checkpoint.keep_every_steps": whole(0, STEPS),
}
