"""Where a user's programs keep what they can make again."""

import os
import pathlib
import tempfile


def folder() -> pathlib.Path:
    """The folder, which need not be there: `$XDG_CACHE_HOME/xkd_jax` or `~/.cache/xkd_jax`.

    A user whom the system does not know may have no home, as in `docker run --user 1234`. Theirs is
    among the temporary files, and nobody else's: what is kept there may be run.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not base.startswith("~"):
        return pathlib.Path(base, "xkd_jax")
    own = pathlib.Path(tempfile.gettempdir(), f"xkd_jax-{os.getuid()}")
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        return pathlib.Path(tempfile.mkdtemp(prefix="xkd_jax-"))
    return own
