"""Files of a partition's finetuning besides the run itself: its plan and its outcome."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from input_pipeline.files import atomic, sealed
from input_pipeline.programs import former_names
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream.labeled_data import Partition
from xkd_jax.downstream.selection import Candidate, Outcome
from xkd_jax.run import checkpoint, console, processes

OUTCOME = "outcome.npz"
_PLAN = "plan.json"
# Sections that may change when a run is resumed, since they do not influence its outcome.
_FREE = ("log", "saving", "parallel")


def plan(config: ml_collections.ConfigDict, weights: str, partition: Partition) -> dict[str, Any]:
    """Collects everything that a partition's outcome depends on, as plain values.

    Args:
        config: Config of the finetuning.
        weights: Digest of the pretrained weights.
        partition: Partition of the data.

    Returns:
        The keys `config`, without fields that do not matter; `weights`; and `recordings`, a digest.
    """
    config = json.loads(json.dumps(config.to_dict()))
    for section in _FREE:
        del config[section]
    for name in ("path", "partitions", "threads", "prefetch"):
        del config["data"][name]
    del config["checkpoint"]
    recordings = hashlib.sha256()
    for part in partition[1:]:
        if part is not None:
            recordings.update(part.source.fingerprint.encode())
            recordings.update(part.example_ids.tobytes() + part.targets.tobytes())
    return {
        "config": config,
        "weights": weights,
        "recordings": recordings.hexdigest(),
    }


def claim(workdir: pathlib.Path, wanted: Mapping[str, Any]) -> None:
    """Writes the plan into a partition's folder, or checks that the folder has the same plan.

    Args:
        workdir: Folder of the partition. It is created if it is missing.
        wanted: Plan from `plan`.

    Raises:
        ConfigError: The folder has another plan, or results but no plan.
        ValueError: The plan is damaged.
    """
    path = workdir / _PLAN
    try:
        saved = sealed.load_json(path)
    except FileNotFoundError:
        if any((workdir / name).exists() for name in ("checkpoints", OUTCOME)):
            raise ConfigError(
                f"{workdir} has lost {_PLAN}, so its results may be another finetuning's; allowed: "
                "a folder with its plan, or another workdir"
            ) from None
        if processes.is_first():
            atomic.write_text(path, json.dumps(wanted, indent=2))
        return
    whole = isinstance(saved, dict) and saved.keys() == wanted.keys()
    if not whole or not isinstance(saved["config"], dict):
        raise ValueError(f"{path} is damaged: it is not the plan of a finetuning")
    before = former_names.renamed(saved["config"])
    change = next(checkpoint.config_changes(before, wanted["config"]), None)
    if change is None and saved["weights"] != wanted["weights"]:
        change = "config.checkpoint has different weights now"
    if change is None and saved["recordings"] != wanted["recordings"]:
        change = "config.data.path has different recordings now"
    if change:
        raise ConfigError(
            f"{workdir} has a different finetuning: {change}; allowed: the same config and data, "
            "or another workdir"
        )


def save_outcome(path: pathlib.Path, outcome: Outcome, plan: Mapping[str, Any]) -> None:
    """Writes the outcome of a plan, atomically."""
    fields = {name: getattr(outcome, name) for name in ("varied", "candidates", "chosen", "counts")}
    arrays = {"scores": outcome.scores, "targets": outcome.targets, "told": json.dumps(fields)}
    sealed.save_arrays(path, arrays | {"plan": sealed.digest(plan)})


def load_outcome(path: pathlib.Path, plan: Mapping[str, Any]) -> Outcome | None:
    """Reads what `save_outcome` wrote.

    Returns:
        The outcome. None if the file is missing or, with a printed line, if it is damaged or
        another plan's.
    """
    try:
        file = sealed.load_arrays(path)
        if str(file.get("plan")) != sealed.digest(plan):
            raise ValueError(f"{path} is of another finetuning or version")
    except FileNotFoundError:
        return None
    except ValueError as error:
        console.say(f"{error}; the test is repeated")
        return None
    fields = json.loads(str(file["told"]))
    fields["candidates"] = tuple(Candidate(*row) for row in fields["candidates"])
    return Outcome(scores=file["scores"], targets=file["targets"], **fields)
