"""A run's checkpoints: saved in the background, kept by policy, restored to any mesh or refused.

A checkpoint is a folder `<workdir>/checkpoints/<step>` with the whole state and, in its metadata,
a record: the run's resolved config, the step, and a digest of every array. Orbax writes under a
temporary name and renames at the end, so that a step whose writing was cut short is never seen as a
checkpoint, and none is without its record.
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from xkd_jax import digests, saved_checkpoint
from xkd_jax.saved_checkpoint import (
    MARKER,
    DamagedError,
    complete_steps,
    is_checkpoint,
    leaves_by_name,
    named_as_steps,
    read_record,
    reading_checkpoint,
)

_STATE = "state"
# Devices that hold the same array each write a slice of it, where slices are no smaller. Each shape
# and place of a slice is a program to compile: for the small arrays that takes longer than writing.
_SMALLEST_SLICE = 1 << 20


class MismatchError(ValueError):
    """The checkpoint holds the state of another model or optimizer."""


class SaveError(RuntimeError):
    """A checkpoint could not be written, for want of room on the disk perhaps."""


class Checkpoints:
    """The checkpoints of one run. Use it as a context manager: leaving it ends pending writes.

    With several processes, each calls every method, in the same order.

    Args:
        workdir: The run's folder; `checkpoints` in it is made if missing.
        config: The run's resolved config, nested dicts of plain values.
        every_steps: Steps between checkpoints; 0: only those that are asked for by name.
        keep: How many of the newest to keep.
        keep_every_steps: Checkpoints at multiples of it are kept for good; 0: none.
        data: What tells the run's data from others, a dict of plain values; or None.

    Raises:
        DamagedError: A folder in `checkpoints` has the name of a step, but holds no checkpoint, or
            one whose record is damaged or of another step.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        config: dict[str, Any],
        every_steps: int,
        keep: int,
        keep_every_steps: int = 0,
        data: Mapping[str, Any] | None = None,
    ):
        self._data = dict(data or {})
        self._config = json.loads(json.dumps(config))  # what reading it back will give
        self._every_steps = every_steps
        folder = pathlib.Path(workdir).absolute() / "checkpoints"
        _remove_leftovers(folder, keep_every_steps)
        for step in named_as_steps(folder):
            with reading_checkpoint(step):
                read_record(step)
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)]
        if keep_every_steps:
            kept.append(policies.EveryNSteps(keep_every_steps))
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = _SMALLEST_SLICE
        try:
            self._checkpointer = ocp.training.Checkpointer(
                folder,
                context=context,
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            )
        except Exception:
            for step in named_as_steps(folder):  # which one of them it is
                with reading_checkpoint(step):
                    ocp.checkpointables_metadata(step)
            raise
        self._pending_step = None  # that is being written

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def due(self, step: int) -> bool:
        """Whether the cadence asks for a checkpoint after `step`."""
        return self._every_steps > 0 and step % self._every_steps == 0

    def save(self, step: int, state: Any) -> None:
        """Copies the state to the host, and writes it while the run goes on.

        Returns as soon as the devices' buffers may be overwritten. A step that has been saved
        already is left as it is.

        Args:
            step: How many steps `state` has been trained for.
            state: A pytree of arrays.

        Raises:
            SaveError: If this save, or the rest of the previous one, fails.
        """
        if any(checkpoint.step == step for checkpoint in self._checkpointer.checkpoints):
            return
        record = saved_checkpoint.make_record(self._config, step, state, self._data)
        with self._told_of_failure():
            self._checkpointer.wait()
            self._pending_step = step
            # Forced: when to save is decided by `due`, since the loop must know it before the save.
            self._checkpointer.save_checkpointables_async(
                step, {_STATE: state}, force=True, custom_metadata=record
            )

    def finish(self) -> None:
        """Waits until the last save is whole on the disk.

        Raises:
            SaveError: If it fails.
        """
        with self._told_of_failure():
            self._checkpointer.wait()

    @contextlib.contextmanager
    def _told_of_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever Orbax and TensorStore make of a full disk
            step, self._pending_step = self._pending_step, None
            raise SaveError(
                f"Checkpoint {step} cannot be written to {self._checkpointer.directory} "
                f"({saved_checkpoint.what_began(error)}); {self.what_stays()}."
            ) from error

    def what_stays(self) -> str:
        """What there is to go on from when the run has failed, in words for a message."""
        # Not what Orbax counts, which takes the step that is being written for done.
        folder = pathlib.Path(self._checkpointer.directory)
        steps = complete_steps(folder)
        return f"checkpoint {max(steps)} stays" if steps else "there is no checkpoint yet"

    def restore(self, abstract_state: Any) -> Any:
        """Loads the newest complete checkpoint and says so, with all that is new in the config.

        Args:
            abstract_state: A pytree of `jax.ShapeDtypeStruct` with shardings, to which the arrays
                are restored, whatever mesh they were saved from.

        Returns:
            The state, or None where there is no checkpoint.

        Raises:
            MismatchError: If the checkpoint does not fit `abstract_state`; nothing is loaded.
            DamagedError: If it cannot be read, or is not what was saved. None is loaded in its
                place: which steps to lose is for the user to say.
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
        if jax.process_index() == 0:
            print(f"RESTORED step {step} from {path}", flush=True)
            if record.arrays is None:
                print(f"  {saved_checkpoint.UNVERIFIED}", flush=True)
            for change in config_changes(record.config, self._config):
                print(f"  changed since then: {change}", flush=True)
            if record.data and self._data:
                for change in config_changes(record.data, self._data, "data"):
                    print(f"  changed since then: {change}", flush=True)
        return state

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.finish()
        except SaveError:
            if kind is None:  # else there is an error already, this one perhaps
                raise
        finally:
            with contextlib.suppress(Exception):  # that `finish` has told of
                self._checkpointer.close()


def latest_step(workdir: str | os.PathLike) -> int | None:
    """The step of the newest complete checkpoint of a run, or None; nothing is opened for it."""
    return max(complete_steps(pathlib.Path(workdir).absolute() / "checkpoints"), default=None)


def check_fits(
    saved: Any,
    expected: Any,
    path: str | os.PathLike,
    advice: str = "Use the config it was made with, or another workdir.",
) -> None:
    """Compares what a checkpoint holds with what the run is about to train.

    Args:
        saved: A pytree of anything with shape and dtype.
        expected: Likewise; compared by the names of the leaves, so the containers may differ.
        path: Of the checkpoint, for the message.
        advice: What to do, for the end of the message.

    Raises:
        MismatchError: Naming the first leaf, in the order of `expected`, that has another shape or
            dtype or is missing from `saved`, or else the first one that only `saved` has.
    """
    saved, expected = leaves_by_name(saved), leaves_by_name(expected)
    for name in [*expected, *saved]:
        here, there = (_describe(leaves.get(name)) for leaves in (expected, saved))
        if here != there:
            raise MismatchError(
                f"The checkpoint {path} is not of this model: {name} is {here} here and {there} "
                f"in the checkpoint. {advice}"
            )


def config_changes(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "config"
) -> Iterator[str]:
    """Lists where two configs differ, a line `config.field: old -> new` each.

    Args:
        old: Nested dicts of plain values.
        new: Likewise.
        prefix: Of the fields' names.

    Yields:
        The lines, in the order of `new`; a field that one side lacks is `(absent)` there.
    """
    absent = "(absent)"
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key, absent), new.get(key, absent)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from config_changes(before, after, f"{prefix}.{key}")
        elif before != after:
            yield f"{prefix}.{key}: {before} -> {after}"


def _remove_leftovers(folder: pathlib.Path, keep_every_steps: int) -> None:
    """Ends the deletions that a kill cut short: Orbax deletes file by file, under the step's name.

    Raises:
        DamagedError: A folder has the name of a step, but is neither a checkpoint nor the rest of
            one. Orbax would take it for a checkpoint, the highest number for the newest.
    """
    complete = [step for step in named_as_steps(folder) if is_checkpoint(step)]
    leftovers = []
    for step in named_as_steps(folder):
        if step in complete:
            continue
        milestone = keep_every_steps and int(step.name) % keep_every_steps == 0
        newer = [other for other in complete if int(other.name) > int(step.name)]
        if milestone or not newer or not _names(step) <= _names(newer[0]):
            raise DamagedError(
                f"{step} is no checkpoint (it has no {MARKER}), but has the name of one: "
                "move it elsewhere to go on from the others."
            )
        leftovers.append(step)
    multihost_utils.sync_global_devices("leftovers of deletions listed")
    if jax.process_index() == 0:
        for step in leftovers:
            shutil.rmtree(step)
    multihost_utils.sync_global_devices("leftovers of deletions removed")


def _names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _describe(leaf: Any) -> str:
    if leaf is None:
        return "missing"
    return digests.describe(leaf)
