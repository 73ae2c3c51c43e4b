"""Files of pretrained ViTs of MAE and VideoMAE: which tensor is which part of the encoder.

MAE (He et al., 2021, arXiv 2111.06377) sees images, VideoMAE (Tong et al., 2022, arXiv 2203.12602)
videos. Their weights are read under the names of the authors' code and under those of the Hugging
Face Hub. Every tensor of a file has a use, or is dropped for a reason. A tensor that is missing,
unknown or of another shape is an error. `vit_weights` converts the weights.
"""

import collections
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

from input_pipeline.files import sealed
from xkd_jax.config.rules import whole
from xkd_jax.encoders import descriptions, exports
from xkd_jax.run import saved_checkpoint
from xkd_jax.run.checkpoint import MismatchError
from xkd_jax.run.saved_checkpoint import DamagedError

SUFFIX = ".safetensors"
_FILE = f"model{SUFFIX}"  # in a folder
_MODEL_TYPES = ("vit_mae", "videomae")  # in the config.json of a folder of the Hub
# Heads of the published models by width. The tensors do not show them.
_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16}
# Sizes of the videos that the published VideoMAE models see.
_NUM_FRAMES, _IMAGE_SIZE = 16, 224
_DTYPES = ("F16", "BF16", "F32", "F64")
_QKV = ("query", "key", "value")

Shape = tuple[int, ...]


class _Naming(NamedTuple):
    """Names of tensors by ours.

    Attributes:
        prefixes: What the names of an encoder's tensors may begin with.
        outer: Tensors outside of the blocks.
        image: The tensors that only MAE has.
        block: What the names of a block's tensors begin with after the prefix.
        inner: Tensors of a block.
        optional: Groups of tensors of a block that all blocks have, or none.
    """

    prefixes: tuple[str, ...]
    outer: Mapping[str, str]
    image: Mapping[str, str]
    block: str
    inner: Mapping[str, str]
    optional: tuple[Mapping[str, str], ...]


def _with_bias(names: Mapping[str, str]) -> dict[str, str]:
    return {f"{o}/{kind}": f"{t}.{kind}" for o, t in names.items() for kind in ("weight", "bias")}


