"""Small files with a digest of their content, which run no code when they are read.

A JSON file stores the SHA-256 of its content in a field. An NPZ archive stores the SHA-256 of all
bytes before its comment as that comment, which is the end of the file. NumPy reads it like any
other archive.
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

from input_pipeline.files import atomic

FIELD = "sha256"  # field of sealed JSON that holds the digest
_HEX = 64  # hexadecimal digits of a SHA-256


def read(path: str | os.PathLike) -> bytes:
    """Reads a regular file. Other files, such as pipes and devices, might block or never end.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is not a regular file")
    return pathlib.Path(path).read_bytes()


def load_json(path: str | os.PathLike) -> object:
    """Reads a JSON file, sealed or not.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not JSON, or nested too deeply. The message names the file.
    """
    try:
        return json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None


def seal(content: Mapping[str, object]) -> dict[str, object]:
    """Returns the content of a sealed JSON file: `content` with its digest in front."""
    plain = json.loads(json.dumps(content))  # as it will be read: no tuples, only strings as keys
    return {FIELD: digest(plain), **plain}


def unseal(content: object) -> dict[str, object]:
    """Returns the content that was given to `seal`.

    Args:
        content: Content of a sealed JSON file.

    Raises:
        ValueError: The content has no digest, or has changed since it was sealed.
    """
    if not isinstance(content, dict) or FIELD not in content:
        raise ValueError(f"it has no {FIELD}")
    unsealed = {name: value for name, value in content.items() if name != FIELD}
    if content[FIELD] != digest(unsealed):
        raise ValueError("its content has changed since it was written")
    return unsealed


def digest(content: Mapping[str, object]) -> str:
    """Returns the SHA-256 of plain values, as hexadecimal digits; the order of names is no part."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def pack(arrays: Mapping[str, ArrayLike]) -> bytes:
    """Makes a sealed NPZ archive. The same arrays give the same bytes.

    Raises:
        ValueError: An array holds Python objects.
    """
    file = io.BytesIO()
    # np.savez would store the time of writing.
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        archive.comment = b"0" * _HEX
    with file.getbuffer() as content:
        content[-_HEX:] = hashlib.sha256(content[:-_HEX]).hexdigest().encode()
    return file.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of an NPZ archive, sealed or not. They take no more memory than the archive.

    Raises:
        ValueError: `data` is not such an archive, or it holds other things than numbers and
            strings.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
        # `pack` does not compress. A zip bomb does, or it lists the same bytes many times.
        compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if compressed or sum(member.file_size for member in members) > len(data):
            raise ValueError("larger than the archive")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    # zipfile and NumPy may raise any error for a damaged archive.
    except Exception as error:
        raise ValueError(f"it is not an archive of arrays ({type(error).__name__})") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("it does not hold arrays only")
    return arrays


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, ArrayLike]) -> None:
    """Writes a sealed NPZ archive, whole or not at all."""
    atomic.write_bytes(path, pack(arrays))


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays that `save_arrays` wrote.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not sealed, or has changed since. The message names the file.
    """
    try:
        data = read(path)
        if hashlib.sha256(memoryview(data)[:-_HEX]).hexdigest().encode() != data[-_HEX:]:
            raise ValueError("its content does not match its digest")
        return unpack(data)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None
