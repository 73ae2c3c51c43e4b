"""Converts weights of the authors' PyTorch release to a folder that `load_encoder` reads.

    python -m xkd_jax.interop.import_release --input=XKD_ep799 --output=xkd

reads XKD_ep799vid_teacher.pth.tar, ...vid_student..., ...aud_teacher... and ...aud_student...,
as many of them as there are. --input may also be one such file, or a full training checkpoint with
heads, decoders and centers. PyTorch is not needed, and nothing that a file says is run.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline import program

    program.start()

import argparse
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Mapping

import numpy as np

from xkd_jax import command_line
from xkd_jax.interop import pretrained, release, sizes, torch_files
from xkd_jax.models import xkd
from xkd_jax.models.xkd import MODALITIES

SUFFIX = ".pth.tar"
ROOTS = pretrained.NETWORKS
_NAMED = re.compile(r"(vid|aud)_(teacher|student)\.pth(\.tar)?$")
_SHOWN = 3  # keys named in an error

Tensors = dict[str, np.ndarray]


class ReleaseError(ValueError):
    """The tensors are not those of a model of the release."""


def backbone_files(prefix: str) -> dict[str, pathlib.Path]:
    """The release's backbone files of a prefix that there are, by "vid_teacher" and so on."""
    names = [f"{p}_{network}" for network in ROOTS for p in release.PREFIXES.values()]
    paths = {name: pathlib.Path(f"{prefix}{name}{SUFFIX}") for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}


def read_release(
    source: str, network: str | None = None, given: sizes.Given | None = None
) -> pretrained.Pretrained:
    """Reads weights of the release.

    Args:
        source: A file, or what the names of several begin with.
        network: teacher or student, of a backbone file whose name does not tell.
        given: Sizes that the tensors do not tell.

    Returns:
        The weights in our form, and what they are.

    Raises:
        FileNotFoundError: There is no such file.
        TorchFileError: A file is not one of tensors, or asks for more than that.
        SizeError: A size cannot be told from the tensors.
        ReleaseError: A tensor is unknown, missing or misshapen.
    """
    path = pathlib.Path(source)
    files = {"": path} if path.is_file() else backbone_files(source)
    if not files:
        raise FileNotFoundError(
            f"{source}: no such file, and none called {source}vid_teacher{SUFFIX} or the like"
        )
    tensors: Tensors = {}
    held = set()
    for name, file in files.items():
        found = torch_files.read(file, entry="model")
        if "" in files and any("_teacher." in key for key in found):
            tensors, held = _full_checkpoint(found), set()
            break
        name = name or _name(file, found, network)
        held.add(name)
        tensors |= {f"{name}.backbone.{key}": tensor for key, tensor in found.items()}

    config = sizes.infer(tensors, given or sizes.Given())
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
    description = pretrained.describe(config.to_dict(), trees, provenance)
    # The length of the sound is the config's clip, which a backbone of sound says nothing of.
    if held and "audio" in description["preprocessing"]:
        view = description["preprocessing"]["audio"]
        view["seconds"] = _seconds(view["frames"], view["hop"], view["sample_rate"])
    if held:
        description["config"] = None  # decoders and projectors are not known
    return pretrained.Pretrained(description, trees)


def _digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _seconds(frames: int, hop: int, sample_rate: int) -> float:
    """The length of sound for log-mel frames: 4 s for 448, as in the release, and in proportion."""
    return max(4.0 * frames / 448, (frames - 1) * hop / sample_rate)


def _name(file: pathlib.Path, tensors: Tensors, network: str | None) -> str:
    """Of which modality and network a backbone file is, "vid_teacher" and so on."""
    named = _NAMED.search(file.name)
    network = network or (named and named[2])
    if network is None:
        raise ReleaseError(
            f"{file.name} does not say of which network it is; give --network=teacher or "
            "--network=student"
        )
    for m, prefix in release.PREFIXES.items():
        if f"{release.PATCH_EMBEDDINGS[m]}.proj.weight" in tensors:
            return f"{prefix}_{network}"
    raise ReleaseError(f"{file.name} holds neither a backbone nor a full training checkpoint")


