"""Checkpoints of a run: saved in the background, kept by policy, restored to any mesh or refused.

A checkpoint is a folder `<workdir>/checkpoints/<step>`. It holds the whole state and, in its
metadata, a record with the resolved config, the step, and a digest of every array. Orbax writes
under a temporary name and renames at the end, so an interrupted save never looks like a checkpoint,
and every checkpoint has its record.
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, Self

from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from input_pipeline.programs import former_names
from xkd_jax.run import console, digests, processes, saved_checkpoint
from xkd_jax.run.saved_checkpoint import (
    complete_steps,
    leaves_by_name,
    named_as_steps,
    read_record,
    reading_checkpoint,
    sort_steps,
)

_STATE = "state"
# Smallest slice in bytes. Devices that hold the same array each write a slice of it. JAX compiles a
# program for each shape and place of a slice, which for small arrays takes longer than writing.
_SMALLEST_SLICE = 1 << 20


class MismatchError(ValueError):
    """The checkpoint holds the state of another model or optimizer."""


class SaveError(RuntimeError):
    """A checkpoint cannot be written, for example because the disk is full."""


class Checkpoints:
    """The checkpoints of one run. As a context manager, it waits at its end for pending writes.

    If there are several processes, all must call the same methods in the same order.

    Args:
        workdir: Folder of the run; its folder `checkpoints` is created if it does not exist.
        config: Resolved config of the run, nested dicts of plain values.
        every_steps: Steps between two checkpoints, see `due`; 0: only those that are kept for good.
        keep: Number of the newest checkpoints to keep.
        keep_every_steps: Checkpoints at multiples of this step are due, and are never deleted; 0:
            none.
        milestones: Number of equal parts of the run, at whose ends checkpoints are due and are
            never deleted, instead of at multiples of `keep_every_steps`; 0: none.
        total_steps: Length of the run, which `milestones` needs.
        data: Dict of plain values that identifies the run's data; or None.

    Raises:
        DamagedError: A folder in `checkpoints` is named like a step but is not a checkpoint, or its
            record is damaged or of another step.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        config: dict[str, Any],
        every_steps: int,
        keep: int,
        keep_every_steps: int = 0,
        milestones: int = 0,
        total_steps: int = 0,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self._data = dict(data or {})
        self._config = json.loads(json.dumps(config))  # as it will be read from the file
        if milestones:
            keep_every_steps = interval(total_steps, milestones)
        self._intervals = [steps for steps in (every_steps, keep_every_steps) if steps]
        folder = pathlib.Path(workdir).absolute() / "checkpoints"
        _remove_leftovers(folder, keep_every_steps)
        for step in named_as_steps(folder):
            with reading_checkpoint(step):
                read_record(step)
        policies = ocp.training.preservation_policies
        preserved = [policies.LatestN(keep)]
        if keep_every_steps:
            preserved.append(policies.EveryNSteps(keep_every_steps))
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = _SMALLEST_SLICE
        try:
            self._checkpointer = ocp.training.Checkpointer(
                folder,
                context=context,
                preservation_policy=policies.AnyPreservationPolicy(preserved),
                cleanup_tmp_directories=True,
            )
        except Exception:
            for step in named_as_steps(folder):  # finds the checkpoint to name in the error
                with reading_checkpoint(step):
                    ocp.checkpointables_metadata(step)
            raise
        self._pending_step = None  # the step that is being written

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def due(self, step: int) -> bool:
        """Returns whether a checkpoint is due after `step`."""
        return any(step % steps == 0 for steps in self._intervals)

    def save(self, step: int, state: Any) -> None:
        """Copies the state to the host, and writes it to the disk in the background.

        Returns as soon as the buffers on the devices may be overwritten. Does nothing if the step
        is already saved.

        Args:
            step: Number of steps that `state` has been trained for.
            state: A pytree of arrays.

        Raises:
            SaveError: This save, or the previous one in the background, has failed.
        """
        if any(checkpoint.step == step for checkpoint in self._checkpointer.checkpoints):
            return
        record = saved_checkpoint.make_record(self._config, step, state, self._data)
        with self._reporting_failure():
            self._checkpointer.wait()
            self._pending_step = step
            # Forced, because `due` decides when to save: the loop must know it before the save.
            self._checkpointer.save_checkpointables_async(
                step, {_STATE: state}, force=True, custom_metadata=record
            )

    def finish(self) -> None:
        """Waits until the last save is complete on the disk.

        Raises:
            SaveError: The save has failed.
        """
        with self._reporting_failure():
            self._checkpointer.wait()

    @contextlib.contextmanager
    def _reporting_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise many types for a full disk
            step, self._pending_step = self._pending_step, None
            raise SaveError(
                f"Checkpoint {step} cannot be written to {self._checkpointer.directory} "
                f"({saved_checkpoint.first_cause(error)}); {self.remaining()}."
            ) from error

    def remaining(self) -> str:
        """Says, for an error message, which checkpoint a failed run can resume from."""
        # Orbax would count the step that is being written.
        folder = pathlib.Path(self._checkpointer.directory)
        steps = complete_steps(folder)
        return f"checkpoint {max(steps)} stays" if steps else "there is no checkpoint yet"

    def restore(self, abstract_state: Any) -> Any:
        """Loads the newest complete checkpoint; prints its step and what the config changes.

        Args:
            abstract_state: A pytree of `jax.ShapeDtypeStruct` with shardings. The arrays are
                restored to these, whatever mesh they were saved from.

        Returns:
            The state, or None if there is no checkpoint.

        Raises:
            MismatchError: The checkpoint does not fit `abstract_state`; nothing is loaded.
            DamagedError: The checkpoint cannot be read, or is not what was saved. An older one is
                not loaded instead: the user decides which steps to lose.
        """
        step = self.latest_step
        if step is None:
            return None
        path = pathlib.Path(self._checkpointer.directory) / str(step)
        with reading_checkpoint(path):
            record = read_record(path)
            saved = self._checkpointer.checkpointables_metadata(step).metadata.get(_STATE)
            saved_checkpoint.check_listed(record, saved)
        check_fits(saved, abstract_state, path)
        with reading_checkpoint(path):
            state = self._checkpointer.load_checkpointables(step, {_STATE: abstract_state})[_STATE]
            if record.arrays is not None:
                saved_checkpoint.check_arrays(leaves_by_name(state), record.arrays)
        console.say(f"RESTORED step {step} from {path}")
        if record.arrays is None:
            console.say(f"  {saved_checkpoint.UNVERIFIED}")
        for change in config_changes(former_names.renamed(record.config), self._config):
            console.say(f"  changed since then: {change}")
        if record.data and self._data:
            for change in config_changes(record.data, self._data, "data"):
                console.say(f"  changed since then: {change}")
        return state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.finish()
        except SaveError:
            if kind is None:  # otherwise an error is already on its way, perhaps this one
                raise
        finally:
            with contextlib.suppress(Exception):  # `finish` has reported it
                self._checkpointer.close()


