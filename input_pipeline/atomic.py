"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import tempfile
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Creates or replaces a file in one step, once its content is written elsewhere and closed.

    Args:
        path: Path of the file.

    Yields:
        Path to write to: a hidden file beside the target, deleted if an error is raised.
    """
    path = pathlib.Path(path)
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


def check_writable(path: str | os.PathLike) -> None:
    """Checks that `write_bytes` could write a file, before work that takes long.

    It leaves nothing behind.

    Raises:
        OSError: The file could not be written.
    """
    path = pathlib.Path(path).absolute()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
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
