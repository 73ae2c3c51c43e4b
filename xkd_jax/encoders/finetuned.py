"""The encoders of a finished finetuning, without their head.

A finetuning's checkpoint holds the weights, and `results.json` beside its partitions says what they
were finetuned from. Where the finetuning chose an epoch, the weights are those of that epoch, which
`results.json` reports.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from input_pipeline.files import sealed
from xkd_jax.encoders import descriptions, weight_trees
from xkd_jax.encoders.weight_trees import Path
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import checkpoint, saved_checkpoint
from xkd_jax.run.saved_checkpoint import DamagedError

_RESULTS = "results.json"


class Finetuned(NamedTuple):
    """Weights and their description, as in `exports.Pretrained`."""

    description: dict[str, Any]
    trees: dict[str, Any]


def partition(workdir: pathlib.Path) -> pathlib.Path | None:
    """Returns the only partition of a finetuning's workdir; None for any other folder.

    Raises:
        DamagedError: There are several partitions.
    """
    if not (workdir / _RESULTS).is_file():
        return None
    runs = [
        path
        for path in sorted(workdir.iterdir())
        if path.is_dir() and checkpoint.latest_step(path) is not None
    ]
    if len(runs) > 1:
        raise DamagedError(
            f"{workdir} holds {len(runs)} finetuned partitions; give one of them: "
            f"{', '.join(str(run) for run in runs)}"
        )
    return runs[0] if runs else None


def load(
    path: pathlib.Path,
    record: saved_checkpoint.Record,
    saved: Any,
    wanted: Callable[[Path], bool],
) -> Finetuned:
    """Loads the encoders of a finetuning's checkpoint.

    Args:
        path: The checkpoint, `<workdir>/<partition>/checkpoints/<step>`.
        record: Its record.
        saved: Pytree of its arrays' shapes and dtypes.
        wanted: As for `pretrained.load`.

    Raises:
        DamagedError: The finetuning has not ended, or its files are damaged.
    """
    origin = _origin(path.parents[2], path)
    architecture = origin["architecture"]
    held = [m for m in MODALITIES if m in architecture]
    root = descriptions.NETWORKS[origin["network"]]
    names = [name for name, _ in weight_trees.flatten(saved)]
    chosen = "best" if any(name[0] == "best" for name in names) else "params"

    def as_pretrained(name: Path) -> Path | None:
        """Converts the path of an array in the checkpoint; None if it is not an encoder's."""
        if name[:2] != (chosen, "encoder"):
            return None
        modality, rest = (held[0], name[2:]) if len(held) == 1 else (name[2], name[3:])
        return (root, modality, "encoder", *rest)

    def is_wanted(name: Path) -> bool:
        converted = as_pretrained(name)
        return converted is not None and wanted(converted)

    with saved_checkpoint.reading_checkpoint(path):
        trees = weight_trees.load(path, "state", saved, is_wanted)
        weight_trees.check(path, trees, record.arrays, is_wanted)
    leaves = jax.tree.leaves(trees)
    if chosen == "best" and leaves and not any(np.any(leaf) for leaf in leaves):
        raise DamagedError(f"{path} is older than the finetuning's first evaluation")
    preprocessing = {m: dict(origin["preprocessing"][m]) for m in held}
    if "video" in held and record.config.get("frame_size"):
        preprocessing["video"]["size"] = record.config["frame_size"]
    description = {
        "format": descriptions.FORMAT,
        "format_version": descriptions.FORMAT_VERSION,
        "networks": {origin["network"]: {m: ["encoder"] for m in held}},
        # Each encoder has its own blocks, whatever it was finetuned from.
        "architecture": {"variant": "xkd", **{m: architecture[m] for m in held}},
        "preprocessing": preprocessing,
        "provenance": {
            "source": "finetuning",
            **descriptions.checkpoint(path, record.step, record.arrays),
            "pretrained": origin["path"],
        },
        "config": None,
    }
    flat = {as_pretrained(name): leaf for name, leaf in weight_trees.flatten(trees)}
    return Finetuned(description, weight_trees.nest(flat))


def _origin(workdir: pathlib.Path, path: pathlib.Path) -> dict[str, Any]:
    """Reads from `results.json` what was finetuned."""
    results = workdir / _RESULTS
    try:
        content = sealed.load_json(results)
    except FileNotFoundError:
        raise DamagedError(
            f"{path} is a checkpoint of a finetuning that has not ended, as there is no {results}; "
            "allowed: of a pretraining, or of a finetuning that has ended"
        ) from None
    except ValueError as error:
        raise DamagedError(str(error)) from None
    origin = content.get("checkpoint") if isinstance(content, dict) else None
    kinds = {"path": str, "network": str, "architecture": dict, "preprocessing": dict}
    whole = isinstance(origin, dict) and all(
        isinstance(origin.get(name), kind) for name, kind in kinds.items()
    )
    if (
        not whole
        or origin["network"] not in descriptions.NETWORKS
        or not {*origin["architecture"]} & {*MODALITIES}
        or not all(isinstance(origin["preprocessing"].get(m), dict) for m in origin["architecture"])
    ):
        raise DamagedError(f"{results} is damaged: it does not say what was finetuned")
    return origin
