"""Small files that tell whether they are as they were written, and run nothing when they are read.

A JSON file keeps the SHA-256 of its content as a field. An NPZ archive keeps that of all bytes
before it as its comment, which is its end; NumPy reads it like any other.
"""

import hashlib
import io
import json
import os
import pathlib
import stat
import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from input_pipeline import atomic

FIELD = "sha256"  # of sealed JSON
_HEX = 64  # digits of a SHA-256


def read(path: str | os.PathLike) -> bytes:
    """The content of a regular file: a pipe or a device may never begin, or never end.

    Raises:
        OSError: It cannot be read.
        ValueError: It is something else.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")
    return pathlib.Path(path).read_bytes()


def load_json(path: str | os.PathLike) -> object:
    """Reads a JSON file, sealed or not.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, or nested too deeply; the message names the file.
    """
    try:
        return json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None


def seal(content: Mapping[str, object]) -> dict[str, object]:
    """Content for a JSON file, with its digest in front."""
    plain = json.loads(json.dumps(content))  # as it will be read: no tuples, no numbers for keys
    return {FIELD: _digest(plain), **plain}


def unseal(content: object) -> dict[str, object]:
    """What `seal` was given.

    Args:
        content: What a JSON file holds.

    Raises:
        ValueError: It is not what `seal` has made, or has changed since.
    """
    if not isinstance(content, dict) or FIELD not in content:
        raise ValueError(f"it has no {FIELD}")
    inner = {name: value for name, value in content.items() if name != FIELD}
    if content[FIELD] != _digest(inner):
        raise ValueError("its content has changed since it was written")
    return inner


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def pack(arrays: Mapping[str, ArrayLike]) -> bytes:
    """A sealed NPZ archive: the same bytes for the same arrays, none of which holds objects."""
    file = io.BytesIO()
    # np.savez would put the time of writing in.
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        archive.comment = b"0" * _HEX
    with file.getbuffer() as content:
        content[-_HEX:] = hashlib.sha256(content[:-_HEX]).hexdigest().encode()
    return file.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an NPZ archive, sealed or not, which take no more memory than the archive.

    Raises:
        ValueError: It is no such archive, or it holds other things than numbers and strings.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
        # `pack` compresses nothing. A bomb would, or name the same bytes many times.
        compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if compressed or sum(member.file_size for member in members) > len(data):
            raise ValueError("larger than the archive")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    # Of a damaged archive, zipfile and NumPy raise whatever the damage makes them run into.
    except Exception as error:
        raise ValueError(f"it is no archive of arrays ({type(error).__name__})") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("it holds something else than arrays")
    return arrays


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, ArrayLike]) -> None:
    """Writes a sealed NPZ archive, whole or not at all."""
    atomic.write_bytes(path, pack(arrays))


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads what `save_arrays` wrote.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not sealed, or has changed since; the message names the file.
    """
    try:
        data = read(path)
        if hashlib.sha256(memoryview(data)[:-_HEX]).hexdigest().encode() != data[-_HEX:]:
            raise ValueError("its content is not what its digest says")
        return unpack(data)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None
