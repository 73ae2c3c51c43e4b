"""ViTs as their publishers name and compute them, small and of random weights, in NumPy.

The names and the equations are written out here from the publishers' code, so that the tests do not
share a table with what they test.
"""

import json
import math
import pathlib

import numpy as np
from safetensors.numpy import save_file

WIDTH, DEPTH, HEADS, SIDE, FRAMES, PIXELS = 32, 2, 4, 8, 2, 32

# For each layout: the names around the blocks, those of a block, and tensors that are not used.
AUTHORS_BLOCK = [
    *("norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.proj.weight", "attn.proj.bias"),
    *("norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias"),
    *("mlp.fc2.weight", "mlp.fc2.bias"),
]
HUB_BLOCK = [
    *("layernorm_before.weight", "layernorm_before.bias", "layernorm_after.weight"),
    *("layernorm_after.bias", "attention.attention.query.weight"),
    *("attention.attention.key.weight", "attention.attention.value.weight"),
    *("attention.output.dense.weight", "attention.output.dense.bias"),
    *("intermediate.dense.weight", "intermediate.dense.bias"),
    *("output.dense.weight", "output.dense.bias"),
]
HUB_BIASES = [f"attention.attention.{name}.bias" for name in ("query", "key", "value")]
LAYOUTS = {
    "mae": (
        ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"],
        ["norm.weight", "norm.bias"],
        "blocks.{}.",
        [*AUTHORS_BLOCK, "attn.qkv.bias"],
        {
            "mask_token": "decoder",
            "decoder_embed.weight": "decoder",
            "decoder_pos_embed": "decoder",
            "decoder_blocks.0.norm1.weight": "decoder",
            "decoder_norm.bias": "decoder",
            "decoder_pred.weight": "decoder",
        },
    ),
    "mae_hub": (
        [
            *("vit.embeddings.cls_token", "vit.embeddings.position_embeddings"),
            "vit.embeddings.patch_embeddings.projection.weight",
            "vit.embeddings.patch_embeddings.projection.bias",
        ],
        ["vit.layernorm.weight", "vit.layernorm.bias"],
        "vit.encoder.layer.{}.",
        [*HUB_BLOCK, *HUB_BIASES],
        {
            "decoder.mask_token": "decoder",
            "decoder.decoder_embed.weight": "decoder",
            "decoder.decoder_pos_embed": "decoder",
            "decoder.decoder_layers.0.layernorm_before.weight": "decoder",
        },
    ),
    "videomae": (
        ["encoder.patch_embed.proj.weight", "encoder.patch_embed.proj.bias"],
        ["encoder.norm.weight", "encoder.norm.bias"],
        "encoder.blocks.{}.",
        [*AUTHORS_BLOCK, "attn.q_bias", "attn.v_bias"],
        {
            "mask_token": "decoder",
            "encoder_to_decoder.weight": "decoder",
            "decoder.blocks.0.attn.q_bias": "decoder",
            "decoder.norm.weight": "decoder",
            "decoder.head.weight": "decoder",
        },
    ),
    "videomae_hub": (
        [
            "videomae.embeddings.patch_embeddings.projection.weight",
            "videomae.embeddings.patch_embeddings.projection.bias",
        ],
        ["videomae.layernorm.weight", "videomae.layernorm.bias"],
        "videomae.encoder.layer.{}.",
        [*HUB_BLOCK, "attention.attention.q_bias", "attention.attention.v_bias"],
        {
            "mask_token": "decoder",
            "encoder_to_decoder.weight": "decoder",
            "decoder.decoder_layers.0.attention.attention.q_bias": "decoder",
            "decoder.head.bias": "decoder",
        },
    ),
}


def is_image(layout):
    return layout.startswith("mae")


def used_names(layout):
    start, end, block, inner, _ = LAYOUTS[layout]
    return start + [block.format(n) + name for n in range(DEPTH) for name in inner] + end


def _shape(name, layout):
    grid = (PIXELS // SIDE) ** 2
    kernel = (WIDTH, 3, *([] if is_image(layout) else [FRAMES]), SIDE, SIDE)
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + grid, WIDTH),
        "position_embeddings": (1, 1 + grid, WIDTH),
        "proj.weight": kernel if "patch_embed" in name else (WIDTH, WIDTH),
        "projection.weight": kernel,
        "qkv.weight": (3 * WIDTH, WIDTH),
        "qkv.bias": (3 * WIDTH,),
        "fc1.weight": (4 * WIDTH, WIDTH),
        "fc1.bias": (4 * WIDTH,),
        "fc2.weight": (WIDTH, 4 * WIDTH),
        "intermediate.dense.weight": (4 * WIDTH, WIDTH),
        "intermediate.dense.bias": (4 * WIDTH,),
        "attention.output.dense.weight": (WIDTH, WIDTH),
        "output.dense.weight": (WIDTH, 4 * WIDTH),
    }
    for end, shape in shapes.items():
        if name.endswith(end):
            return shape
    is_square = name.endswith(("query.weight", "key.weight", "value.weight"))
    return (WIDTH, WIDTH) if is_square else (WIDTH,)


