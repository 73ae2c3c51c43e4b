"""What an output is being prepared from: held on to, so that nothing else gets mixed in."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

from input_pipeline import atomic, sealed
from input_pipeline.datasets import listing

WORK = ".prepare"  # folder in the output of what is needed until it is complete


class PrepareError(ValueError):
    """A data set that cannot be prepared, and why in one line."""


def compare(output: pathlib.Path, found: Mapping[str, object], asked: Mapping[str, object]) -> None:
    """Raises PrepareError where an output is that of another plan.

    Args:
        output: Folder of the output.
        found: The plan that it was begun with.
        asked: What of it is asked for now.
    """
    for name, value in asked.items():
        if found.get(name) != value:
            is_what = (
                "of a source whose files have changed since"
                if name == "files"
                else f"with {name} {found.get(name)!r}, not {value!r}"
            )
            raise PrepareError(
                f"--output is {str(output)!r}, which was begun {is_what}; "
                "allowed: the same again, or another folder"
            )


def fingerprint(recordings: listing.Listing, source: pathlib.Path) -> str:
    """A hash of the listing, and of the sizes and times of its files."""
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
    """Takes hold of the output: for this plan alone, and with no other process at it.

    Args:
        output: The folder, made if it is not there.
        plan: All that decides on what is written.

    Raises:
        PrepareError: It holds something else, or another process is at it.
    """
    work = output / WORK
    if not work.is_dir() and output.is_dir() and any(output.iterdir()):
        raise PrepareError(
            f"--output is {str(output)!r}, which holds something else; allowed: an empty folder, "
            "or one that this command began"
        )
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = open(work / "lock", "w")  # noqa: SIM115
    except OSError as error:
        raise PrepareError(f"--output is {str(output)!r}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PrepareError(
                f"--output is {str(output)!r}, which another process is preparing; "
                "allowed: one at a time"
            ) from error
        begun = work / "plan.json"
        if begun.exists():
            compare(output, _read(output, begun), plan)
        atomic.write_text(begun, json.dumps(plan, indent=1))
        _clear_drafts(output)
        try:
            yield
        finally:
            _clear_drafts(output)


def _read(output: pathlib.Path, begun: pathlib.Path) -> dict[str, object]:
    """The plan of an output that is not finished."""
    try:
        found = sealed.load_json(begun)
        if not isinstance(found, dict):
            raise ValueError(f"{begun} is damaged: it is no plan")
    except ValueError as error:
        raise PrepareError(
            f"--output is {str(output)!r}, where {error}; allowed: another folder, or delete it"
        ) from None
    return found


def _clear_drafts(output: pathlib.Path) -> None:
    """Takes away what killed processes left half-written."""
    work = output / WORK
    for draft in (*output.glob(".*-*"), *output.glob(".*.json.*"), *work.glob(".*")):
        draft.unlink(missing_ok=True)
