"""Pretrained weights with their description, loaded from a run or from an export."""

import os
import pathlib
from collections.abc import Callable

from orbax.checkpoint import v1 as ocp

from xkd_jax.encoders import description_rules, descriptions, exports, finetuned, weight_trees
from xkd_jax.encoders.exports import Pretrained
from xkd_jax.encoders.weight_trees import Path
from xkd_jax.run import checkpoint, saved_checkpoint
from xkd_jax.run.saved_checkpoint import DamagedError


def load(
    path: str | os.PathLike, wanted: Callable[[Path], bool] = descriptions.everything
) -> Pretrained:
    """Loads weights; from a run, those of its newest checkpoint.

    Args:
        path: Workdir of a pretraining or of a finetuning, one of its checkpoints, or an export.
        wanted: Function of a weight's path, such as ("teacher", "video", "encoder", "cls_token"),
            that returns whether to load it.

    Returns:
        The wanted weights that exist, and the description of all weights that exist.

    Raises:
        FileNotFoundError: `path` is not a folder.
        DamagedError: `path` is none of these, cannot be read, or differs from what was written.

    Warns:
        UserWarning: The weights were written by a version without digests.
    """
    path = pathlib.Path(os.path.expanduser(path)).absolute()
    if not path.is_dir():
        problem = "is a file" if path.is_file() else "no such folder"
        hint = f"; give its folder, {path.parent}" if path.name in exports.FILES else ""
        raise FileNotFoundError(
            f"{path}: {problem}; allowed: the workdir of a run, or a folder that "
            f"xkd_jax.interop.export or xkd_jax.interop.import_release wrote{hint}"
        )
    return exports.read(path, wanted) or _load_checkpoint(_newest(path), wanted)


def _newest(path: pathlib.Path) -> pathlib.Path:
    """Returns the newest complete checkpoint of a run, or `path` itself if it is a checkpoint."""
    if saved_checkpoint.is_checkpoint(path):
        return path
    # The class that training uses would remove what a running process is still writing.
    step = checkpoint.latest_step(path)
    if step is None and (partition := finetuned.partition(path)) is not None:
        path, step = partition, checkpoint.latest_step(partition)
    if step is None:
        if (
            path.name == "checkpoints"
            and (step_of_run := checkpoint.latest_step(path.parent)) is not None
        ):
            raise DamagedError(
                f"{path} holds the checkpoints of a run; give the run, {path.parent}, or one of "
                f"them, such as {path / str(step_of_run)}"
            )
        raise DamagedError(
            f"{path} holds no weights: it has neither the checkpoints of a run nor the "
            f"{exports.CONFIG} of an export (convert weights of the authors' release with "
            "xkd_jax.interop.import_release first)"
        )
    return path / "checkpoints" / str(step)


def _load_checkpoint(path: pathlib.Path, wanted: Callable[[Path], bool]) -> Pretrained:
    with saved_checkpoint.reading_checkpoint(path):
        record = saved_checkpoint.read_record(path)
        state = ocp.checkpointables_metadata(path).metadata.get("state")
        saved_checkpoint.check_listed(record, state)
    task = record.config.get("task")
    if task == "attentive":
        raise DamagedError(
            f"{path} is a checkpoint of an attentive probe, which leaves encoders as they are; "
            "allowed: of a pretraining or a finetuning"
        )
    if task == "finetune":
        description, trees = finetuned.load(path, record, state, wanted)
        with saved_checkpoint.reading_checkpoint(path):
            description_rules.check(description)
        return Pretrained(description, trees)
    with saved_checkpoint.reading_checkpoint(path):
        trees = weight_trees.load(path, "state", state, wanted)
        weight_trees.check(path, trees, record.arrays, wanted)
        step = int(path.name) if record.step is None else record.step
        provenance = {"source": "run", **descriptions.checkpoint(path, step, record.arrays)}
        description = descriptions.describe(record.config, state, provenance)
        description_rules.check(description)
        return Pretrained(description, trees)
