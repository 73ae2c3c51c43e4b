"""The folder of a run: checks that it can be written, and locks it against other runs."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from input_pipeline.files import file_lock

_LOCK = ".lock"
_FOLDERS = ("checkpoints", "images", "mlflow", "tensorboard", "wandb")
_FILES = ("config.json", "metrics.jsonl", "mlflow.db", "starts.jsonl", "trackers.json")


class WorkdirError(ValueError):
    """The folder cannot be used for a run; the message is one line."""


@contextlib.contextmanager
def claimed(path: str | os.PathLike, patience: float = 0.0) -> Iterator[None]:
    """Creates the folder if it does not exist, and locks it against other runs.

    Only the first process of a run may call it.

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
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock.held(folder / _LOCK, f"--workdir={path}", patience))
        except file_lock.HeldError as error:
            raise WorkdirError(f"another run is using --workdir={path}") from error
        except OSError as error:
            raise WorkdirError(
                f"--workdir={path} cannot be written to: {error.strerror}"
            ) from error
        yield


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
