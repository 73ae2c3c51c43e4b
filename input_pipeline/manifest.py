"""What the files of a prepared data set are: whatever is missing, changed or swapped is noticed."""

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import stat
from collections.abc import Iterator, Mapping

REMEDY = "copy that file again from a good copy, or delete the folder and prepare it again"

_HEAD = 4096  # bytes; of a shard, they tell the checksum of its first record
_THREADS = 8  # that read files: most of the time goes into waiting for the disk


@dataclasses.dataclass(frozen=True)
class File:
    """What a file was when it was written.

    Attributes:
        bytes: Its size.
        head: SHA-256 of its first 4096 bytes, which is quick to check.
        sha256: That of all of them.
    """

    bytes: int
    head: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a data set consists of.

    Attributes:
        splits: Their names.
        files: What each file was, by its name.
    """

    splits: tuple[str, ...]
    files: Mapping[str, File]


def describe(path: str | os.PathLike) -> File:
    """Looks at a file from its beginning to its end."""
    with open(path, "rb") as file:
        head = hashlib.sha256(file.read(_HEAD))
        file.seek(0)
        whole = hashlib.file_digest(file, "sha256")
        return File(file.tell(), head.hexdigest(), whole.hexdigest())


def parse(splits: object, files: object) -> Manifest:
    """A manifest out of the plain values of one.

    Raises:
        ValueError, TypeError, AttributeError: They are of none.
    """
    if not all(isinstance(split, str) for split in splits):
        raise ValueError("a split without a name")
    if any(os.path.basename(name) != name or not name.isprintable() for name in files):
        raise ValueError("a file with a name that is none here")
    return Manifest(tuple(splits), {name: File(**fields) for name, fields in files.items()})


def problems(
    folder: str | os.PathLike, files: Mapping[str, File], whole: bool = False
) -> Iterator[str]:
    """Says which files are not as they were written.

    Args:
        folder: Where they are.
        files: What they were.
        whole: Whether to read them from end to end, not only their sizes and beginnings.

    Yields:
        For each file, in the order of `files`, what is wrong with it; "" where nothing is.

    Raises:
        OSError: A file that is there cannot be read.
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
        return f"{path.name} is no file"
    if status.st_size != file.bytes:
        return f"{path.name} has {status.st_size} bytes in place of {file.bytes}"
    if whole:
        same = describe(path) == file
    else:
        with path.open("rb") as content:
            same = hashlib.sha256(content.read(_HEAD)).hexdigest() == file.head
    return "" if same else f"{path.name} has changed since it was written"
