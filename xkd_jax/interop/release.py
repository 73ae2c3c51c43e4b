"""Names and layouts of tensors in the authors' PyTorch release, and conversion in both directions.

The layouts differ in three ways. The weight of a linear layer is (out, in) in the release and (in,
out) here. Tokens and positions have a leading axis of 1 in the release. Blocks are separate tensors
in the release and stacked along a leading axis here. The release's projector uses one LayerNorm in
both hidden places, under two names; when it is imported, each of our two gets a copy.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from xkd_jax.method.models.xkd import MODALITIES, XKD

PREFIXES = {"video": "vid", "audio": "aud"}
PATCH_EMBEDDINGS = {"video": "cuboid_embed", "audio": "patch_embed"}
# Each center belongs to the loss that uses its teacher.
CENTERS = {"video": "vt2as_ce_loss.center", "audio": "at2vs_ce_loss.center"}

# How the layouts of a tensor differ: not at all, by a transposition, by a leading axis of 1.
_PLAIN, _KERNEL, _ROW = "plain", "kernel", "row"


class Entry(NamedTuple):
    """One of our tensors and its names in the release.

    Attributes:
        path: Names from the root of our tree, which is "params" or "teacher".
        layer: Index in the stack of blocks; None for a tensor that is not stacked.
        names: Names in the release; several if modalities share the tensor.
        kind: How the layouts differ: `_PLAIN`, `_KERNEL` or `_ROW`.
    """

    path: tuple[str, ...]
    layer: int | None
    names: tuple[str, ...]
    kind: str


def _linear(path: tuple[str, ...], name: str, bias: bool = True) -> list[tuple]:
    tensors = [((*path, "kernel"), f"{name}.weight", _KERNEL)]
    return tensors + ([((*path, "bias"), f"{name}.bias", _PLAIN)] if bias else [])


def _norm(path: tuple[str, ...], name: str) -> list[tuple]:
    return [((*path, "scale"), f"{name}.weight", _PLAIN), ((*path, "bias"), f"{name}.bias", _PLAIN)]


def _block(name: str) -> list[tuple]:
    return [
        *_norm(("attention_norm",), f"{name}.norm1"),
        *_linear(("qkv",), f"{name}.attn.qkv", bias=False),
        *_linear(("out",), f"{name}.attn.proj"),
        *_norm(("mlp_norm",), f"{name}.norm2"),
        *_linear(("mlp_in",), f"{name}.mlp.fc1"),
        *_linear(("mlp_out",), f"{name}.mlp.fc2"),
    ]


def _encoder(modality: str) -> list[tuple]:
    return [
        (("cls_token",), "cls_token", _ROW),
        (("position_embedding",), "enc_pos_embed", _ROW),
        *_linear(("patch_embedding",), f"{PATCH_EMBEDDINGS[modality]}.proj"),
        *_norm(("norm",), "encoder_norm"),
    ]


def _decoder() -> list[tuple]:
    return [
        (("mask_token",), "mask_token", _ROW),
        (("position_embedding",), "dec_pos_embed", _ROW),
        *_linear(("embedding",), "mid_proj"),
        *_linear(("prediction",), "out_proj"),
    ]


def _projector(layers: int, norm: str) -> list[tuple]:
    stride = 3 if norm == "every" else 2  # modules of a hidden layer: linear, (norm,) GELU
    tensors = []
    for i in range(layers - 1):
        tensors += _linear((f"hidden_{i}",), f"mlp.{stride * i}")
        if norm == "every":
            tensors += _norm((f"hidden_norm_{i}",), f"mlp.{stride * i + 1}")
    tensors += _linear(("bottleneck",), f"mlp.{stride * (layers - 1)}")
    return [*tensors, (("prototypes",), "last_layer.weight_v", _KERNEL)]


def entries(model: XKD) -> Iterator[Entry]:
    """Yields every tensor of a model's students and teachers, with its names in the release."""
    for root, network in (("params", "student"), ("teacher", "teacher")):
        shares = model.variant == "xkd_mats" or (root == "params" and model.variant == "xkd_mas")
        for m in MODALITIES:
            modality, base = getattr(model, m), f"{PREFIXES[m]}_{network}"
            for path, name, kind in _encoder(m):
                yield Entry((root, m, "encoder", *path), None, (f"{base}.backbone.{name}",), kind)
            for path, name, kind in _projector(modality.projector.layers, modality.projector.norm):
                yield Entry((root, m, "projector", *path), None, (f"{base}.head.{name}",), kind)
            if root == "params":
                base = f"{PREFIXES[m]}_ae"
                for path, name, kind in _decoder():
                    yield Entry((root, m, "decoder", *path), None, (f"{base}.{name}",), kind)
                stack = (root, m, "decoder", "transformer", "blocks")
                for layer in range(modality.decoder.depth):
                    for path, name, kind in _block(f"{base}.decoder.blocks.{layer}"):
                        yield Entry((*stack, *path), layer, (name,), kind)

        owners = [("shared", MODALITIES)] if shares else [(m, (m,)) for m in MODALITIES]
        for owner, modalities in owners:
            place = (root, owner) if shares else (root, owner, "encoder")
            stack = (*place, "transformer", "blocks")
            for layer in range(getattr(model, modalities[0]).encoder.depth):
                for path, name, kind in _block(f"backbone.encoder.blocks.{layer}"):
                    names = tuple(f"{PREFIXES[m]}_{network}.{name}" for m in modalities)
                    yield Entry((*stack, *path), layer, names, kind)


