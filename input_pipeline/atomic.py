"""Files that are written whole or not at all."""

import os
import pathlib
import tempfile


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file, or replaces it, in one go; its folder is made where it is not there.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, so that what a kill leaves behind is taken for nothing.
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
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
    """Writes a text file in UTF-8; otherwise as `write_bytes`."""
    write_bytes(path, text.encode())
