"""Refuses impossible configs before anything is compiled, in one line that says what is allowed."""

import math
import pathlib
from collections.abc import Iterable
from typing import Any

import ml_collections

from xkd_jax.models.masked_autoencoder import kept_count
from xkd_jax.models.xkd import MODALITIES, VARIANTS

DTYPES = ("auto", "bfloat16", "float32")


class ConfigError(ValueError):
    """A field of the config has a value that cannot work; the message is one line."""


def check(config: ml_collections.ConfigDict) -> None:
    """Checks a pretraining config, every field that can be wrong by itself or beside others.

    Raises:
      ConfigError: naming the first bad field, its value and what is allowed.
    """
    _one_of(config, "compute_dtype", DTYPES)
    _positive(config, "batch_size", "log.every_steps", "checkpoint.every_steps", "checkpoint.keep")
    _at_least_zero(
        config, "seed", "epochs", "steps", "log.images_every_steps", "checkpoint.keep_every_steps"
    )
    if not config.steps and not config.epochs:
        _refuse(config, "steps", "at least 1, or config.epochs above 0")
    _check_data(config)
    _check_views(config)
    _check_model(config)
    _check_objective(config)
    _positive(config, "optimizer.learning_rate", "optimizer.eps")
    _at_least_zero(
        config,
        "optimizer.warmup_epochs",
        "optimizer.warmup_steps",
        "optimizer.weight_decay",
        "optimizer.clip_norm",
    )
    _share(config, "optimizer.b1", "optimizer.b2")


def _check_data(config: ml_collections.ConfigDict) -> None:
    if not config.data.path:
        _refuse(config, "data.path", "the folder of the media files")
    # A generated data set is made where it does not exist.
    if config.data.dataset != "generated" and not pathlib.Path(config.data.path).is_dir():
        _refuse(config, "data.path", "an existing folder")
    _at_least_zero(config, "data.threads")
    _positive(config, "data.prefetch")
    _share(config, "data.max_bad_fraction")


def _check_views(config: ml_collections.ConfigDict) -> None:
    video, audio = config.views.video, config.views.audio
    _positive(config, "views.video.frame_rate", "views.video.short_side")
    _at_least_zero(config, "views.video.local_count", "views.audio.local_count")
    if video.local_frames > video.global_frames:
        _refuse(config, "views.video.local_frames", f"at most the clip's {video.global_frames}")
    seconds = video.global_frames / video.frame_rate
    if audio.local_seconds > seconds:
        _refuse(config, "views.audio.local_seconds", f"at most the clip's {seconds:g}")
    for view, length in (("global", seconds), ("local", audio.local_seconds)):
        frames = 1 + int(length * audio.sample_rate) // audio.hop
        if audio[f"{view}_frames"] > frames:
            _refuse(
                config,
                f"views.audio.{view}_frames",
                f"at most {frames}, the hops of {length:g} s",
            )
    if 2 * audio.max_frequency > audio.sample_rate:
        _refuse(config, "views.audio.max_frequency", f"at most {audio.sample_rate / 2:g}")
    _share(
        config,
        "views.video.flip_probability",
        "views.video.local_gray_probability",
        "views.video.local_blur_probability",
    )
    if video.local_blur_kernel % 2 == 0 or video.local_blur_kernel // 2 >= video.local_size:
        _refuse(
            config, "views.video.local_blur_kernel", "an odd number that half fits into the view"
        )
    for name in ("global_scale", "local_scale"):
        low, high = video[name]
        if not 0 < low <= high <= 1:
            _refuse(config, f"views.video.{name}", "two shares, 0 < low <= high <= 1")


