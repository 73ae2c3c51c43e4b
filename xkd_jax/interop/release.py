"""Names and layouts of the authors' PyTorch release, and their conversion to ours and back.

The release keeps a linear layer's weight as (out, in), ours is (in, out); it gives tokens and
positions a leading axis of 1; and it names every block, where ours stacks blocks along a leading
axis. Its projector uses one LayerNorm in both hidden places, so it reads one tensor under two
names: on the way in each of our two gets a copy.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from xkd_jax.models.xkd import MODALITIES, XKD

PREFIXES = {"video": "vid", "audio": "aud"}
PATCH_EMBEDDINGS = {"video": "cuboid_embed", "audio": "patch_embed"}
# Each centre stands in the loss that uses its teacher.
CENTERS = {"video": "vt2as_ce_loss.center", "audio": "at2vs_ce_loss.center"}

# Kinds of tensors, by what differs: nothing; a transposition; a leading axis of 1.
_PLAIN, _KERNEL, _ROW = "plain", "kernel", "row"


class Entry(NamedTuple):
    """One tensor of ours and what the release calls it.

    Attributes:
      path: names from the root of our tree; the root is "params" or "teacher".
      layer: index in the stack of blocks; None for a tensor that is not stacked.
      names: the release's names of it; several where it shares the tensor.
      kind: how the layouts differ.
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
    stride = 3 if norm == "every" else 2  # modules a hidden layer: linear, (norm,) GELU
    tensors = []
    for i in range(layers - 1):
        tensors += _linear((f"hidden_{i}",), f"mlp.{stride * i}")
        if norm == "every":
            tensors += _norm((f"hidden_norm_{i}",), f"mlp.{stride * i + 1}")
    tensors += _linear(("bottleneck",), f"mlp.{stride * (layers - 1)}")
    return [*tensors, (("prototypes",), "last_layer.weight_v", _KERNEL)]


def entries(model: XKD) -> Iterator[Entry]:
    """Every tensor of the students and teachers of `model`, with its names in the release."""
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
    """Wants every tensor, whatever its path."""
    return True


def shapes(
    model: XKD, wanted: Callable[[tuple[str, ...]], bool] = everything
) -> dict[str, tuple[int, ...]]:
    """The shape that each of the release's tensors has for `model`, by name.

    Args:
      model: what the tensors belong to.
      wanted: of an `Entry.path`, or of ("centers", modality), whether to give it.
    """
    params = model.shapes()
    trees = {"params": params, "teacher": jax.eval_shape(model.teacher_target, params)}
    convert = {_PLAIN: lambda x: x, _KERNEL: lambda x: x[::-1], _ROW: lambda x: (1, *x)}
    found = {}
    for path, layer, names, kind in _wanted_entries(model, wanted):
        shape = _leaf(trees, path).shape
        found |= dict.fromkeys(names, convert[kind](shape if layer is None else shape[1:]))
    for m in MODALITIES:
        if wanted(("centers", m)):
            found[CENTERS[m]] = (1, getattr(model, m).projector.out)
    return found


def from_release(
    tensors: Mapping[str, np.ndarray],
    model: XKD,
    wanted: Callable[[tuple[str, ...]], bool] = everything,
) -> dict[str, Any]:
    """Our trees from the release's tensors.

    Args:
      tensors: the release's state dict, by name.
      model: what the tensors belong to.
      wanted: of an `Entry.path`, or of ("centers", modality), whether to convert it.

    Returns:
      {"params", "teacher", "centers"} as far as wanted, as in `xkd_jax.train_step.TrainState`,
      NumPy arrays.

    Raises:
      KeyError: naming the tensor that is missing.
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
    """The release's tensors, by name, from our trees ("params" or "teacher" or both).

    Args:
      trees: as `from_release` gives them; centres are left alone.
      model: what they belong to.
      wanted: of an `Entry.path`, whether to convert it.
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
