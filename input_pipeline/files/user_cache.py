"""The user's cache folder, for files that programs can make again."""

import contextlib
import os
import pathlib
import tempfile

import platformdirs


def folder() -> pathlib.Path:
    """Returns the cache folder, `$XDG_CACHE_HOME/xkd_jax` or `~/.cache/xkd_jax`, made or not.

    A user whom the system does not know may have no home folder, as in `docker run --user 1234`.
    The folder is then among the temporary files and accessible to that user alone, since what it
    holds may be executed.
    """
    with contextlib.suppress(RuntimeError):  # no home folder
        return platformdirs.user_cache_path("xkd_jax")
    own = pathlib.Path(tempfile.gettempdir(), f"xkd_jax-{os.getuid()}")
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        return pathlib.Path(tempfile.mkdtemp(prefix="xkd_jax-"))
    return own