def _check_model(config: ml_collections.ConfigDict) -> None:
    _one_of(config, "model.variant", VARIANTS)
    views = {
        "video": {
            view: tuple(config.views.video[f"{view}_{n}"] for n in ("frames", "size", "size"))
            for view in ("global", "local")
        },
        "audio": {
            view: (config.views.audio.mel_bands, config.views.audio[f"{view}_frames"])
            for view in ("global", "local")
        },
    }
    for m in MODALITIES:
        patch = tuple(config.model[m].patch)
        for view, extents in views[m].items():
            if len(patch) != len(extents) or any(
                p < 1 or n % p for n, p in zip(extents, patch, strict=True)
            ):
                _refuse(
                    config,
                    f"model.{m}.patch",
                    f"divisors of the {view} view's {_times(extents)} (config.views.{m})",
                )
        ratio = config.model[m].mask_ratio
        patches = math.prod(
            n // p for n, p in zip(views[m]["global"], config.model[m].patch, strict=True)
        )
        if not (0 < ratio < 1 and 0 < kept_count(patches, ratio) < patches):
            _refuse(
                config,
                f"model.{m}.mask_ratio",
                f"between 0 and 1, so that some of the {patches} patches are kept and some dropped",
            )
        for network in ("encoder", "decoder"):
            prefix = f"model.{m}.{network}"
            _positive(config, f"{prefix}.width", f"{prefix}.depth", f"{prefix}.heads")
            size = config.model[m][network]
            if size.width % size.heads:
                _refuse(config, f"{prefix}.heads", f"a divisor of {prefix}.width={size.width}")
    if config.model.variant != "xkd" and config.model.video.encoder != config.model.audio.encoder:
        _refuse(
            config,
            "model.variant",
            "'xkd' unless both encoders are of one size: the other variants share their blocks",
        )
    _one_of(config, "model.projector.norm", ("every", "last", "none"))
    _positive(config, *(f"model.projector.{n}" for n in ("layers", "hidden", "bottleneck", "out")))


def _check_objective(config: ml_collections.ConfigDict) -> None:
    _at_least_zero(config, "xkd.lambda_ae", "xkd.lambda_da", "xkd.lambda_kd")
    _one_of(config, "xkd.total", ("release", "sum"))
    _one_of(config, "xkd.cross_attention", ("mean", "softmax"))
    _one_of(config, "xkd.query", ("cls", "mean"))
    _one_of(config, "xkd.refine_weight", ("root", "ratio"))
    _one_of(config, "xkd.alignment", ("da", "da1", "da2"))
    _positive(config, "xkd.student_temperature")
    _positive(
        config,
        *(f"xkd.teacher_temperature.{m}_{end}" for m in MODALITIES for end in ("start", "end")),
    )
    _at_least_zero(config, "xkd.teacher_temperature.warmup_epochs")
    _share(config, "xkd.center_momentum", "xkd.ema_video", "xkd.ema_audio")
    if config.model.variant == "xkd_mats" and config.xkd.ema_video != config.xkd.ema_audio:
        _refuse(
            config,
            "xkd.ema_audio",
            f"config.xkd.ema_video={config.xkd.ema_video}: both teachers are one in xkd_mats",
        )


def _value(config: ml_collections.ConfigDict, field: str) -> Any:
    for name in field.split("."):
        config = config[name]
    return config


def _refuse(config: ml_collections.ConfigDict, field: str, allowed: str) -> None:
    raise ConfigError(f"config.{field} is {_value(config, field)!r}; allowed: {allowed}")


def _one_of(config: ml_collections.ConfigDict, field: str, allowed: Iterable[str]) -> None:
    if _value(config, field) not in allowed:
        _refuse(config, field, ", ".join(map(repr, allowed)))


def _positive(config: ml_collections.ConfigDict, *fields: str) -> None:
    for field in fields:
        if not _value(config, field) > 0:
            _refuse(config, field, "above 0")


def _at_least_zero(config: ml_collections.ConfigDict, *fields: str) -> None:
    for field in fields:
        if not _value(config, field) >= 0:
            _refuse(config, field, "0 or above")


def _share(config: ml_collections.ConfigDict, *fields: str) -> None:
    for field in fields:
        if not 0 <= _value(config, field) <= 1:
            _refuse(config, field, "from 0 to 1")


def _times(extents: tuple[int, ...]) -> str:
    return "x".join(map(str, extents))
