"""Folders of small and large files, written whole, and left alone if they hold the same already."""

import json
import pathlib
import stat
from collections.abc import Mapping
from typing import Any

from input_pipeline.files import atomic


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Formats a file of JSON."""
    return (json.dumps(content, indent=2) + "\n").encode()


def write(folder: pathlib.Path, files: Mapping[str, bytes], overwrite: bool) -> bool:
    """Writes files into a folder, all or none.

    Args:
        folder: Folder to create.
        files: Contents by name.
        overwrite: Whether to replace existing content of `folder`.

    Returns:
        Whether anything was written. Nothing is written if `folder` holds the same already.

    Raises:
        FileExistsError: `folder` holds something else, and `overwrite` is not set.
    """
    if _holds(folder, files):
        return False
    with atomic.replacing_folder(folder, overwrite) as draft:
        for name, content in files.items():
            (draft / name).write_bytes(content)
    return True


def _holds(folder: pathlib.Path, files: Mapping[str, bytes]) -> bool:
    try:
        if {path.name for path in folder.iterdir()} != set(files):
            return False
        paths = {folder / name: content for name, content in files.items()}
        # A pipe would block the process.
        if not all(stat.S_ISREG(path.stat().st_mode) for path in paths):
            return False
        return all(path.read_bytes() == content for path, content in paths.items())
    except OSError:
        return False
