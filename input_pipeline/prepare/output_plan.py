"""The plan of an output: what it is prepared from, kept so that nothing else gets mixed in."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

from input_pipeline.datasets import listing
from input_pipeline.files import atomic, file_lock, sealed

WORK = ".prepare"  # folder in the output, of files that are needed until it is complete


class PrepareError(ValueError):
    """A data set that cannot be prepared. The message says why in one line."""


def compare(
    output: pathlib.Path, begun: Mapping[str, object], requested: Mapping[str, object]
) -> None:
    """Compares the plan of an output with the plan that is requested now.

    Args:
        output: Folder of the output.
        begun: Plan with which the output was begun.
        requested: Plan that is requested now, or some of its entries.

    Raises:
        PrepareError: The plans differ.
    """
    for name, value in requested.items():
        if begun.get(name) != value:
            difference = (
                "from a source whose files have changed since"
                if name == "files"
                else f"with {name} {begun.get(name)!r}, not {value!r}"
            )
            raise PrepareError(
                f"--output is {str(output)!r}, which was begun {difference}; "
                "allowed: the same again, or another folder"
            )


def fingerprint(recordings: listing.Listing, source: pathlib.Path) -> str:
    """Returns a digest of the listing and of the sizes and modification times of its files."""
    digest = hashlib.sha256()
    for split, entries in recordings.splits.items():
        for entry in entries:
            try:
                status = os.stat(source / entry.path)
                state = [status.st_size, status.st_mtime_ns]
            except OSError:
                state = None
            digest.update(json.dumps([split, *dataclasses.astuple(entry), state]).encode())
    for problem in recordings.left_out:
        digest.update(json.dumps(dataclasses.astuple(problem)).encode())
    digest.update(json.dumps([recordings.class_names, recordings.partitions]).encode())
    return digest.hexdigest()


@contextlib.contextmanager
def working_folder(output: pathlib.Path, plan: dict[str, object]) -> Iterator[None]:
    """Reserves the output for one plan and one process.

    Args:
        output: Folder of the output. It is made if it does not exist.
        plan: Everything that decides what is written.

    Raises:
        PrepareError: The folder holds something else, or another process is preparing it.
    """
    work = output / WORK
    if not work.is_dir() and output.is_dir() and any(output.iterdir()):
        raise PrepareError(
            f"--output is {str(output)!r}, which holds something else; allowed: an empty folder, "
            "or one that this command began"
        )
    with contextlib.ExitStack() as stack:
        try:
            work.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock.held(work / "lock", f"--output={output}"))
        except file_lock.HeldError as error:
            raise PrepareError(
                f"--output is {str(output)!r}, which another process is preparing; "
                "allowed: one at a time"
            ) from error
        except OSError as error:
            raise PrepareError(f"--output is {str(output)!r}: {error.strerror}") from error
        plan_path = work / "plan.json"
        if plan_path.exists():
            compare(output, _read(output, plan_path), plan)
        atomic.write_text(plan_path, json.dumps(plan, indent=1))
        _clear_drafts(output)
        try:
            yield
        finally:
            _clear_drafts(output)


def _read(output: pathlib.Path, path: pathlib.Path) -> dict[str, object]:
    """Reads the plan of an unfinished output."""
    try:
        plan = sealed.load_json(path)
        if not isinstance(plan, dict):
            raise ValueError(f"{path} is damaged: it is not a plan")
    except ValueError as error:
        raise PrepareError(
            f"--output is {str(output)!r}, where {error}; allowed: another folder, or delete it"
        ) from None
    return plan


def _clear_drafts(output: pathlib.Path) -> None:
    """Deletes the half-written files of killed processes."""
    work = output / WORK
    for draft in (*output.glob(".*-*"), *output.glob(".*.json.*"), *work.glob(".*")):
        draft.unlink(missing_ok=True)
