"""Converts weights of the authors' PyTorch release to a folder that `load_encoder` reads.

    python -m xkd_jax.interop.import_release --input=XKD_ep799 --output=xkd

reads those of XKD_ep799vid_teacher.pth.tar, ...vid_student..., ...aud_teacher... and
...aud_student... that exist. --input may also be one such file, or a full training checkpoint with
projectors, decoders and centers. PyTorch is not needed, and no code in a file is run.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import argparse
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Mapping

import numpy as np

from input_pipeline.programs import program
from xkd_jax.encoders import descriptions, exports
from xkd_jax.interop import release, sizes, torch_files
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import command_line

SUFFIX = ".pth.tar"
ROOTS = descriptions.NETWORKS
_NAMED = re.compile(r"(vid|aud)_(teacher|student)\.pth(\.tar)?$")
_SHOWN = 3  # keys named in an error

Tensors = dict[str, np.ndarray]


class ReleaseError(ValueError):
    """Raised if tensors are not those of a model of the release."""


def backbone_files(prefix: str) -> dict[str, pathlib.Path]:
    """Returns the release's existing backbone files of a prefix, by "vid_teacher" and so on."""
    names = [f"{p}_{network}" for network in ROOTS for p in release.PREFIXES.values()]
    paths = {name: pathlib.Path(f"{prefix}{name}{SUFFIX}") for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}


def read_release(
    source: str, network: str | None = None, given: sizes.StatedSizes | None = None
) -> exports.Pretrained:
    """Reads weights of the release.

    Args:
        source: Path of a file, or the common prefix of several.
        network: `teacher` or `student`, for a backbone file whose name does not say which.
        given: Sizes that cannot be inferred from the tensors.

    Returns:
        The converted weights and their description.

    Raises:
        FileNotFoundError: There is no such file.
        TorchFileError: A file is damaged, holds no tensors, or asks for anything but tensors.
        SizeError: A size cannot be inferred from the tensors.
        ReleaseError: A tensor is unknown, missing, or has the wrong shape or dtype.
    """
    path = pathlib.Path(source)
    files = {"": path} if path.is_file() else backbone_files(source)
    if not files:
        raise FileNotFoundError(
            f"{source}: no such file, nor {source}vid_teacher{SUFFIX} or the like"
        )
    tensors: Tensors = {}
    held = set()
    for name, file in files.items():
        content = torch_files.read(file, entry="model")
        if "" in files and any("_teacher." in key for key in content):
            tensors, held = _full_checkpoint(content), set()
            break
        name = name or _name(file, content, network)
        held.add(name)
        tensors |= {f"{name}.backbone.{key}": tensor for key, tensor in content.items()}

    config = sizes.infer(tensors, given or sizes.StatedSizes())
    model = xkd.build(config)
    wanted = _wanted(held) if held else release.everything
    tensors = _checked(tensors, release.shapes(model, wanted))
    trees = release.from_release(tensors, model, wanted)
    provenance = {
        "source": "release",
        "files": {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files.values()
        },
    }
    description = descriptions.describe(config.to_dict(), trees, provenance)
    # `describe` takes the length of the sound from the config's clip, which backbones do not have.
    if held and "audio" in description["preprocessing"]:
        view = description["preprocessing"]["audio"]
        view["seconds"] = _seconds(view["frames"], view["hop"], view["sample_rate"])
    if held:
        description["config"] = None  # decoders and projectors are not known
    return exports.Pretrained(description, trees)


def _seconds(frames: int, hop: int, sample_rate: int) -> float:
    """Returns the seconds of sound for log-mel frames, in proportion to the release's 4 s for 448.

    The result is at least the length of the frames' hops.
    """
    return max(4.0 * frames / 448, (frames - 1) * hop / sample_rate)


def _name(file: pathlib.Path, tensors: Tensors, network: str | None) -> str:
    """Returns the name of a backbone file's encoder, "vid_teacher" and so on."""
    named = _NAMED.search(file.name)
    network = network or (named and named[2])
    if network is None:
        raise ReleaseError(
            f"the name {file.name} says neither teacher nor student; give --network=teacher or "
            "--network=student"
        )
    for m, prefix in release.PREFIXES.items():
        if f"{release.PATCH_EMBEDDINGS[m]}.proj.weight" in tensors:
            return f"{prefix}_{network}"
    raise ReleaseError(f"{file.name} holds neither a backbone nor a full training checkpoint")


