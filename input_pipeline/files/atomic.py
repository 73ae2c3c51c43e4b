"""Files and folders that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Creates or replaces a file in one step, once its content is written elsewhere and closed.

    Args:
        path: Path of the file.

    Yields:
        Path to write to: a hidden file beside the target, deleted if an error is raised.

    Raises:
        FileExistsError: The path is a device, which a file must not replace.
    """
    path = pathlib.Path(path)
    if path.is_char_device() or path.is_block_device():  # such as /dev/null, by the system's user
        raise FileExistsError(errno.EEXIST, "Is a device", str(path))
    # Hidden, so that nothing reads a draft that a killed process leaves behind.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with named(path, draft):
        try:
            yield draft
            with open(draft, "rb") as file:
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def replacing_folder(folder: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """Creates or replaces a folder atomically, after its content is written elsewhere.

    Args:
        folder: Folder to create or replace.
        overwrite: Whether to replace an existing folder that is not empty.

    Yields:
        A hidden folder beside it to write to, which is removed if the body raises an error.

    Raises:
        FileExistsError: The folder exists and is not empty, and `overwrite` is not set.
    """
    if folder.exists() and not overwrite and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} exists already and holds something else; give another --output, or "
            "--overwrite to replace it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    draft.chmod(0o755)  # mkdtemp makes it private to its owner
    old = draft.with_name(f"{draft.name}.old")
    try:
        with named(folder):
            yield draft
        if folder.exists():
            os.rename(folder, old)
        os.rename(draft, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        _remove(draft)
        raise
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


@contextlib.contextmanager
def named(path: str | os.PathLike, draft: pathlib.Path | None = None) -> Iterator[None]:
    """Adds the path to system errors that name no file, such as those for a full disk.

    Args:
        path: Path of the file or folder being written.
        draft: Path to write to in its place, which errors do not name either; None if there is
            none.
    """
    try:
        yield
    except OSError as error:
        names_another_file = error.filename not in (None, draft and os.fspath(draft))
        if names_another_file or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def _remove(draft: pathlib.Path) -> None:
    """Removes a folder to which Orbax's threads may still write after a failed save."""
    for _ in range(20):
        shutil.rmtree(draft, ignore_errors=True)
        if not draft.exists():
            break
        time.sleep(0.1)


def check_writable(path: str | os.PathLike) -> None:
    """Checks that `write_bytes` could write a file, before work that takes long.

    It leaves nothing behind.

    Raises:
        OSError: The file could not be written.
    """
    path = pathlib.Path(path).absolute()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "Is a device or a pipe", str(path))
    folder = next(parent for parent in path.parents if parent.exists())
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=folder):
        pass


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes or replaces a file in one step. Its folder is made if it does not exist.

    Raises:
        OSError: The file cannot be written. Its former content is still there.
    """
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file as `write_bytes` does, in UTF-8 and otherwise with backslashes."""
    write_bytes(path, text.encode(errors="backslashreplace"))
