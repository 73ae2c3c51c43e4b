"""A checkpoint as it lies on the disk: whether it is one, what it says of itself, and damage to it.

Neither Orbax nor what it stores with notices a flipped bit of an array, and of a file of metadata
that it cannot parse it makes an empty one. So the metadata of a checkpoint have a record with the
digests of all arrays, sealed by one of its own.
"""

import contextlib
import json
import os
import pathlib
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from xkd_jax import digests, orbax_noise

UNVERIFIED = "made before digests were kept: damage to its arrays would not be noticed"
MARKER = "_CHECKPOINT_METADATA"  # Orbax's file in every complete checkpoint


class DamagedError(ValueError):
    """A folder where a checkpoint should be is none, cannot be read, or is not what was saved."""


class Record(NamedTuple):
    """What a checkpoint says of itself.

    Attributes:
        config: The run's resolved config.
        step: None in checkpoints of before digests were kept.
        arrays: The digest of each array of the state, see `digests.of_arrays`; None likewise.
        data: What tells the run's data from others; None where that was not kept.
    """

    config: dict[str, Any]
    step: int | None
    arrays: dict[str, str] | None
    data: dict[str, Any] | None = None


def named_as_steps(folder: pathlib.Path) -> list[pathlib.Path]:
    """What has the name of a step in a folder of checkpoints, be it a checkpoint or not."""
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdecimal())


def complete_steps(folder: pathlib.Path) -> list[int]:
    """The steps of the complete checkpoints in a folder; none is opened."""
    return [int(step.name) for step in named_as_steps(folder) if is_checkpoint(step)]


def is_checkpoint(path: str | os.PathLike) -> bool:
    """Whether a folder is a complete checkpoint; it is not opened."""
    return (pathlib.Path(path) / MARKER).is_file()


def make_record(
    config: dict[str, Any], step: int, state: Any, data: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What to save with a state; with several processes, each calls it.

    Args:
        config: The run's resolved config, plain values as JSON gives them back.
        step: How many steps the state has been trained for.
        state: A pytree of arrays, which are digested where they are.
        data: What tells the run's data from others, plain values.

    Returns:
        Plain values, for `read_record`.
    """
    arrays = digests.of_arrays(leaves_by_name(state))
    return digests.seal({"config": config, "step": step, "data": data}, arrays)


def read_record(path: pathlib.Path) -> Record:
    """Reads what a checkpoint says of itself, and checks it.

    Args:
        path: Of the checkpoint. A name that is a number has to be its step.

    Raises:
        DamagedError: It cannot be read, is not what was written, or is of another step.
    """
    try:
        # Not by Orbax, which takes a file that it cannot parse for an empty one.
        sealed = json.loads((path / MARKER).read_bytes())["custom_metadata"]
        fields, arrays = digests.unseal(sealed)
        record = Record(fields["config"], fields.get("step"), arrays, fields.get("data"))
        _check_kinds(record)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"its {MARKER} is damaged: {_brief(error)}") from error
    if record.step is not None and path.name.isdecimal() and int(path.name) != record.step:
        raise DamagedError(f"it is of step {record.step}, and has another's name")
    return record


def _check_kinds(record: Record) -> None:
    """Raises TypeError where a field is not of the kind that `make_record` writes."""
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
        record: Of the checkpoint.
        saved: A pytree of anything with shape and dtype, or None, where Orbax cannot read it.

    Raises:
        DamagedError: There are others, or some of another shape or dtype.
    """
    if saved is None:
        raise DamagedError("the list of its arrays is damaged or missing")
    wrong = record.arrays and digests.misdescribed(leaves_by_name(saved), record.arrays)
    if wrong:
        raise DamagedError(f"the list of its arrays is damaged: {_in_words(wrong)}")


def check_arrays(leaves: dict[str, Any], expected: dict[str, str]) -> None:
    """Compares arrays that have been read with the digests of those that were saved.

    Raises:
        DamagedError: Some differ, or are missing on one side.
    """
    wrong = digests.damaged(leaves, expected)
    if wrong:
        raise DamagedError(f"{_in_words(wrong)} is not what was saved")


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Makes of all that Orbax, TensorStore and safetensors make of damaged files one line.

    Raises:
        DamagedError: In place of any other exception.
    """
    with orbax_noise.kept_off():
        try:
            yield
            return
        except DamagedError as error:
            reason = str(error)
        except Exception as error:
            reason = f"it cannot be read: {what_began(error)}"
        orbax_noise.let_out()
    raise DamagedError(reason)


@contextlib.contextmanager
def reading_checkpoint(path: pathlib.Path) -> Iterator[None]:
    """As `reading`, and the line says which checkpoint it is and which one is left.

    Args:
        path: Of the checkpoint.
    """
    try:
        with reading():
            yield
    except DamagedError as error:
        others = [step for step in complete_steps(path.parent) if str(step) != path.name]
        way_out = (
            f"move it elsewhere to go on from checkpoint {max(others)}"
            if others
            else "there is no other checkpoint beside it"
        )
        raise DamagedError(f"The checkpoint {path} cannot be used ({error}); {way_out}.") from None


def leaves_by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths, such as "params/video/cls_token"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def what_began(error: BaseException) -> str:
    """What began an error, in one short line: what was made of it later may fill pages."""
    while error.__cause__ or error.__context__:
        earlier = error.__cause__ or error.__context__
        if isinstance(earlier, StopIteration):  # of the JSON parser, without a word
            break
        error = earlier
    return _brief(error)


def _brief(error: BaseException) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 400, placeholder=" ...")


def _in_words(names: list[str]) -> str:
    first, *more = names
    return f"array {first}" + (f" and {len(more)} more" if more else "")
