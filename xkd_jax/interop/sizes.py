"""Inference of a released model's sizes from its tensors.

Tensors determine widths, depths and numbers of tokens. They do not determine how a width is split
into heads. Of the extents of a patch and of the input, they determine only the products. So the
paper's values are used if they fit; otherwise the user has to give them.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping

import ml_collections
import numpy as np

from xkd_jax.config import pretraining
from xkd_jax.interop.release import PATCH_EMBEDDINGS, PREFIXES
from xkd_jax.method.models.patches import patch_values
from xkd_jax.method.models.xkd import MODALITIES

Tensors = Mapping[str, np.ndarray]


class SizeError(ValueError):
    """Raised if the tensors do not determine a size, or a given size does not fit them."""


@dataclasses.dataclass(frozen=True)
class StatedSizes:
    """Sizes of a model that the user gives; None to infer them.

    Attributes:
        video_heads: Number of heads of the video encoder.
        audio_heads: Number of heads of the audio encoder.
        decoder_heads: Number of heads of both decoders.
        video_patch: Extents of a video patch: frames, pixels, pixels.
        audio_patch: Extents of an audio patch: mel bands, log-mel frames.
        frames: Number of frames of a global video view.
        mel_bands: Number of mel bands.
        projector_norm: LayerNorm of a projector whose LayerNorm has no parameters: `last` for the
            last layer, or `none`.
        variant: Model variant, for a full checkpoint that has copies of shared tensors.
    """

    video_heads: int | None = None
    audio_heads: int | None = None
    decoder_heads: int | None = None
    video_patch: tuple[int, int, int] | None = None
    audio_patch: tuple[int, int] | None = None
    frames: int | None = None
    mel_bands: int | None = None
    projector_norm: str | None = None
    variant: str | None = None


def infer(tensors: Tensors, given: StatedSizes) -> ml_collections.ConfigDict:
    """Infers the config of a model.

    Args:
        tensors: The release's tensors, named as in a full checkpoint (`vid_teacher.backbone...`).
            The tensors of some networks suffice.
        given: Sizes that the user gives.

    Returns:
        The config. Fields that nothing determines are the defaults.

    Raises:
        SizeError: A size cannot be inferred, or does not fit.
    """
    config = pretraining.get_config()
    for m in MODALITIES:
        for network in ("teacher", "student"):
            name = f"{PREFIXES[m]}_{network}.backbone."
            backbone = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
            if backbone:
                _infer_encoder(config, backbone, m, given)
                break
        decoder = f"{PREFIXES[m]}_ae."
        if any(k.startswith(f"{decoder}mid_proj.") for k in tensors):
            _infer_decoder(config, tensors, m, decoder, given)
    if any(".head." in name for name in tensors):
        _infer_projector(config, tensors, given)
        config.model.variant = given.variant or _variant(tensors)
    return config


def _infer_encoder(
    config: ml_collections.ConfigDict, backbone: Tensors, m: str, given: StatedSizes
) -> None:
    width = _shape(backbone, "cls_token", 3)[-1]
    depth = _depth(backbone, "encoder.blocks.")
    heads = _heads(width, getattr(given, f"{m}_heads"), pretraining.ENCODERS, f"{m}_heads")
    config.model[m].encoder = pretraining.transformer((width, depth, heads))

    values = _shape(backbone, f"{PATCH_EMBEDDINGS[m]}.proj.weight", 2)[1]
    tokens = _shape(backbone, "enc_pos_embed", 3)[1] - 1
    if tokens < 1:
        raise SizeError(f"the tensor 'enc_pos_embed' has {tokens} tokens; allowed: 1 or more")
    patch = tuple(getattr(given, f"{m}_patch") or config.model[m].patch)
    expected = patch_values(patch)
    if values != expected:
        size = "x".join(map(str, patch))
        raise SizeError(
            f"a patch of {m} has {values} values, but {size} would have {expected}; "
            f"give --{m}_patch"
        )
    config.model[m].patch = patch
    if m == "video":
        frames = given.frames or config.views.video.global_frames
        side = math.isqrt(tokens * patch[0] // max(frames, 1))
        if frames % patch[0] or frames // patch[0] * side * side != tokens:
            raise SizeError(
                f"{tokens} tokens of video do not make a square at each of {frames}/{patch[0]} "
                "times; give --frames, the number of frames of a view"
            )
        if patch[1] != patch[2]:
            raise SizeError(f"--video_patch={patch}; allowed: equal height and width")
        config.views.video.global_frames = frames
        config.views.video.global_size = config.views.video.short_side = side * patch[1]
        return
    bands = given.mel_bands or config.views.audio.mel_bands
    if bands % patch[0] or tokens % (bands // patch[0]):
        raise SizeError(
            f"{tokens} tokens of audio are not a multiple of {bands}/{patch[0]} bands; "
            "give --mel_bands"
        )
    config.views.audio.mel_bands = bands
    config.views.audio.global_frames = tokens // (bands // patch[0]) * patch[1]


def _infer_decoder(
    config: ml_collections.ConfigDict, tensors: Tensors, m: str, name: str, given: StatedSizes
) -> None:
    width = _shape(tensors, f"{name}mid_proj.weight", 2)[0]
    depth = _depth(tensors, f"{name}decoder.blocks.")
    heads = _heads(width, given.decoder_heads, pretraining.DECODERS, "decoder_heads")
    config.model[m].decoder = pretraining.transformer((width, depth, heads))


def _infer_projector(
    config: ml_collections.ConfigDict, tensors: Tensors, given: StatedSizes
) -> None:
    projector = config.model.projector
    name = next(k for k in tensors if ".head." in k).partition(".head.")[0] + ".head."
    ranks = {
        place: v.ndim
        for k, v in tensors.items()
        if k.endswith(".weight") and (place := _number(k, f"{name}mlp.")) is not None
    }
    linear = sorted(place for place, rank in ranks.items() if rank == 2)
    if len(linear) < 2:
        raise SizeError(f"{name}mlp has {len(linear)} layers; allowed: 2 or more")
    if len(linear) < len(ranks):
        projector.norm = "every"
    elif given.projector_norm in ("last", "none"):
        projector.norm = given.projector_norm
    else:
        raise SizeError(
            "the projector's hidden layers have no LayerNorm, and the tensors do not show whether "
            "its last layer has one; give --projector_norm=last or --projector_norm=none"
        )
    projector.layers = len(linear)
    projector.hidden = tensors[f"{name}mlp.{linear[0]}.weight"].shape[0]
    projector.bottleneck = tensors[f"{name}mlp.{linear[-1]}.weight"].shape[0]
    projector.out = _shape(tensors, f"{name}last_layer.weight_v", 2)[0]


def _variant(tensors: Tensors) -> str:
    """Infers which networks share their blocks between the modalities.

    Students with equal blocks share them: otherwise their gradients would make them differ.
    Teachers with equal blocks may only follow the same students, so they share blocks only if
    their tensors are the same objects.
    """

    def pairs(network: str) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for name in tensors:
            if name.startswith(f"vid_{network}.backbone.encoder.blocks."):
                yield tensors[name], tensors.get(f"aud_{name.removeprefix('vid_')}")

    if not all(b is not None and np.array_equal(a, b) for a, b in pairs("student")):
        return "xkd"
    return "xkd_mats" if all(a is b for a, b in pairs("teacher")) else "xkd_mas"


def _shape(tensors: Tensors, name: str, rank: int) -> tuple[int, ...]:
    if name not in tensors:
        raise SizeError(f"the tensor {name!r} is missing")
    if tensors[name].ndim != rank:
        shape = list(tensors[name].shape)
        raise SizeError(f"the tensor {name!r} has shape {shape}; allowed: {rank} axes")
    return tensors[name].shape


def _depth(names: Iterable[str], prefix: str) -> int:
    numbers = {number for k in names if (number := _number(k, prefix)) is not None}
    if not numbers:
        raise SizeError(f"the tensors {prefix}0... are missing")
    return max(numbers) + 1


def _number(name: str, prefix: str) -> int | None:
    """Returns the layer's number, at most four digits, after a prefix; None if there is none.

    The limit matters because a depth is derived from the largest number.
    """
    match = re.match(r"[0-9]{1,4}(?=\.)", name.removeprefix(prefix))
    return int(match[0]) if match and name.startswith(prefix) else None


def _heads(width: int, given: int | None, known: Mapping[str, tuple[int, ...]], flag: str) -> int:
    heads = given or {w: h for w, _, h in known.values()}.get(width)
    if heads is None:
        raise SizeError(
            f"tensors do not show into how many heads the width {width} is split, and the paper "
            f"has no such width; give --{flag}"
        )
    if heads < 1 or width % heads:
        raise SizeError(f"--{flag}={heads}; allowed: divisors of the width {width}")
    return heads