def _wanted_entries(model: XKD, wanted: Callable[[tuple[str, ...]], bool]) -> Iterator[Entry]:
    return (entry for entry in entries(model) if wanted(entry.path))


def everything(path: tuple[str, ...]) -> bool:
    """Passes every tensor, for `wanted` arguments."""
    return True


def shapes(
    model: XKD, wanted: Callable[[tuple[str, ...]], bool] = everything
) -> dict[str, tuple[int, ...]]:
    """Computes the shapes of the release's tensors for a model.

    Args:
        model: Model that the tensors belong to.
        wanted: Function of an `Entry.path`, or of ("centers", modality), that returns whether to
            include the tensor.

    Returns:
        Shapes by the release's names.
    """
    params = model.shapes()
    trees = {"params": params, "teacher": jax.eval_shape(model.teacher_target, params)}
    convert = {_PLAIN: lambda x: x, _KERNEL: lambda x: x[::-1], _ROW: lambda x: (1, *x)}
    shapes_by_name = {}
    for path, layer, names, kind in _wanted_entries(model, wanted):
        shape = _leaf(trees, path).shape
        shapes_by_name |= dict.fromkeys(names, convert[kind](shape if layer is None else shape[1:]))
    for m in MODALITIES:
        if wanted(("centers", m)):
            shapes_by_name[CENTERS[m]] = (1, getattr(model, m).projector.out)
    return shapes_by_name


def from_release(
    tensors: Mapping[str, np.ndarray],
    model: XKD,
    wanted: Callable[[tuple[str, ...]], bool] = everything,
) -> dict[str, Any]:
    """Converts the release's tensors to our trees.

    Args:
        tensors: The release's state dict.
        model: Model that the tensors belong to.
        wanted: Function of an `Entry.path`, or of ("centers", modality), that returns whether to
            convert the tensor.

    Returns:
        Trees of NumPy arrays under "params", "teacher" and "centers", as in
        `xkd_jax.method.state.TrainState`, without what is not wanted.

    Raises:
        KeyError: A tensor is missing; the message names it.
    """
    convert = {_PLAIN: lambda x: x, _KERNEL: lambda x: x.T, _ROW: lambda x: x[0]}
    stacks: dict[tuple[str, ...], list[np.ndarray]] = {}
    for path, _, names, kind in _wanted_entries(model, wanted):  # layers ascend
        stacks.setdefault(path, []).append(convert[kind](np.asarray(tensors[names[0]])))
    trees: dict[str, Any] = {}
    for m in MODALITIES:
        if wanted(("centers", m)):
            trees.setdefault("centers", {})[m] = np.asarray(tensors[CENTERS[m]])[0]
    for path, stack in stacks.items():
        node = trees
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = np.stack(stack) if "blocks" in path else stack[0]
    return trees


def to_release(
    trees: Mapping[str, Any],
    model: XKD,
    wanted: Callable[[tuple[str, ...]], bool] = everything,
) -> dict[str, np.ndarray]:
    """Converts our trees to the release's tensors.

    Args:
        trees: Trees as from `from_release`, with "params" or "teacher" or both; "centers" is
            ignored.
        model: Model that the trees belong to.
        wanted: Function of an `Entry.path` that returns whether to convert the tensor.

    Returns:
        NumPy arrays by the release's names.
    """
    convert = {_PLAIN: lambda x: x, _KERNEL: lambda x: x.T, _ROW: lambda x: x[None]}
    tensors = {}
    for path, layer, names, kind in _wanted_entries(model, wanted):
        if path[0] not in trees:
            continue
        node = _leaf(trees, path)
        tensor = np.asarray(node if layer is None else node[layer])
        tensors |= dict.fromkeys(names, convert[kind](tensor))
    return tensors


def _leaf(trees: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    node: Any = trees
    for name in path:
        node = node[name]
    return node