def interval(total_steps: int, parts: int) -> int:
    """Returns the steps between the ends of equal parts of a run; the last part may be shorter."""
    return max(1, -(-total_steps // parts))


def latest_step(workdir: str | os.PathLike) -> int | None:
    """Returns the step of a run's newest complete checkpoint, or None, without opening it.

    Raises:
        DamagedError: As for `sort_steps`.
    """
    complete, _ = sort_steps(pathlib.Path(workdir).absolute() / "checkpoints")
    return max((int(step.name) for step in complete), default=None)


def check_fits(
    saved: Any,
    expected: Any,
    path: str | os.PathLike,
    advice: str = "Use the config it was made with, or another workdir.",
) -> None:
    """Checks that the arrays of a checkpoint have the names, shapes and dtypes of a run's state.

    Args:
        saved: Pytree of the checkpoint, whose leaves have a shape and a dtype.
        expected: Pytree of the run, whose leaves have a shape and a dtype. Leaves are compared by
            name, so the types of the containers may differ.
        path: Path of the checkpoint, for the message.
        advice: What the user can do, for the end of the message.

    Raises:
        MismatchError: The first leaf of `expected` that `saved` lacks, or has with another shape or
            dtype; or else the first leaf that only `saved` has.
    """
    saved, expected = leaves_by_name(saved), leaves_by_name(expected)
    for name in [*expected, *saved]:
        expected_form, saved_form = (_describe(leaves.get(name)) for leaves in (expected, saved))
        if expected_form != saved_form:
            raise MismatchError(
                f"The checkpoint {path} is of another model: {name} is {expected_form} here and "
                f"{saved_form} in the checkpoint. {advice}"
            )


def config_changes(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "config"
) -> Iterator[str]:
    """Lists the differences of two configs as lines `config.field: old -> new`.

    Args:
        old: Nested dicts of plain values.
        new: Nested dicts of plain values.
        prefix: Prefix of the names of fields.

    Yields:
        The lines, in the order of `new`. The value of a missing field is `(absent)`.
    """
    absent = "(absent)"
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key, absent), new.get(key, absent)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from config_changes(before, after, f"{prefix}.{key}")
        elif before != after:
            yield f"{prefix}.{key}: {before} -> {after}"


def _remove_leftovers(folder: pathlib.Path, keep_every_steps: int) -> None:
    """Completes deletions that a kill has interrupted: Orbax deletes a checkpoint file by file.

    Args:
        folder: Folder of the checkpoints.
        keep_every_steps: As for `Checkpoints`.

    Raises:
        DamagedError: As for `sort_steps`.
    """
    _, leftovers = sort_steps(folder, keep_every_steps)
    multihost_utils.sync_global_devices("leftovers of deletions listed")
    if processes.is_first():
        for step in leftovers:
            shutil.rmtree(step)
    multihost_utils.sync_global_devices("leftovers of deletions removed")


def _describe(leaf: Any) -> str:
    if leaf is None:
        return "missing"
    return digests.describe(leaf)
