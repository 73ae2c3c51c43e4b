"""Refuses impossible configs before anything is compiled, in one line that says what is allowed.

`xkd_jax.config` has the rules for single fields. The rules here involve several fields.
"""

import difflib
import importlib.util
import math
import os
from collections.abc import Mapping

import ml_collections

from input_pipeline import data_folders
from input_pipeline.programs import config_fields
from xkd_jax.config import pretraining, schema
from xkd_jax.config.rules import Rule
from xkd_jax.method.models.masked_autoencoder import kept_count
from xkd_jax.method.models.patches import token_grid
from xkd_jax.method.models.xkd import MODALITIES, view_extents

# Rules for the fields of a pretraining's config.
RULES = schema.rules(pretraining.fields())


class ConfigError(ValueError):
    """A field of the config has a value that cannot work; the message is one line."""


def check(config: ml_collections.ConfigDict) -> None:
    """Checks a pretraining config.

    Args:
        config: Config to check, see `xkd_jax.config.pretraining`.

    Raises:
        ConfigError: A field is wrong. The message names it, its value and what is allowed.
    """
    check_step(config)
    check_data(config)
    check_writers(config)
    if config.probe.every_steps:
        check_probe(config)


def check_step(config: ml_collections.ConfigDict) -> None:
    """Checks a pretraining config, but not whether its data exist.

    Args:
        config: Config to check, see `xkd_jax.config.pretraining`.

    Raises:
        ConfigError: A field is wrong. The message names it, its value and what is allowed.
    """
    check_fields(config, RULES)
    if not config.steps and not config.epochs:
        refuse(config, "steps", "at least 1, or config.epochs above 0")
    _check_views(config)
    _check_model(config)
    if config.model.variant == "xkd_mats" and config.xkd.ema_video != config.xkd.ema_audio:
        refuse(
            config,
            "xkd.ema_audio",
            f"config.xkd.ema_video={config.xkd.ema_video}: both teachers are one in xkd_mats",
        )


def check_fields(config: ml_collections.ConfigDict, rules: Mapping[str, Rule]) -> None:
    """Checks that a config has exactly the fields of a table, and that each follows its rule.

    Args:
        config: Config to check.
        rules: Rules by the names of fields, such as `model.video.patch`.

    Raises:
        ConfigError: A field is wrong. The message names it, its value and what is allowed.
    """
    _check_names(config, rules)
    for field, rule in rules.items():
        if not rule.holds(config_fields.value_of(config, field)):
            refuse(config, field, rule.allowed)


def _check_names(config: ml_collections.ConfigDict, rules: Mapping[str, Rule]) -> None:
    """Refuses missing and unknown fields. Flags cannot cause these, but a config file can."""
    fields = config_fields.fields(config)
    for field in rules:
        if field not in fields:
            raise ConfigError(f"config.{field} is missing; start from one of the shipped configs")
    for field in fields:
        if field not in rules:
            nearest = difflib.get_close_matches(field, rules, n=1, cutoff=0)[0]
            raise ConfigError(f"config.{field} is not a field; the nearest is config.{nearest}")


def check_data(config: ml_collections.ConfigDict) -> None:
    """Checks that the data of a config exist.

    Args:
        config: Config to check.

    Raises:
        ConfigError: A field about the folders of the data is wrong. The message says what is
            allowed.
    """
    data = config.data
    try:
        data_folders.check(data)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    folders = data_folders.folders(data)
    if folders == ("",):
        refuse(config, "data.path", "the folder of the media files")
    for folder in folders:
        # A generated data set is created if it does not exist.
        if data.dataset == "generated" or os.path.isdir(os.path.expanduser(folder)):
            continue
        if data_folders.is_mixture(data):
            refuse(config, "data.sources", f"existing folders; there is no {folder!r}")
        refuse(config, "data.path", "an existing folder")


def check_writers(config: ml_collections.ConfigDict) -> None:
    """Checks that the trackers of a config are installed.

    Args:
        config: Config to check.

    Raises:
        ConfigError: One of them is not. The message says how to install it.
    """
    for name in config.log.writers:
        spec = importlib.util.find_spec(name)
        # A folder of this name, such as W&B's of its logs, is found as a module without a file.
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"config.log.writers names {name}, which is not installed: pip install {name}"
            )


def check_probe(config: ml_collections.ConfigDict) -> None:
    """Checks that the online probe has labeled data, which a mixture is not.

    Args:
        config: Config of a pretraining.

    Raises:
        ConfigError: It has none.
    """
    if data_folders.is_mixture(config.data) and not config.probe.path:
        refuse(config, "probe.path", "labeled data, as the mixture of config.data.sources has none")


def _check_views(config: ml_collections.ConfigDict) -> None:
    video, audio = config.views.video, config.views.audio
    if video.local_frames > video.global_frames:
        refuse(config, "views.video.local_frames", f"at most the clip's {video.global_frames}")
    seconds = video.global_frames / video.frame_rate
    if audio.local_seconds > seconds:
        refuse(config, "views.audio.local_seconds", f"at most the clip's {seconds:g}")
    for view, length in (("global", seconds), ("local", audio.local_seconds)):
        frames = 1 + round(length * audio.sample_rate) // audio.hop
        if audio[f"{view}_frames"] > frames:
            refuse(
                config,
                f"views.audio.{view}_frames",
                f"at most {frames}, the hops of {length:g} s",
            )
    if 2 * audio.max_frequency > audio.sample_rate:
        refuse(config, "views.audio.max_frequency", f"at most {audio.sample_rate / 2:g}")
    if video.local_blur_kernel % 2 == 0 or video.local_blur_kernel // 2 >= video.local_size:
        refuse(
            config, "views.video.local_blur_kernel", "an odd number whose half fits into the view"
        )


def _check_model(config: ml_collections.ConfigDict) -> None:
    for m in MODALITIES:
        patch = config.model[m].patch
        for view in ("global", "local"):
            extents = view_extents(config.views, m, view)
            if any(n % p for n, p in zip(extents, patch, strict=True)):
                refuse(
                    config,
                    f"model.{m}.patch",
                    f"divisors of the {view} view's {_times(extents)} (config.views.{m})",
                )
        ratio = config.model[m].mask_ratio
        patches = math.prod(token_grid(view_extents(config.views, m), patch))
        if not (0 < ratio < 1 and 0 < kept_count(patches, ratio) < patches):
            refuse(
                config,
                f"model.{m}.mask_ratio",
                f"between 0 and 1, so that some of the {patches} patches are kept and some dropped",
            )
        for network in ("encoder", "decoder"):
            prefix, size = f"model.{m}.{network}", config.model[m][network]
            if size.width % size.heads:
                refuse(config, f"{prefix}.heads", f"a divisor of {prefix}.width={size.width}")
    if config.model.variant != "xkd" and config.model.video.encoder != config.model.audio.encoder:
        refuse(
            config,
            "model.variant",
            "'xkd' unless both encoders have the same size: the other variants share their blocks",
        )


def refuse(config: ml_collections.ConfigDict, field: str, allowed: str) -> None:
    """Raises a `ConfigError` that names a field, its value and what is allowed."""
    raise ConfigError(
        f"config.{field} is {config_fields.value_of(config, field)!r}; allowed: {allowed}"
    )


def _times(extents: tuple[int, ...]) -> str:
    return "x".join(map(str, extents))