_NAMINGS = (
    _Naming(  # of the authors' code
        prefixes=("", "encoder."),
        outer=_with_bias({"patches": "patch_embed.proj", "norm": "norm"}),
        image={"cls_token": "cls_token", "positions": "pos_embed"},
        block="blocks.{}.",
        inner=_with_bias(
            {
                "attention_norm": "norm1",
                "out": "attn.proj",
                "mlp_norm": "norm2",
                "mlp_in": "mlp.fc1",
                "mlp_out": "mlp.fc2",
            }
        )
        | {"qkv/weight": "attn.qkv.weight"},
        optional=(
            {"qkv/bias": "attn.qkv.bias"},
            {"query/bias": "attn.q_bias", "value/bias": "attn.v_bias"},
            {"out/scale": "gamma_1", "mlp_out/scale": "gamma_2"},
        ),
    ),
    _Naming(  # of the Hub
        prefixes=("vit.", "videomae.", ""),
        outer=_with_bias(
            {"patches": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
        ),
        image={
            "cls_token": "embeddings.cls_token",
            "positions": "embeddings.position_embeddings",
        },
        block="encoder.layer.{}.",
        inner=_with_bias(
            {
                "attention_norm": "layernorm_before",
                "out": "attention.output.dense",
                "mlp_norm": "layernorm_after",
                "mlp_in": "intermediate.dense",
                "mlp_out": "output.dense",
            }
        )
        | {f"{x}/weight": f"attention.attention.{x}.weight" for x in _QKV},
        optional=(
            {f"{x}/bias": f"attention.attention.{x}.bias" for x in _QKV},
            {
                "query/bias": "attention.attention.q_bias",
                "value/bias": "attention.attention.v_bias",
            },
        ),
    ),
)
# Tensors that no encoder has, by what they are part of.
_DROPPED = {
    "decoder": r"mask_token|decoder[._].+|encoder_to_decoder\..+",
    "classifier": r"(head|classifier)\.(weight|bias)",
}


class ViT(NamedTuple):
    """What a file holds.

    Attributes:
        path: Path of the file.
        kind: "MAE" or "VideoMAE".
        width: D, the width of the tokens.
        depth: Number of blocks.
        heads: Number of attention heads.
        patch: Size of a patch: (frames, pixels, pixels).
        grid: Token grid of the positions: (time, height, width).
        names: Names of the used tensors by ours, such as "norm/weight", and "3/out/bias" of the
            block with the number 3.
        dropped: Numbers of tensors that are not used, by what they are part of.
    """

    path: pathlib.Path
    kind: str
    width: int
    depth: int
    heads: int
    patch: tuple[int, int, int]
    grid: tuple[int, int, int]
    names: Mapping[str, str]
    dropped: Mapping[str, int]

    def load(self) -> dict[str, np.ndarray]:
        """Loads the used tensors, as float32, by our names.

        Raises:
            DamagedError: The file cannot be read, or a weight is not finite.
        """
        with saved_checkpoint.reading(), safe_open(self.path, "numpy") as file:
            tensors = {
                ours: file.get_tensor(theirs).astype(np.float32)
                for ours, theirs in self.names.items()
            }
        for ours, tensor in tensors.items():
            if not np.isfinite(tensor).all():
                raise DamagedError(f"{self.path}: {self.names[ours]} is not finite")
        return tensors


def is_vit(path: str | os.PathLike) -> bool:
    """Returns whether a path is meant to be of a ViT: any file, or a folder with model.safetensors.

    A folder whose config.json names such a model is, too. Exports of ours, and the files in them,
    are not.
    """
    path = _absolute(path)
    try:
        config = _config(path if path.is_dir() else path.parent)
    except (DamagedError, OSError):  # `read` says so
        config = {}
    if config.get("format") == descriptions.FORMAT:
        return False
    if path.is_dir():
        return (path / _FILE).is_file() or config.get("model_type") in _MODEL_TYPES
    return path.exists() or path.suffix == SUFFIX


def read(path: str | os.PathLike) -> ViT:
    """Reads the names and shapes in a file, and assigns each tensor a part of the encoder.

    Args:
        path: A safetensors file, or a folder with model.safetensors. The config.json beside it, if
            there is one, says what tensors do not show.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: The file, or the config.json beside it, cannot be read.
        MismatchError: It holds another model. The message names the tensor.
    """
    path = _absolute(path)
    path = path / _FILE if path.is_dir() else path
    config = _config(path.parent)
    kind = config.get("model_type", "")  # timm's config.json has none
    if kind and kind not in _MODEL_TYPES:
        raise MismatchError(
            f"{path.parent / exports.CONFIG}: model_type is {kind!r}; allowed: "
            f"{' or '.join(map(repr, _MODEL_TYPES))}"
        )
    shapes = _shapes(path)
    for naming in _NAMINGS:
        for prefix in naming.prefixes:
            if (kernel := prefix + naming.outer["patches/weight"]) in shapes:
                return _assign(path, naming, prefix, shapes, shapes[kernel], config)
    kernels = (n.prefixes[0] + n.outer["patches/weight"] for n in _NAMINGS)
    raise MismatchError(
        f"{path} is no ViT of MAE or VideoMAE: it has neither {' nor '.join(kernels)}"
    )


def _absolute(path: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(os.path.expanduser(path)).absolute()


def _config(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a folder's config.json; nothing if there is none.

    Raises:
        DamagedError: It is not a JSON object.
    """
    path = folder / exports.CONFIG
    try:
        content = sealed.load_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise DamagedError(str(error)) from None
    if not isinstance(content, dict):
        raise DamagedError(f"{path} is damaged: it is not a JSON object")
    return content


def _shapes(path: pathlib.Path) -> dict[str, Shape]:
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file (docs/own_domain.md says how to convert files of PyTorch)"
        )
    if path.suffix != SUFFIX:
        raise MismatchError(
            f"{path} is no {SUFFIX} file; allowed: only these, since reading a pickle can run any "
            "code (docs/own_domain.md says how to convert files of PyTorch)"
        )
    if not path.is_file():  # a pipe would block the whole process
        raise DamagedError(f"{path} is not a regular file")
    try:
        with saved_checkpoint.reading():
            path.open("rb").close()  # safetensors calls any error of the system a missing file
            with safe_open(path, "numpy") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                dtypes = {name: x.get_dtype() for name, x in slices.items()}
                shapes = {name: tuple(x.get_shape()) for name, x in slices.items()}
    except DamagedError as error:
        raise DamagedError(f"{path} cannot be used ({error})") from None
    for name, dtype in dtypes.items():
        if dtype not in _DTYPES:
            raise MismatchError(
                f"{path}: {name} is {dtype}; allowed: {', '.join(_DTYPES)}, as in weights"
            )
    return shapes


def _assign(
    path: pathlib.Path,
    naming: _Naming,
    prefix: str,
    shapes: Mapping[str, Shape],
    kernel: Shape,
    config: Mapping[str, Any],
) -> ViT:
    """Gives every tensor of a file its part of the encoder."""
    if len(kernel) not in (4, 5) or kernel[1] != 3 or 0 in kernel:
        raise MismatchError(
            f"{path}: {prefix}{naming.outer['patches/weight']} is {list(kernel)}; allowed: "
            "[width, 3, height, width], or [width, 3, frames, height, width]"
        )
    is_image = len(kernel) == 4
    patch = (1, *kernel[2:]) if is_image else kernel[2:]
    outer = {**naming.outer, **(naming.image if is_image else {})}
    depth = _depth(prefix + naming.block, shapes)
    names = {
        **{ours: prefix + theirs for ours, theirs in outer.items()},
        **_names_in_blocks(naming, prefix, depth, shapes),
    }
    rest = shapes.keys() - {*names.values()}
    vit = ViT(
        path=path,
        kind="MAE" if is_image else "VideoMAE",
        width=kernel[0],
        depth=depth,
        heads=_heads(path, kernel[0], config),
        patch=patch,
        grid=(
            _image_grid(shapes.get(names["positions"], ()))
            if is_image
            else _video_grid(path, patch, config)
        ),
        names=names,
        dropped=_dropped(path, rest, names["norm/weight"] in shapes),
    )
    for ours, wanted in _wanted(vit):
        if shapes.get(names[ours]) != wanted:
            is_there = f"is {list(shapes[names[ours]])}" if names[ours] in shapes else "is missing"
            raise MismatchError(f"{path}: {names[ours]} {is_there}; allowed: {list(wanted)}")
    _check_activation(path, config)
    return vit


def _depth(block: str, shapes: Mapping[str, Shape]) -> int:
    """Returns the number of blocks, at least 1, by the highest number in the names."""
    pattern = re.compile(re.escape(block).replace(r"\{\}", r"(\d{1,4})"))
    return max((1 + int(found[1]) for found in map(pattern.match, shapes) if found), default=1)


def _names_in_blocks(
    naming: _Naming, prefix: str, depth: int, shapes: Mapping[str, Shape]
) -> dict[str, str]:
    """Returns the names of the blocks' tensors by ours, with those that blocks may have or lack."""

    def of_all(names: Mapping[str, str]) -> dict[str, str]:
        return {
            f"{n}/{ours}": prefix + naming.block.format(n) + theirs
            for n in range(depth)
            for ours, theirs in names.items()
        }

    names = of_all(naming.inner)
    for group in map(of_all, naming.optional):
        if not shapes.keys().isdisjoint(group.values()):
            names |= group
    return names


def _dropped(path: pathlib.Path, rest: set[str], has_norm: bool) -> dict[str, int]:
    """Counts the tensors that have no use, by the reason; refuses those without a reason."""
    if not has_norm and any("fc_norm." in name for name in rest):
        raise MismatchError(
            f"{path} is a finetuned classifier, whose fc_norm is of the mean token; allowed: "
            "weights of the pretraining, which have a norm of all tokens"
        )
    counts: collections.Counter[str] = collections.Counter()
    for name in sorted(rest):
        reasons = [part for part, rule in _DROPPED.items() if re.fullmatch(rule, name)]
        if not reasons:
            raise MismatchError(
                f"{path}: {name} is unknown; allowed: tensors of an encoder of MAE or VideoMAE, "
                f"and those of its {' or '.join(_DROPPED)}, which are not used"
            )
        counts[reasons[0]] += 1
    return dict(counts)


def _wanted(vit: ViT) -> Iterator[tuple[str, Shape]]:
    """Yields the shape of each used tensor."""
    d = vit.width
    shapes: dict[str, Shape] = {
        "cls_token": (1, 1, d),
        "positions": (1, 1 + math.prod(vit.grid), d),
        "patches/weight": (d, 3, *vit.patch[1 if vit.kind == "MAE" else 0 :]),
        "qkv/weight": (3 * d, d),
        "qkv/bias": (3 * d,),
        **{f"{x}/weight": (d, d) for x in (*_QKV, "out")},
        "mlp_in/weight": (4 * d, d),
        "mlp_in/bias": (4 * d,),
        "mlp_out/weight": (d, 4 * d),
    }
    for ours in vit.names:
        number, _, part = ours.partition("/")
        # What remains are biases, norms and scales.
        yield ours, shapes.get(part if number.isdecimal() else ours, (d,))


def _heads(path: pathlib.Path, width: int, config: Mapping[str, Any]) -> int:
    heads = config.get("num_attention_heads", _HEADS.get(width))
    if heads is None:
        raise MismatchError(
            f"{path} has tokens of {width}, and the number of its heads is not known; allowed: "
            f"{', '.join(map(str, _HEADS))}, or a config.json with num_attention_heads beside it"
        )
    return _whole(path, config, "num_attention_heads", heads, width)


def _image_grid(positions: Shape) -> tuple[int, int, int]:
    """Returns the square grid of an image's positions; the nearest if they are none."""
    side = math.isqrt(max(positions[1] - 1, 1)) if len(positions) == 3 else 1
    return 1, side, side


def _video_grid(
    path: pathlib.Path, patch: tuple[int, int, int], config: Mapping[str, Any]
) -> tuple[int, int, int]:
    """Returns the grid of the videos that a VideoMAE model sees."""
    frames = _whole(path, config, "num_frames", _NUM_FRAMES, 1024)
    pixels = _whole(path, config, "image_size", _IMAGE_SIZE, 1024)
    return max(1, frames // patch[0]), max(1, pixels // patch[1]), max(1, pixels // patch[2])


def _whole(
    path: pathlib.Path, config: Mapping[str, Any], name: str, default: int, most: int
) -> int:
    """Returns a number of the Hub's config."""
    value, rule = config.get(name, default), whole(1, most)
    if not rule.holds(value):
        raise MismatchError(
            f"{path.parent / exports.CONFIG}: {name} is {value!r}; allowed: {rule.allowed}"
        )
    return value


def _check_activation(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    activation = config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise MismatchError(
            f"{path.parent / exports.CONFIG}: hidden_act is {activation!r}; allowed: 'gelu'"
        )