def _wanted(held: set[str]) -> Callable[[tuple[str, ...]], bool]:
    """Returns a filter of paths that passes only the encoders of the given networks."""
    roots = {
        (ROOTS[network], m)
        for network in ROOTS
        for m in MODALITIES
        if f"{release.PREFIXES[m]}_{network}" in held
    }
    return lambda path: path[:2] in roots and path[2] == "encoder"


def _full_checkpoint(tensors: Tensors) -> Tensors:
    """Returns the tensors of a full checkpoint without duplicates and constant gains.

    Raises:
        ReleaseError: Two copies of a tensor differ, or a gain is not 1.
    """
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    needed = {}
    for name, tensor in tensors.items():
        prefix, encoder, rest = name.partition("_ae.encoder.")
        original = f"{prefix}_student.backbone.{rest}"
        if encoder and original in tensors:
            if not np.array_equal(tensor, tensors[original], equal_nan=True):
                raise ReleaseError(
                    f"the tensor {name!r} differs from {original!r}; allowed: equal tensors"
                )
        elif name.endswith(".head.last_layer.weight_g"):
            if np.any(tensor != 1):
                raise ReleaseError(f"the tensor {name!r} is not 1 throughout; allowed: a gain of 1")
        else:
            needed[name] = tensor
    return needed


def _checked(tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """Checks the names, shapes and dtypes of tensors, and converts them to float32."""
    missing = [name for name in shapes if name not in tensors]
    unknown = [name for name in tensors if name not in shapes]
    if missing or unknown:
        problems = [f"missing: {_some(missing)}"] if missing else []
        problems += [f"unknown: {_some(unknown)}"] if unknown else []
        raise ReleaseError(
            f"these are not the tensors of a model of the release: {'; '.join(problems)}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ReleaseError(
                f"the tensor {name!r} has shape {list(tensor.shape)}; the model's other tensors "
                f"require {list(shape)}"
            )
        # To NumPy, bfloat16 is not a floating type.
        if not np.issubdtype(tensor.dtype, np.floating) and tensor.dtype.name != "bfloat16":
            raise ReleaseError(f"the tensor {name!r} is {tensor.dtype}; allowed: floating")
    return {name: tensors[name].astype(np.float32) for name in shapes}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = program.Parser("xkd_jax.interop.import_release", __doc__)
    add = parser.add_argument
    add("--input", required=True, metavar="PREFIX_OR_FILE", help="the release's files")
    add("--output", required=True, metavar="DIR", help="folder to write")
    add("--store", choices=exports.STORES, default="orbax", help="format of weights (orbax)")
    add("--overwrite", action="store_true", help="replace existing content of --output")
    add("--network", choices=tuple(ROOTS), help="network, if the file's name does not say which")
    group = parser.add_argument_group(
        "sizes that cannot be inferred from tensors, for models without the paper's sizes"
    )
    for name in ("video_heads", "audio_heads", "decoder_heads", "frames", "mel_bands"):
        group.add_argument(f"--{name}", type=program.count, metavar="N")
    group.add_argument("--video_patch", type=_extents, metavar="FRAMES,HEIGHT,WIDTH")
    group.add_argument("--audio_patch", type=_extents, metavar="BANDS,FRAMES")
    group.add_argument("--projector_norm", choices=("last", "none"))
    group.add_argument("--variant", choices=xkd.VARIANTS)
    flags = parser.parse_args(arguments)
    fields = [field.name for field in dataclasses.fields(sizes.StatedSizes)]
    given = sizes.StatedSizes(**{name: getattr(flags, name) for name in fields})
    command_line.quieten_libraries()
    with program.errors_in_one_line():
        converted = read_release(flags.input, flags.network, given)
        written = exports.save(flags.output, converted, flags.store, flags.overwrite)
    print(descriptions.summary(converted.description))
    print(f"{flags.output}: {'written' if written else 'holds the same already, left as it is'}")


def _extents(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}; allowed: whole numbers, such as 4,16,16"
        ) from error


if __name__ == "__main__":
    main()
