"""Digests of a prepared data set's files, to notice any that are missing, changed or swapped."""

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import stat
from collections.abc import Iterator, Mapping

REMEDY = "copy that file again from a good copy, or delete the folder and prepare it again"

_HEAD = 4096  # bytes; in a shard, they include the checksum of its first record
_THREADS = 8  # threads that read files, which mostly wait for the disk


@dataclasses.dataclass(frozen=True)
class File:
    """Size and digests of a file when it was written.

    Attributes:
        bytes: Size of the file in bytes.
        head: SHA-256 of its first 4096 bytes, which is quick to check.
        sha256: SHA-256 of the whole file.
    """

    bytes: int
    head: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Splits and files of a data set.

    Attributes:
        splits: Names of the splits.
        files: Size and digests of each file, by name.
    """

    splits: tuple[str, ...]
    files: Mapping[str, File]


def describe(path: str | os.PathLike) -> File:
    """Reads a file from end to end and returns its size and digests."""
    with open(path, "rb") as file:
        head = hashlib.sha256(file.read(_HEAD))
        file.seek(0)
        whole = hashlib.file_digest(file, "sha256")
        return File(file.tell(), head.hexdigest(), whole.hexdigest())


def parse(splits: object, files: object) -> Manifest:
    """Makes a manifest from the plain values of its JSON form.

    Raises:
        ValueError, TypeError, AttributeError: The values are not those of a manifest.
    """
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise ValueError("its splits are not a list of names")
    if len(set(splits)) < len(splits):
        raise ValueError("a split is listed twice")
    if any(os.path.basename(name) != name or not name.isprintable() for name in (*splits, *files)):
        raise ValueError("the name of a split or file has a folder or unprintable characters")
    return Manifest(tuple(splits), {name: File(**fields) for name, fields in files.items()})


def problems(
    folder: str | os.PathLike, files: Mapping[str, File], whole: bool = False
) -> Iterator[str]:
    """Finds the files that are not as they were written.

    Args:
        folder: Folder of the files.
        files: Size and digests of each file when it was written, by name.
        whole: Whether to read the files from end to end. Otherwise only sizes and beginnings are
            compared.

    Yields:
        The problem of each file, in the order of `files`, or "" if there is none.

    Raises:
        OSError: A file exists but cannot be read.
    """
    paths = [pathlib.Path(folder, name) for name in files]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(lambda path, file: _problem(path, file, whole), paths, files.values())


def _problem(path: pathlib.Path, file: File, whole: bool) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"{path.name} is missing"
    if not stat.S_ISREG(status.st_mode):
        return f"{path.name} is not a regular file"
    if status.st_size != file.bytes:
        return f"{path.name} has {status.st_size} bytes instead of {file.bytes}"
    if whole:
        same = describe(path) == file
    else:
        with path.open("rb") as content:
            same = hashlib.sha256(content.read(_HEAD)).hexdigest() == file.head
    return "" if same else f"{path.name} has changed since it was written"
