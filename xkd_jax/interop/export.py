"""Writes the encoders of a run to a folder that says what it holds and needs nothing else.

    python -m xkd_jax.interop.export --checkpoint=runs/mine --output=encoders

--format=orbax and --format=safetensors are for `xkd_jax.load_encoder`; --format=release is for
users of the authors' PyTorch release: the state dict of each encoder, as a file that `torch.load`
reads. --everything adds heads, decoders and centers: all that a pretraining goes on from but for
the optimizer's state.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline import program

    program.start()

import argparse
import pathlib
from typing import Any

import numpy as np

from configs import base
from xkd_jax import command_line
from xkd_jax.interop import pretrained, release, torch_files
from xkd_jax.models import xkd
from xkd_jax.models.xkd import MODALITIES

FORMATS = (*pretrained.STORES, "release")

Tensors = dict[str, np.ndarray]


def export(
    checkpoint: str,
    output: str,
    form: str = "orbax",
    everything: bool = False,
    overwrite: bool = False,
) -> tuple[pretrained.Pretrained, bool]:
    """Exports weights.

    Args:
        checkpoint: What `xkd_jax.load_encoder` takes: a run, one of its checkpoints, an export.
        output: Folder to write.
        form: Out of `FORMATS`.
        everything: Whether to write all networks, not the encoders alone.
        overwrite: Whether to replace what is there.

    Returns:
        What was exported, and whether anything was written: not where the same is there already.

    Raises:
        ValueError: `everything` is asked for where it is not there, or in the release's format.
        FileNotFoundError: There is nothing at `checkpoint`.
        FileExistsError: There is something else at `output`, and `overwrite` is not set.
    """
    if everything and form == "release":
        raise ValueError(
            "--everything with --format=release: what the release goes on from has its optimizer's "
            f"state too, which is not ours; allowed: {', '.join(pretrained.STORES)}"
        )
    wanted = pretrained.everything if everything else pretrained.encoders_only
    description, trees = pretrained.load(checkpoint, wanted)
    if everything and description["config"] is None:
        raise ValueError(f"--everything: {checkpoint} holds encoders alone")
    description = {**description, "networks": pretrained.contents(trees)}
    if not everything:
        description["config"] = None
    found = pretrained.Pretrained(description, trees)
    if form == "release":
        return found, write_release(pathlib.Path(output).absolute(), found, overwrite)
    return found, pretrained.save(output, found, form, overwrite)


def write_release(folder: pathlib.Path, found: pretrained.Pretrained, overwrite: bool) -> bool:
    """Writes encoders as files of the authors' release, and config.json beside them.

    Args:
        folder: Made here; in it, xkd_vid_teacher.pth.tar and so on.
        found: The encoders.
        overwrite: Whether to replace what is there.

    Returns:
        Whether anything was written: not where the same is there already.

    Raises:
        FileExistsError: There is something else, and `overwrite` is not set.
    """
    files = {f"xkd_{name}.pth.tar": tensors for name, tensors in backbones(found).items()}
    description = pretrained.as_json({**found.description, "weights": "release"}, {})
    if _holds(folder, files, description):
        return False
    with pretrained.replacing(folder, overwrite) as draft:
        for name, tensors in files.items():
            with open(draft / name, "wb") as file:
                torch_files.write(file, tensors)
        (draft / pretrained.CONFIG).write_text(description, "utf-8")
    return True


def _holds(folder: pathlib.Path, files: dict[str, Tensors], description: str) -> bool:
    try:
        if (folder / pretrained.CONFIG).read_text("utf-8") != description:
            return False
        for name, tensors in files.items():
            there = torch_files.read(folder / name)
            if there.keys() != tensors.keys() or any(
                not np.array_equal(there[key], tensors[key], equal_nan=True) for key in tensors
            ):
                return False
    except (OSError, ValueError):
        return False
    return True


def backbones(found: pretrained.Pretrained) -> dict[str, Tensors]:
    """The state dicts that the release has of encoders, by "vid_teacher" and so on."""
    held = {
        (root, m)
        for network, root in pretrained.NETWORKS.items()
        for m in found.description["networks"].get(network, ())
    }
    tensors = release.to_release(
        found.trees,
        _model(found.description),
        lambda path: pretrained.encoders_only(path) and (path[1] == "shared" or path[:2] in held),
    )
    files: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        network, _, name = name.partition(".backbone.")
        files.setdefault(network, {})[name] = tensor
    # In the release's order, in which the last norm comes last.
    return {
        network: dict(sorted(file.items(), key=lambda item: item[0].startswith("encoder_norm.")))
        for network, file in files.items()
    }


def _model(description: dict[str, Any]) -> xkd.XKD:
    """The model that encoders are of; what is not theirs is the paper's."""
    config = base.get_config()
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


def main(arguments: list[str] | None = None) -> None:
    """Exports what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m xkd_jax.interop.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="a run, a checkpoint or an export")
    add("--output", required=True, metavar="DIR", help="folder to write")
    add("--format", choices=FORMATS, default="orbax", help="of the weights (orbax)")
    add("--everything", action="store_true", help="heads, decoders and centers too")
    add("--overwrite", action="store_true", help="replace what is at --output")
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    with command_line.errors_in_one_line():
        found, written = export(
            flags.checkpoint, flags.output, flags.format, flags.everything, flags.overwrite
        )
    print(pretrained.summary(found.description))
    print(f"{flags.output}: {'written' if written else 'holds the same already, left as it is'}")


if __name__ == "__main__":
    main()
