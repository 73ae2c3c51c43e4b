"""Locks that keep other processes out of a folder."""

import contextlib
import fcntl
import os
import pathlib
import sys
import time
from collections.abc import Iterator

_PERIOD = 0.1  # seconds between two attempts to lock


class HeldError(ValueError):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(path: pathlib.Path, folder: str, patience: float = 0.0) -> Iterator[None]:
    """Holds a lock, which the kernel releases when the process ends, however it ends.

    On a file system without locks, it prints a warning and continues.

    Args:
        path: File that stands for the lock. It is created if it does not exist, and it stays.
        folder: What the lock protects, for the warning, such as `--workdir=RUN`.
        patience: Seconds to wait for another process to release the lock.

    Raises:
        HeldError: Another process holds the lock.
        OSError: The file cannot be opened.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        _take(lock, folder, patience)
        yield
    finally:
        os.close(lock)


def _take(lock: int, folder: str, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise HeldError(f"another process holds the lock of {folder}") from error
            time.sleep(_PERIOD)
        except OSError as error:  # a file system without locks
            print(
                f"warning: {folder} cannot be locked ({error.strerror}): "
                "make sure that no other process uses it",
                file=sys.stderr,
            )
            return None
