"""What the folder of a partition's finetuning holds besides the run: its plan, and its outcome."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from input_pipeline import sealed
from xkd_jax import checkpoint, telemetry
from xkd_jax.config_check import ConfigError
from xkd_jax.downstream.labelled import Partition
from xkd_jax.downstream.selection import Candidate, Outcome

OUTCOME = "outcome.npz"
_PLAN = "plan.json"
# Sections that may be other when a run goes on: they do not change what comes out.
_FREE = ("log", "saving", "parallel")


def plan(config: ml_collections.ConfigDict, weights: str, partition: Partition) -> dict[str, Any]:
    """All that decides on what comes out of a partition's run, as plain values.

    Args:
        config: Of the run.
        weights: Digest of what it starts with.
        partition: Of the data.
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
    """Makes a partition's folder, or sees to it that it is of the same plan.

    Raises:
        ConfigError: It is of another.
    """
    path = workdir / _PLAN
    try:
        found = sealed.load_json(path)
    except FileNotFoundError:
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            telemetry.write_whole(path, json.dumps(wanted, indent=2).encode())
        return
    change = next(checkpoint.config_changes(found["config"], wanted["config"]), None)
    if change is None and found["weights"] != wanted["weights"]:
        change = "config.checkpoint has other weights now"
    if change is None and found["recordings"] != wanted["recordings"]:
        change = "config.data.path has other recordings now"
    if change:
        raise ConfigError(
            f"{workdir} was begun otherwise: {change}; allowed: the same, or another workdir"
        )


def save_outcome(path: pathlib.Path, outcome: Outcome) -> None:
    """Writes an outcome, whole or not at all."""
    told = {name: getattr(outcome, name) for name in ("varied", "candidates", "chosen", "counts")}
    arrays = {"scores": outcome.scores, "targets": outcome.targets, "told": json.dumps(told)}
    sealed.save_arrays(path, arrays)


def load_outcome(path: pathlib.Path) -> Outcome | None:
    """Reads what `save_outcome` wrote; None where there is none, or it is damaged, as is said."""
    try:
        file = sealed.load_arrays(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        print(f"{error}: the test is done again", flush=True)
        return None
    told = json.loads(str(file["told"]))
    told["candidates"] = tuple(Candidate(*row) for row in told["candidates"])
    return Outcome(scores=file["scores"], targets=file["targets"], **told)
