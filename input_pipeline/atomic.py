"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Makes a file appear, or replaces it, in one go, once it is written elsewhere and closed.

    Args:
        path: The file.

    Yields:
        Where to write it: a hidden file beside it, which is taken away if something is raised.
    """
    path = pathlib.Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with named(path):
        try:
            yield draft
            with open(draft, "rb") as file:
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def named(path: str | os.PathLike) -> Iterator[None]:
    """Adds the file to errors of the system that name none, as those of a full disk do.

    Args:
        path: What is being written: a file, or a folder of them.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def check_writable(path: str | os.PathLike) -> None:
    """Tries whether `write_bytes` could write a file, before work that takes long; leaves nothing.

    Raises:
        OSError: It could not.
    """
    path = pathlib.Path(path).absolute()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = next(parent for parent in path.parents if parent.exists())
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=folder):
        pass


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file, or replaces it, in one go; its folder is made where it is not there.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, so that what a kill leaves behind is taken for nothing.
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with named(path):
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(draft, 0o644)  # mkstemp's are for their owner alone
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8, what of names is not with backslashes; as `write_bytes`."""
    write_bytes(path, text.encode(errors="backslashreplace"))
