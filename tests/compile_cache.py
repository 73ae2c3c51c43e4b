"""Where the tests' programs lie once they are compiled: one folder for all processes and runs.

The folder is in the user's cache; whoever sets JAX_COMPILATION_CACHE_DIR has another one, which is
left as it is. JAX writes a program in place, so that a process which is killed can leave half of
one. JAX warns of it, compiles again, and never replaces it. JAX's own bound of the size fails for
good on such a half; hence the bound here.
"""

import contextlib
import os
import pathlib
import tempfile
import time
import zlib

LARGEST = 1 << 28  # bytes of all programs; those of all tests take some tens of MB
_CHECKED = "checked"  # a file as old as the last check


def folder() -> pathlib.Path:
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "xkd_jax" / "tests_compiled"


def use() -> None:
    """Has this process and those that it starts keep what they compile; before JAX is there."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        place = folder()
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:  # a user without a home
            place = tempfile.mkdtemp(prefix="xkd_jax_tests_")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(place)
    # Small programs, too: the tests compile thousands.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def tidy_own() -> None:
    """Tidies the tests' folder if it is in use."""
    if os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder()):
        with contextlib.suppress(FileNotFoundError):  # another run tidies as well
            tidy(folder())


def tidy(place: pathlib.Path, largest: int = LARGEST) -> None:
    """Removes what is broken, and the oldest programs where all are larger than a bound.

    What was whole the last time is not read again.
    """
    now, checked = time.time(), place / _CHECKED
    last = checked.stat().st_mtime if checked.exists() else 0.0
    programs = [(path.stat(), path) for path in place.glob("*-cache")]
    size = 0
    for stat, path in sorted(programs, key=lambda program: program[0].st_mtime, reverse=True):
        size += stat.st_size
        if size > largest or (stat.st_mtime >= last and _broken(path)):
            path.unlink()
    checked.touch()
    os.utime(checked, (now, now))


def _broken(path: pathlib.Path) -> bool:
    """Whether a program is cut off; one that is not in zlib's format is taken as whole."""
    content = path.read_bytes()
    if content and content[0] != 0x78:  # zlib's first byte
        return False
    try:
        zlib.decompress(content)
    except zlib.error:
        return True
    return False
