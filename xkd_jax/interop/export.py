"""Exports the encoders of a run to a self-contained folder with a description.

    python -m xkd_jax.interop.export --checkpoint=runs/mine --output=encoders

--format=orbax and --format=safetensors are for `xkd_jax.load_encoder`. The others need nothing of
this package. --format=huggingface is for `transformers.AutoModel` and `AutoProcessor`, in PyTorch.
--format=stablehlo is for JAX alone: programs with their preprocessing. --format=release is for
users of the authors' PyTorch release: it writes the state dict of each encoder to a file that
`torch.load` reads. --everything adds projectors, decoders and centers: all that a pretraining needs
to continue, except the optimizer's state.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from input_pipeline.files import atomic, sealed
from input_pipeline.programs import program
from xkd_jax.config import pretraining
from xkd_jax.encoders import descriptions, exports, pretrained
from xkd_jax.interop import huggingface, release, stablehlo, torch_files
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import command_line

Tensors = dict[str, np.ndarray]
Writer = Callable[[pathlib.Path, exports.Pretrained, bool], bool]


def export(
    checkpoint: str,
    output: str,
    form: str = "orbax",
    everything: bool = False,
    overwrite: bool = False,
) -> tuple[exports.Pretrained, bool]:
    """Exports weights.

    Args:
        checkpoint: Path of a run, of one of its checkpoints, or of an export.
        output: Folder to write.
        form: One of `FORMATS`.
        everything: Whether to export all networks, not only the encoders.
        overwrite: Whether to replace existing content of `output`.

    Returns:
        The exported weights, and whether anything was written. Nothing is written if `output`
        holds the same already.

    Raises:
        ValueError: `everything` is set, but `checkpoint` holds only encoders or `form` is for
            encoders only; or `form` is `release` and the encoders have no CLS token.
        FileNotFoundError: `checkpoint` does not exist.
        FileExistsError: `output` holds something else, and `overwrite` is not set.
    """
    if everything and form not in exports.STORES:
        raise ValueError(
            f"--everything with --format={form}, which holds encoders only; allowed with "
            f"--everything: {', '.join(exports.STORES)}"
        )
    wanted = descriptions.everything if everything else descriptions.encoders_only
    description, trees = pretrained.load(checkpoint, wanted)
    if everything and description["config"] is None:
        raise ValueError(f"--everything: {checkpoint} holds only encoders")
    description = {**description, "networks": descriptions.contents(trees)}
    exported = exports.Pretrained(description, trees)
    if form in WRITERS:
        return exported, WRITERS[form](pathlib.Path(output).absolute(), exported, overwrite)
    if not everything:
        exported = exports.Pretrained({**description, "config": None}, trees)
    return exported, exports.save(output, exported, form, overwrite)


def write_release(folder: pathlib.Path, weights: exports.Pretrained, overwrite: bool) -> bool:
    """Writes encoders as files of the authors' release, and their description as config.json.

    Args:
        folder: Folder to create, for xkd_vid_teacher.pth.tar and so on.
        weights: The encoders.
        overwrite: Whether to replace existing content of `folder`.

    Returns:
        Whether anything was written. Nothing is written if `folder` holds the same already.

    Raises:
        FileExistsError: `folder` holds something else, and `overwrite` is not set.
        ValueError: The encoders have no CLS token.
    """
    if not descriptions.have_cls(weights.trees):
        raise ValueError(
            "--format=release: the encoders have no CLS token, which the release's have; allowed: "
            f"{', '.join(form for form in FORMATS if form != 'release')}"
        )
    files = {f"xkd_{name}.pth.tar": tensors for name, tensors in backbones(weights).items()}
    description = exports.as_json({**weights.description, "config": None, "weights": "release"}, {})
    if _holds(folder, files, description):
        return False
    with atomic.replacing_folder(folder, overwrite) as draft:
        for name, tensors in files.items():
            with open(draft / name, "wb") as file:
                torch_files.write(file, tensors)
        (draft / exports.CONFIG).write_text(description, "utf-8")
    return True


def _holds(folder: pathlib.Path, files: dict[str, Tensors], description: str) -> bool:
    try:
        if sealed.read(folder / exports.CONFIG).decode() != description:
            return False
        for name, tensors in files.items():
            existing = torch_files.read(folder / name)
            if existing.keys() != tensors.keys() or any(
                not np.array_equal(existing[key], tensors[key], equal_nan=True) for key in tensors
            ):
                return False
    except (OSError, ValueError):
        return False
    return True


def backbones(weights: exports.Pretrained) -> dict[str, Tensors]:
    """Converts encoders to the release's state dicts, by "vid_teacher" and so on."""
    held = {
        (root, m)
        for network, root in descriptions.NETWORKS.items()
        for m in weights.description["networks"].get(network, ())
    }
    tensors = release.to_release(
        weights.trees,
        _model(weights.description),
        lambda path: descriptions.encoders_only(path) and (path[1] == "shared" or path[:2] in held),
    )
    files: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        network, _, name = name.partition(".backbone.")
        files.setdefault(network, {})[name] = tensor
    # The release's order has the final norm last.
    return {
        network: dict(sorted(file.items(), key=lambda item: item[0].startswith("encoder_norm.")))
        for network, file in files.items()
    }


def _model(description: dict[str, Any]) -> xkd.XKD:
    """Builds the model of some encoders; its other parts have the paper's sizes."""
    config = pretraining.get_config()
    architecture, views = description["architecture"], description["preprocessing"]
    config.model.variant = architecture["variant"]
    for m in (m for m in MODALITIES if m in architecture):
        config.model[m].patch = tuple(architecture[m]["patch"])
        config.model[m].encoder.update(architecture[m]["encoder"])
    if "video" in views:
        config.views.video.global_frames = views["video"]["frames"]
        config.views.video.global_size = views["video"]["size"]
    if "audio" in views:
        config.views.audio.mel_bands = views["audio"]["mel_bands"]
        config.views.audio.global_frames = views["audio"]["frames"]
    return xkd.build(config)


# Formats that `load_encoder` does not read.
WRITERS: dict[str, Writer] = {
    "release": write_release,
    "huggingface": huggingface.write,
    "stablehlo": stablehlo.write,
}
FORMATS = (*exports.STORES, *WRITERS)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = program.Parser("xkd_jax.interop.export", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="a run, a checkpoint or an export")
    add("--output", required=True, metavar="DIR", help="folder to write")
    add("--format", choices=FORMATS, default="orbax", help="format of the weights (orbax)")
    add("--everything", action="store_true", help="export projectors, decoders and centers too")
    add("--overwrite", action="store_true", help="replace existing content of --output")
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    with program.errors_in_one_line():
        exported, written = export(
            flags.checkpoint, flags.output, flags.format, flags.everything, flags.overwrite
        )
    print(descriptions.summary(exported.description))
    print(f"{flags.output}: {'written' if written else 'holds the same already, left as it is'}")


if __name__ == "__main__":
    main()
