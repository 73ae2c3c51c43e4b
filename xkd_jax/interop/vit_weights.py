"""Weights of MAE's and VideoMAE's ViTs, converted to those of the encoder of video.

The encoder computes the same features, except for what it cannot have (docs/own_domain.md):

- Its LayerNorms add 1e-5 to the variance, as all of ours. MAE and VideoMAE add 1e-6, and their
  conversions for the Hub 1e-12.
- A CLS token that VideoMAE lacks takes part in the attention.

The blocks here have no biases of queries, keys and values. They become part of the kernel
(`_without_bias`), and a block's scales of what it adds become part of the layers before them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from xkd_jax.interop.vit_files import ViT
from xkd_jax.method.models.positions import resize_positions
from xkd_jax.method.models.vit import Encoder

Tree = dict[str, Any]
_Tensors = Mapping[str, np.ndarray]


def convert(vit: ViT, encoder: Encoder, patch: tuple[int, int, int]) -> Tree:
    """Converts the weights of a ViT to parameters of an encoder.

    Args:
        vit: The ViT, of the same width, depth and heads.
        encoder: The encoder.
        patch: Size of its patches, with the ViT's height and width, and not fewer frames.

    Returns:
        The parameters, float32. They lack `cls_token` if only the encoder has a CLS token; its
        position is then 0.
    """
    tensors = vit.load()
    blocks = [
        _block({name.partition("/")[2]: x for name, x in tensors.items() if _is_in(name, n)})
        for n in range(vit.depth)
    ]
    tree = {
        "patch_embedding": {
            "kernel": inflated(tensors["patches/weight"], patch[0]),
            "bias": tensors["patches/bias"],
        },
        "position_embedding": _positions(vit, tensors, encoder),
        "transformer": {"blocks": _stacked(blocks)},
        "norm": _norm(tensors, "norm"),
    }
    if encoder.cls and "cls_token" in tensors:
        tree["cls_token"] = tensors["cls_token"][0]
    return tree


def _is_in(name: str, block: int) -> bool:
    return name.startswith(f"{block}/")


def inflated(kernel: np.ndarray, frames: int) -> np.ndarray:
    """Converts the kernel of a patch embedding to patches of more frames.

    The ViT's frames are the central ones of a patch, and the weights of the others are 0 at first.
    So it sees sharp images, as it was trained on. Spreading an image's kernel evenly over the
    frames would show it their mean, blurred by motion. ViViT (Arnab et al., 2021, arXiv 2103.15691)
    compares the two for patches of 4 frames, as central frame initialization and filter inflation:
    the central frame is 1.6 points better on Kinetics400 (section 4.2, Table 1).

    Args:
        kernel: (D, 3, height, width), or (D, 3, frames, height, width).
        frames: Frames of the new patches.

    Returns:
        (frames * height * width * 3, D), for patches as from `patchify`.
    """
    kernel = kernel[:, :, None] if kernel.ndim == 4 else kernel
    missing = frames - kernel.shape[2]
    before = (missing + 1) // 2  # frame t // 2 of t, for an image
    kernel = np.pad(kernel, ((0, 0), (0, 0), (before, missing - before), (0, 0), (0, 0)))
    return np.ascontiguousarray(kernel.transpose(2, 3, 4, 1, 0).reshape(-1, kernel.shape[0]))


def _positions(vit: ViT, tensors: _Tensors, encoder: Encoder) -> np.ndarray:
    """Returns positions on the encoder's grid, with that of the CLS token if it has one.

    They are resized linearly along each axis, as for other sizes of views. An image's are the same
    at all times.
    """
    if "positions" in tensors:
        cls, positions = np.split(tensors["positions"][0], [1])
    else:
        cls, positions = np.zeros((1, vit.width), np.float32), sinusoids(vit.grid, vit.width)
    with jax.default_matmul_precision("highest"):
        positions = np.asarray(resize_positions(positions, vit.grid, encoder.grid))
    return np.concatenate([cls, positions]) if encoder.cls else positions


def sinusoids(grid: tuple[int, int, int], width: int) -> np.ndarray:
    """Computes VideoMAE's positions, which its files do not hold.

    They are those of the first transformer (Vaswani et al., 2017) for the tokens in their order:
    sin(n / 10000^(2i / D)) at 2i, and the cosine at 2i + 1.

    Args:
        grid: Token grid of the whole video.
        width: D, the width of the tokens.

    Returns:
        (product of grid, D) float32.
    """
    channel = np.arange(width)
    angles = np.arange(np.prod(grid))[:, None] / 10000 ** (2 * (channel // 2) / width)
    return np.where(channel % 2, np.cos(angles), np.sin(angles)).astype(np.float32)


def _block(tensors: _Tensors) -> Tree:
    """Converts one block."""
    kernel, bias = _query_key_value(tensors)
    norm = _norm(tensors, "attention_norm")
    if bias is not None:
        norm, kernel = _without_bias(norm, kernel, bias)
    return {
        "attention_norm": norm,
        "qkv": {"kernel": kernel},
        "out": _dense(tensors, "out"),
        "mlp_norm": _norm(tensors, "mlp_norm"),
        "mlp_in": _dense(tensors, "mlp_in"),
        "mlp_out": _dense(tensors, "mlp_out"),
    }


def _query_key_value(tensors: _Tensors) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the kernel (D, 3 D) of queries, keys and values, and their biases (3 D,), if any."""
    parts = ("query", "key", "value")
    kernel = tensors.get("qkv/weight")
    if kernel is None:
        kernel = np.concatenate([tensors[f"{part}/weight"] for part in parts])
    if "qkv/bias" in tensors:
        return kernel.T, tensors["qkv/bias"]
    if not any(f"{part}/bias" in tensors for part in parts):
        return kernel.T, None
    # VideoMAE's keys have no bias. It would not change the attention.
    zeros = np.zeros(kernel.shape[1], np.float32)
    return kernel.T, np.concatenate([tensors.get(f"{part}/bias", zeros) for part in parts])


