"""The folder of a run: checks that it can be written, and locks it against other runs."""

import contextlib
import fcntl
import os
import pathlib
import sys
import time
from collections.abc import Iterator

_LOCK = ".lock"
_PERIOD = 0.1  # seconds between two attempts to lock
_FOLDERS = ("checkpoints", "images", "tensorboard")
_FILES = ("config.json", "metrics.jsonl")


class WorkdirError(ValueError):
    """The folder cannot be used for a run; the message is one line."""


@contextlib.contextmanager
def claimed(path: str | os.PathLike, patience: float = 0.0) -> Iterator[None]:
    """Creates the folder if it does not exist, and locks it against other runs.

    The kernel releases the lock when the process ends, however it ends. Only the first process of a
    run may call it.

    Args:
        path: Folder of the run.
        patience: Seconds to wait for another run to release the lock.

    Raises:
        WorkdirError: The folder cannot be created or written to, has a file where a run has a
            folder or the reverse, or another run is using it.
    """
    folder = pathlib.Path(path)
    if not os.fspath(path):
        raise WorkdirError("--workdir is empty; allowed: a folder, created if missing")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"--workdir={path} cannot be made a folder: {error.strerror}") from error
    wrong = next(_unwritable_parts(folder), None)
    if wrong:
        raise WorkdirError(f"--workdir={path} cannot be written to: {wrong}")
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise WorkdirError(f"--workdir={path} cannot be written to: {error.strerror}") from error
    try:
        _lock(lock, path, patience)
        yield
    finally:
        os.close(lock)


def _unwritable_parts(folder: pathlib.Path) -> Iterator[str]:
    """Yields what is wrong with each existing file or folder that a run would write to."""
    for names, is_right, kind in (
        (_FOLDERS, pathlib.Path.is_dir, "folder"),
        (_FILES, pathlib.Path.is_file, "file"),
    ):
        for part in (folder / name for name in names):
            if part.exists() and not is_right(part):
                yield f"{part} is not a {kind}"
            elif part.exists() and not os.access(part, os.W_OK):
                yield f"{part} is read-only"


def _lock(lock: int, path: str | os.PathLike, patience: float) -> None:
    end = time.monotonic() + patience
    try:
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise
                time.sleep(_PERIOD)
    except BlockingIOError as error:
        raise WorkdirError(f"another run is using --workdir={path}") from error
    except OSError as error:  # a file system without locks
        print(
            f"warning: --workdir={path} cannot be locked ({error.strerror}): "
            "make sure that no other run uses it",
            file=sys.stderr,
        )
