"""Checkpoints on the disk: finding them, reading their records, and detecting damage.

Orbax and TensorStore do not notice a flipped bit of an array, and Orbax reads a metadata file that
it cannot parse as empty. So the metadata of a checkpoint contain a record with the digests of all
arrays and a digest of the record itself.
"""

import contextlib
import json
import os
import pathlib
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import jax

from xkd_jax.run import digests, orbax_noise

UNVERIFIED = "made before digests were kept: damage to its arrays would not be noticed"
MARKER = "_CHECKPOINT_METADATA"  # Orbax's file in every complete checkpoint


class DamagedError(ValueError):
    """A folder is not a checkpoint as expected, cannot be read, or is not what was saved."""


class Record(NamedTuple):
    """The record in a checkpoint's metadata.

    Attributes:
        config: Resolved config of the run.
        step: Step of the checkpoint; None in checkpoints from before digests were kept.
        arrays: Digest of each array of the state, see `digests.of_arrays`; None in checkpoints from
            before digests were kept.
        data: Plain values that identify the run's data; None if the checkpoint has none.
    """

    config: dict[str, Any]
    step: int | None
    arrays: dict[str, str] | None
    data: dict[str, Any] | None = None


def named_as_steps(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the paths in a folder of checkpoints that are named like a step, checkpoints or not.

    Raises:
        DamagedError: A name is a number in another form, such as "06". Orbax would ignore it.
        OSError: The folder exists but cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = sorted(folder / name for name in names if name.isdecimal())
    for path in paths:
        if path.name != str(int(path.name)):
            raise DamagedError(
                f"{path} is named like a step, but not as checkpoints are: rename it to "
                f"{int(path.name)}, or move it elsewhere"
            )
    return paths


def sort_steps(
    folder: pathlib.Path, keep_every_steps: int = 0
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Separates complete checkpoints from what deletions that were cut short have left.

    Args:
        folder: Folder of the checkpoints.
        keep_every_steps: Checkpoints at multiples of it are never deleted; 0: none.

    Returns:
        The complete checkpoints, and the rests of deleted ones.

    Raises:
        DamagedError: A folder is named like a step, but is neither. Orbax would take it for a
            checkpoint, and the highest number for the newest.
    """
    steps = named_as_steps(folder)
    complete = [step for step in steps if is_checkpoint(step)]
    leftovers = [step for step in steps if step not in complete]
    for step in leftovers:
        milestone = keep_every_steps and int(step.name) % keep_every_steps == 0
        newer = [other for other in complete if int(other.name) > int(step.name)]
        if milestone or not newer or not _names(step) <= _names(newer[0]):
            raise DamagedError(
                f"{step} is not a checkpoint (it has no {MARKER}), but is named like one: "
                "move it elsewhere to use the others."
            )
    return complete, leftovers


def _names(folder: pathlib.Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:  # deleted by now
        return set()


def complete_steps(folder: pathlib.Path) -> list[int]:
    """Lists the steps of the complete checkpoints in a folder, without opening any."""
    return [int(step.name) for step in named_as_steps(folder) if is_checkpoint(step)]


def is_checkpoint(path: str | os.PathLike) -> bool:
    """Returns whether a folder is a complete checkpoint, without opening it."""
    return (pathlib.Path(path) / MARKER).is_file()


def make_record(
    config: dict[str, Any], step: int, state: Any, data: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Makes the record to save with a state. All processes must call it.

    Args:
        config: Resolved config of the run, plain values as read from JSON.
        step: Number of steps that the state has been trained for.
        state: A pytree of arrays, which are digested on their devices.
        data: Plain values that identify the run's data.

    Returns:
        Plain values, which `read_record` reads.
    """
    arrays = digests.of_arrays(leaves_by_name(state))
    return digests.seal({"config": config, "step": step, "data": data}, arrays)


def read_record(path: pathlib.Path) -> Record:
    """Reads and checks the record of a checkpoint.

    Args:
        path: Path of the checkpoint. If its name is a number, that must be the record's step.

    Returns:
        The record.

    Raises:
        DamagedError: The record cannot be read, is not what was written, or is of another step.
    """
    check_files(path)
    try:
        # Not with Orbax, which reads a file that it cannot parse as empty.
        sealed = json.loads((path / MARKER).read_bytes())["custom_metadata"]
        fields, arrays = digests.unseal(sealed)
        record = Record(fields["config"], fields.get("step"), arrays, fields.get("data"))
        _check_kinds(record)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"its {MARKER} is damaged: {_brief(error)}") from error
    if record.step is not None and path.name.isdecimal() and int(path.name) != record.step:
        raise DamagedError(f"it is of step {record.step}, but is named {path.name}")
    return record


def check_files(folder: pathlib.Path) -> None:
    """Checks that a folder holds files and folders only, before Orbax reads it.

    TensorStore would wait for a pipe for ever, and no signal would end it.

    Raises:
        DamagedError: The folder holds something else, such as a pipe.
        OSError: A folder cannot be read.
    """
    for place, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = pathlib.Path(place, name)
            if path.exists() and not path.is_file():
                raise DamagedError(f"its {path.relative_to(folder)} is not a regular file")


def _raise(error: OSError) -> NoReturn:
    raise error


def _check_kinds(record: Record) -> None:
    """Raises TypeError if a field does not have the type that `make_record` writes."""
    kinds = {"config": dict, "step": int | None, "arrays": dict | None, "data": dict | None}
    for name, kind in kinds.items():
        value = getattr(record, name)
        if not isinstance(value, kind):
            raise TypeError(f"its {name} is a {type(value).__name__}")
    if not all(isinstance(text, str) and text for text in (record.arrays or {}).values()):
        raise TypeError("its arrays have no digests")


def check_listed(record: Record, saved: Any) -> None:
    """Compares the arrays that Orbax finds in a checkpoint with those that its record lists.

    Args:
        record: Record of the checkpoint.
        saved: Pytree whose leaves have a shape and a dtype; None if Orbax cannot read it.

    Raises:
        DamagedError: The names, shapes or dtypes differ.
    """
    if saved is None:
        raise DamagedError("the list of its arrays is damaged or missing")
    wrong = record.arrays and digests.misdescribed(leaves_by_name(saved), record.arrays)
    if wrong:
        raise DamagedError(f"the list of its arrays is damaged: {_in_words(wrong)}")


def check_arrays(leaves: dict[str, Any], expected: dict[str, str]) -> None:
    """Compares arrays that have been read with the digests of those that were saved.

    Args:
        leaves: The arrays that have been read, by name.
        expected: The digests from the record, by name.

    Raises:
        DamagedError: Arrays differ, or are missing on one side.
    """
    wrong = digests.damaged(leaves, expected)
    if wrong:
        raise DamagedError(f"{_in_words(wrong)} is not what was saved")


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turns the errors of Orbax, TensorStore and safetensors for damaged files into one line.

    Raises:
        DamagedError: The block has raised any exception.
    """
    handled = sys.exception()  # the caller's, which is no cause of an error in the block
    with orbax_noise.silenced():
        try:
            yield
            return
        except DamagedError as error:
            reason = str(error)
        except Exception as error:
            reason = f"it cannot be read: {first_cause(error, handled)}"
        orbax_noise.let_out()
    raise DamagedError(reason)


@contextlib.contextmanager
def reading_checkpoint(path: pathlib.Path) -> Iterator[None]:
    """Does as `reading`, and names in the message this checkpoint and the newest of the others.

    Args:
        path: Path of the checkpoint.

    Raises:
        DamagedError: The block has raised any exception.
    """
    try:
        with reading():
            yield
    except DamagedError as error:
        other_steps = [step for step in complete_steps(path.parent) if str(step) != path.name]
        way_out = (
            f"move it elsewhere to resume from checkpoint {max(other_steps)}"
            if other_steps
            else "there is no other checkpoint beside it"
        )
        raise DamagedError(f"The checkpoint {path} cannot be used ({error}); {way_out}.") from None


def leaves_by_name(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a pytree by their paths, such as "params/video/cls_token"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def first_cause(error: BaseException, handled: BaseException | None = None) -> str:
    """Returns the first cause of an error in one short line; the whole chain may fill pages.

    Args:
        error: The error.
        handled: Error that was being handled when this one was raised, and is not among its causes.
    """
    while (earlier := error.__cause__ or error.__context__) and earlier is not handled:
        if isinstance(earlier, StopIteration):  # raised by the JSON parser, without a message
            break
        error = earlier
    return _brief(error)


def _brief(error: BaseException) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 400, placeholder=" ...")


def _in_words(names: list[str]) -> str:
    first, *more = names
    return f"array {first}" + (f" and {len(more)} more" if more else "")
