"""Descriptions of weights: all that is needed to use them without the run that made them.

A description has the architecture, the preprocessing, the provenance and the config of the run. The
trees of weights are those of `xkd_jax.method.state.TrainState`:

    params    students' weights
    teacher   teachers' weights
    centers   centers of the teachers' outputs

Trees may be incomplete: those of encoders hold only {network: {modality: {"encoder": ...}}}. Blocks
that the modalities share are under {network: {"shared": ...}}.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from xkd_jax.encoders import description_rules, preprocessing
from xkd_jax.encoders.weight_trees import Path
from xkd_jax.method import augment
from xkd_jax.method.models.patches import token_grid
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import digests

FORMAT = "xkd_jax"
FORMAT_VERSION = 1
# By the users' name of a network, the root of its weights.
NETWORKS = {"teacher": "teacher", "student": "params"}


def encoders_only(path: Path) -> bool:
    """Returns whether a weight belongs to an encoder, given its path."""
    return path[0] in NETWORKS.values() and (path[1] == "shared" or path[2] == "encoder")


def everything(path: Path) -> bool:
    """Returns whether a weight belongs to the model, not the optimizer, given its path."""
    return path[0] in (*NETWORKS.values(), "centers")


def describe(
    config: Mapping[str, Any], trees: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Describes weights so that they can be used without the run that made them.

    Args:
        config: Config of the run (xkd_jax/config/pretraining.py) as nested dictionaries.
        trees: Weights, or anything of the same structure.
        provenance: Plain values that say where the weights come from.

    Returns:
        The description: plain values for config.json.
    """
    model, video, audio = config["model"], config["views"]["video"], config["views"]["audio"]
    preprocessing = {
        "video": {
            "frame_rate": video["frame_rate"],
            "frames": video["global_frames"],
            "size": video["global_size"],
            "mean": [round(float(x), 6) for x in augment.MEAN],
            "std": [round(float(x), 6) for x in augment.STD],
        },
        "audio": {
            "seconds": video["global_frames"] / video["frame_rate"],
            "frames": audio["global_frames"],
            **{name: audio[name] for name in description_rules.LOG_MEL},
        },
    }
    networks = contents(trees)
    held = [m for m in MODALITIES if any(m in parts for parts in networks.values())]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "networks": networks,
        "architecture": {
            "variant": model["variant"],
            **{m: {k: model[m][k] for k in ("patch", "encoder")} for m in held},
        },
        "preprocessing": {m: preprocessing[m] for m in held},
        "provenance": dict(provenance),
        # The whole config, so that the pretraining can be continued.
        "config": dict(config),
    }


def checkpoint(
    path: pathlib.Path, step: int | None, arrays: Mapping[str, str] | None
) -> dict[str, Any]:
    """Returns the provenance of weights from a checkpoint.

    Args:
        path: The checkpoint.
        step: Its step.
        arrays: Digests of its arrays, by which it differs from another one that had this path; None
            in checkpoints from before digests were kept.
    """
    digest = {} if arrays is None else {"state_sha256": digests.of_record(arrays)}
    return {"path": str(path), "step": step, **digest}


def without_folders(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a provenance for others to read, without the folders of the machine of the run.

    A path keeps its last three parts: the run, `checkpoints` and the step.
    """
    short = {
        name: "/".join(pathlib.Path(provenance[name]).parts[-3:])
        for name in ("path", "pretrained")
        if name in provenance
    }
    return {**provenance, **short}


def native_grid(description: Mapping[str, Any], modality: str) -> tuple[int, ...]:
    """Returns the numbers of tokens, by axis, that an encoder was trained on."""
    view = preprocessing.view_shape(description["preprocessing"][modality], modality)
    return token_grid(view, description["architecture"][modality]["patch"])


def contents(trees: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Lists the parts of each network and modality that trees hold."""
    return {
        network: {
            m: sorted({*trees[root][m], *(["encoder"] if "shared" in trees[root] else [])})
            for m in MODALITIES
            if m in trees[root]
        }
        for network, root in NETWORKS.items()
        if root in trees
    }


def have_cls(trees: Mapping[str, Any]) -> bool:
    """Returns whether all encoders of trees have a CLS token."""
    encoders = [
        trees[root][m]["encoder"]
        for root in NETWORKS.values()
        for m in MODALITIES
        if m in trees.get(root, {})
    ]
    return all("cls_token" in encoder for encoder in encoders)


def summary(description: Mapping[str, Any]) -> str:
    """Formats lines that say which networks the weights are of, and what these see."""
    lines = []
    for m in MODALITIES:
        networks = {
            n: ", ".join(parts[m]) for n, parts in description["networks"].items() if m in parts
        }
        if not networks:
            continue
        size, view = description["architecture"][m], description["preprocessing"][m]
        encoder = size["encoder"]
        if m == "video":
            sees = f"{view['frames']} frames of {view['size']}x{view['size']} pixels"
            sees += f" at {view['frame_rate']:g} per second"
        else:
            sees = f"{view['seconds']:.4g} s at {view['sample_rate']} Hz"
            sees += f" as log-mels of {view['mel_bands']}x{view['frames']}"
        lines += [
            f"{m}: width {encoder['width']}, depth {encoder['depth']}, {encoder['heads']} heads",
            f"  sees {sees}, in patches of {'x'.join(map(str, size['patch']))}",
            *(f"  {network}: {parts}" for network, parts in networks.items()),
        ]
    return "\n".join(lines)
