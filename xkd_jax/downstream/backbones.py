"""Encoders under evaluation, and the views that they were trained on."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from xkd_jax.config.checks import ConfigError
from xkd_jax.encoders import pretrained_encoder
from xkd_jax.method.models.vit import init_params

_LOG_MEL = ("sample_rate", "mel_bands", "window", "hop", "max_frequency", "log_offset")

# Encoders by modality.
Backbones = Mapping[str, pretrained_encoder.PretrainedEncoder]


def load(
    checkpoint: str,
    modalities: Sequence[str],
    network: str,
    dtype: jnp.dtype,
    frame_size: int = 0,
    untrained_seed: int | None = None,
) -> Backbones:
    """Loads the encoders of a checkpoint.

    Args:
        checkpoint: Path as of `xkd_jax.load_encoder`.
        modalities: "video", "audio" or both.
        network: "teacher" or "student".
        dtype: Type to compute in.
        frame_size: Height and width of video frames in pixels. 0 for those of pretraining.
        untrained_seed: Seed of random weights to use instead of the checkpoint's. None to use the
            checkpoint's.

    Returns:
        Encoders by modality.

    Raises:
        ConfigError: The checkpoint or a setting is unusable.
        FileNotFoundError: There is no checkpoint; the message says what there is.
    """
    loaded = {}
    for modality in modalities:
        size = frame_size or None if modality == "video" else None
        try:
            encoder = pretrained_encoder.load_encoder(
                checkpoint, modality, network, frame_size=size, dtype=dtype.name
            )
        except ValueError as error:
            # Only this argument has the same name as a config field.
            field = "config." if str(error).startswith("frame_size is") else ""
            raise ConfigError(f"{field}{error}") from error
        if untrained_seed is not None:
            encoder.params = _fresh(encoder, untrained_seed)
        loaded[modality] = encoder
    return loaded


def make_views(
    backbones: Backbones, fields: ml_collections.ConfigDict | None = None
) -> ml_collections.ConfigDict:
    """Makes a section `views` of a pretraining's config that fits what encoders were trained on.

    Args:
        backbones: Encoders by modality.
        fields: Section `augmentation` of the config (`xkd_jax.config.probing`). None for no
            augmentation.

    Raises:
        ConfigError: The encoders take video and audio of different lengths.
    """
    seconds = {m: encoder.sizes.seconds for m, encoder in backbones.items()}
    if len({round(length, 6) for length in seconds.values()}) > 1:
        lengths = " and ".join(f"{length:g} s of {m}" for m, length in seconds.items())
        raise ConfigError(
            f"config.modalities is {tuple(backbones)!r}; allowed for encoders that see {lengths}: "
            "one modality"
        )
    # Audio alone is cut like a video of one frame that lasts as long.
    length = next(iter(seconds.values()))
    video = {"frame_rate": 1 / length, "global_frames": 1, "global_size": 1, "short_side": 1}
    if "video" in backbones:
        view = backbones["video"].view
        video = {"frame_rate": view["frame_rate"], "global_frames": view["frames"]}
        video |= {"global_size": view["size"], "short_side": view["size"]}
    audio = {"sample_rate": 16000}
    if "audio" in backbones:
        view = backbones["audio"].view
        audio = {name: view[name] for name in (*_LOG_MEL, "mean", "std")}
        audio["global_frames"] = view["frames"]
    if fields is not None:
        video |= {
            "global_scale": fields.crop_scale,
            "aspect_ratio": fields.aspect_ratio,
            "flip_probability": fields.flip_probability,
            "color_jitter": fields.color_jitter,
            "local_gray_probability": fields.gray_probability,
            # Extraction augments like local views, which may be gray, but without their blur.
            "local_blur_probability": 0.0,
            "local_blur_kernel": 1,
            "local_blur_sigma": (1.0, 1.0),
        }
        audio["global_gain"] = fields.gain
    return ml_collections.ConfigDict({"video": video, "audio": audio})


def _fresh(encoder: pretrained_encoder.PretrainedEncoder, seed: int) -> Any:
    """Draws weights as at the start of pretraining."""
    # The modalities have different draws.
    key = jax.random.fold_in(jax.random.key(seed), encoder.modality == "audio")
    return _initialize(encoder.module, encoder.patch, key)


_initialize = jax.jit(init_params, static_argnums=(0, 1))


def network_name(config: ml_collections.ConfigDict) -> str:
    """Names the network of an evaluation, such as "teacher" or "untrained teacher"."""
    return f"untrained {config.network}" if config.untrained else config.network


def weights_digest(backbones: Backbones) -> str:
    """Computes the SHA-256 of the encoders' weights, as hexadecimal digits."""
    return digest_of({m: encoder.params for m, encoder in backbones.items()})


def digest_of(weights: Mapping[str, Any]) -> str:
    """Computes the SHA-256 of trees of weights by name, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        leaves, _ = jax.tree_util.tree_flatten_with_path(weights[name])
        for path, leaf in leaves:
            digest.update(f"{name}{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
            digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()
