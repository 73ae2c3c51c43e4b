"""What the processes of one test session share: a folder, which goes when the session ends."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

_VARIABLE = "XKD_TESTS_SESSION"
_OWNER = "pid"


def begin() -> None:
    """Makes the folder, in the first process; its workers find it by their environment."""
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = tempfile.mkdtemp(prefix="xkd_jax_session_")
        (folder() / _OWNER).write_text(str(os.getpid()))


def end() -> None:
    """Removes the folder, in the process that made it."""
    if owner() == os.getpid():
        shutil.rmtree(folder(), ignore_errors=True)


def folder() -> pathlib.Path:
    return pathlib.Path(os.environ[_VARIABLE])


def owner() -> int:
    """The process whose end is the session's end."""
    return int((folder() / _OWNER).read_text())


def shared(name: str, make: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """A folder with what `make` puts into it, once in a session. It is only to be read.

    Other processes that ask for it meanwhile wait. What a failed `make` has left is removed.
    """
    found, complete = folder() / name, folder() / f"{name}.complete"
    with locked(name):
        if not complete.exists():
            shutil.rmtree(found, ignore_errors=True)
            found.mkdir()
            make(found)
            complete.touch()
    return found


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Keeps the session's other processes out meanwhile."""
    with (folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