def _wanted(held: set[str]) -> Callable[[tuple[str, ...]], bool]:
    """Wants the encoders of the networks held, and nothing else."""
    roots = {
        (ROOTS[network], m)
        for network in ROOTS
        for m in MODALITIES
        if f"{release.PREFIXES[m]}_{network}" in held
    }
    return lambda path: path[:2] in roots and path[2] == "encoder"


def _full_checkpoint(tensors: Tensors) -> Tensors:
    """The tensors of a full checkpoint without what the release lists twice or keeps constant."""
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    kept = {}
    for name, tensor in tensors.items():
        prefix, encoder, rest = name.partition("_ae.encoder.")
        original = f"{prefix}_student.backbone.{rest}"
        if encoder and original in tensors:
            if not np.array_equal(tensor, tensors[original], equal_nan=True):
                raise ReleaseError(f"the tensor {name!r} is not that of {original!r}, its double")
        elif name.endswith(".head.last_layer.weight_g"):
            if np.any(tensor != 1):
                raise ReleaseError(f"the tensor {name!r} is not 1 throughout, as the gain is here")
        else:
            kept[name] = tensor
    return kept


def _checked(tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """The tensors as float32, if they are all and as large as they have to be."""
    missing = [name for name in shapes if name not in tensors]
    unknown = [name for name in tensors if name not in shapes]
    if missing or unknown:
        wrong = [f"missing: {_some(missing)}"] if missing else []
        wrong += [f"unknown: {_some(unknown)}"] if unknown else []
        raise ReleaseError(
            f"these are not the tensors of a model of the release: {'; '.join(wrong)}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ReleaseError(
                f"the tensor {name!r} is of shape {list(tensor.shape)}; the others of this model "
                f"ask for {list(shape)}"
            )
        # bfloat16 is a kind of its own in NumPy.
        if not np.issubdtype(tensor.dtype, np.floating) and tensor.dtype.name != "bfloat16":
            raise ReleaseError(f"the tensor {name!r} is {tensor.dtype}; allowed: floating")
    return {name: tensors[name].astype(np.float32) for name in shapes}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def main(arguments: list[str] | None = None) -> None:
    """Converts what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m xkd_jax.interop.import_release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--input", required=True, metavar="PREFIX_OR_FILE", help="of the release's files")
    add("--output", required=True, metavar="DIR", help="folder to write")
    add("--store", choices=pretrained.STORES, default="orbax", help="of the weights (orbax)")
    add("--overwrite", action="store_true", help="replace what is at --output")
    add("--network", choices=tuple(ROOTS), help="of a file whose name does not tell")
    group = parser.add_argument_group(
        "sizes that tensors do not tell, for models that are not of the paper's sizes"
    )
    for name in ("video_heads", "audio_heads", "decoder_heads", "frames", "mel_bands"):
        group.add_argument(f"--{name}", type=int, metavar="N")
    group.add_argument("--video_patch", type=_extents, metavar="FRAMES,HEIGHT,WIDTH")
    group.add_argument("--audio_patch", type=_extents, metavar="BANDS,FRAMES")
    group.add_argument("--projector_norm", choices=("last", "none"))
    group.add_argument("--variant", choices=xkd.VARIANTS)
    flags = parser.parse_args(arguments)
    fields = [field.name for field in dataclasses.fields(sizes.Given)]
    given = sizes.Given(**{name: getattr(flags, name) for name in fields})
    command_line.quieten_libraries()
    with command_line.errors_in_one_line():
        found = read_release(flags.input, flags.network, given)
        written = pretrained.save(flags.output, found, flags.store, flags.overwrite)
    print(pretrained.summary(found.description))
    print(f"{flags.output}: {'written' if written else 'holds the same already, left as it is'}")


def _extents(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