def _without_bias(norm: Tree, kernel: np.ndarray, bias: np.ndarray) -> tuple[Tree, np.ndarray]:
    """Moves the bias of a layer, and the scale and bias of the LayerNorm before it, to its kernel.

    A LayerNorm gives `scale * u + shift`, where the D values of `u` sum to 0. With the scale and
    the shift both 1, its outputs `u + 1` sum to D, so the same number in all rows of the kernel
    adds D times that number to the layer's output, whatever the token. For the kernel `K` and the
    bias `b`, row i of the new kernel is `scale_i K_i + c / D`, where `c` is what the output then
    lacks, `shift K + b - scale K`.

    Args:
        norm: Scale (D,) and bias (D,) of the LayerNorm.
        kernel: (D, E), kernel of the layer.
        bias: (E,), its bias.

    Returns:
        The new LayerNorm and the new kernel.
    """
    scale, shift = (norm[name].astype(np.float64) for name in ("scale", "bias"))
    constant = (shift - scale) @ kernel + bias
    rows = scale[:, None] * kernel + constant / len(scale)
    ones = {name: np.ones_like(x) for name, x in norm.items()}
    return ones, rows.astype(np.float32)


def _norm(tensors: _Tensors, name: str) -> Tree:
    return {"scale": tensors[f"{name}/weight"], "bias": tensors[f"{name}/bias"]}


def _dense(tensors: _Tensors, name: str) -> Tree:
    scale = tensors.get(f"{name}/scale", np.float32(1))
    return {
        "kernel": np.ascontiguousarray(tensors[f"{name}/weight"].T) * scale,
        "bias": tensors[f"{name}/bias"] * scale,
    }


def _stacked(blocks: list[Tree]) -> Tree:
    return {
        layer: {name: np.stack([block[layer][name] for block in blocks]) for name in weights}
        for layer, weights in blocks[0].items()
    }