def tensors(layout, seed=0):
    """Returns random tensors by the publisher's names, with some of the decoder's."""
    rng = np.random.default_rng(seed)

    def draw(name):
        scale = 1.0 if "norm" in name and name.endswith("weight") else 0.2
        shape = _shape(name, layout)
        return (scale * rng.normal(size=shape)).astype(np.float32)

    found = {name: draw(name) for name in used_names(layout)}
    return found | {name: np.zeros(3, np.float32) for name in LAYOUTS[layout][4]}


def write(folder: pathlib.Path, layout, arrays=None, **config):
    """Writes a folder as on the Hub; the number of heads is not in the tensors.

    Returns:
        The file of the tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"num_attention_heads": HEADS, "image_size": PIXELS, "num_frames": 4 * FRAMES}
    kind = {"model_type": "vit_mae" if is_image(layout) else "videomae"}
    (folder / "config.json").write_text(json.dumps(kind | sizes | config))
    path = folder / "model.safetensors"
    save_file(tensors(layout) if arrays is None else arrays, path)
    return path


def _linear(x, weights, name):
    product = x @ weights[f"{name}.weight"].T
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def _layer_norm(x, weights, name, eps):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    unit = (x - mean) / np.sqrt(variance + eps)
    return unit * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _attention(query, key, value):
    def heads(x):
        return x.reshape(len(x), HEADS, -1).swapaxes(0, 1)

    query, key, value = map(heads, (query, key, value))
    logits = query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights @ value).swapaxes(0, 1).reshape(-1, WIDTH)


def _block(x, weights, is_hub, eps):
    names = {
        False: ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"),
        True: (
            *("layernorm_before", "attention.output.dense", "layernorm_after"),
            *("intermediate.dense", "output.dense"),
        ),
    }
    norm1, out, norm2, inner, outer = names[is_hub]
    normed = _layer_norm(x, weights, norm1, eps)
    if is_hub:
        start = "attention.attention."
        query, key, value = (
            _linear(normed, weights, start + part) for part in ("query", "key", "value")
        )
    else:
        start = "attn."
        query, key, value = np.split(_linear(normed, weights, "attn.qkv"), 3, axis=-1)
    query = query + weights.get(f"{start}q_bias", 0)
    value = value + weights.get(f"{start}v_bias", 0)
    x = x + _linear(_attention(query, key, value), weights, out) * weights.get("gamma_1", 1)
    hidden = _gelu(_linear(_layer_norm(x, weights, norm2, eps), weights, inner))
    return x + _linear(hidden, weights, outer) * weights.get("gamma_2", 1)


def table(count):
    """VideoMAE's positions."""
    rows = np.zeros((count, WIDTH))
    for n in range(count):
        for j in range(0, WIDTH, 2):
            rows[n, j] = math.sin(n / 10000 ** (j / WIDTH))
            rows[n, j + 1] = math.cos(n / 10000 ** (j / WIDTH))
    return rows


def tokens(layout, arrays, frames, eps):
    """Encodes an image, or a video, as the publisher does.

    Args:
        layout: A key of `LAYOUTS`.
        arrays: Tensors by the publisher's names.
        frames: (T, PIXELS, PIXELS, 3) normalized; T is 1 for an image.
        eps: What LayerNorms add to the variance.

    Returns:
        The tokens after the final norm; CLS first for an image.
    """
    arrays = {name: x.astype(np.float64) for name, x in arrays.items()}
    start, end, block, _, _ = LAYOUTS[layout]
    kernel_name = next(name for name in start if name.endswith(("proj.weight", "ion.weight")))
    kernel = arrays[kernel_name]
    kernel = kernel[:, :, None] if kernel.ndim == 4 else kernel
    depth = kernel.shape[2]
    x = []
    for t in range(0, len(frames), depth):
        for row in range(0, PIXELS, SIDE):
            for column in range(0, PIXELS, SIDE):
                cube = frames[t : t + depth, row : row + SIDE, column : column + SIDE]
                x.append(np.einsum("dcthw,thwc->d", kernel, cube))
    x = np.array(x) + arrays[kernel_name.removesuffix("weight") + "bias"]
    if is_image(layout):
        positions = arrays[start[1]][0]
        x = np.concatenate([arrays[start[0]][0] + positions[:1], x + positions[1:]])
    else:
        x = x + table(len(x))
    for n in range(DEPTH):
        prefix = block.format(n)
        weights = {
            name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)
        }
        x = _block(x, weights, layout.endswith("hub"), eps)
    return _layer_norm(x, arrays, end[0].removesuffix(".weight"), eps)
