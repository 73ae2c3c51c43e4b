"""Checks that prepared data are as they were written, quick when opened and full on request."""

import contextlib
import dataclasses
import io
import os
import pathlib
import typing
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import PIL.Image

from input_pipeline.media import picture
from input_pipeline.prepared import manifest, metadata, preparation_report, records
from input_pipeline.programs import progress
from input_pipeline.programs.wording import counted

if typing.TYPE_CHECKING:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

_T = typing.TypeVar("_T")
_ALLOWED = "a folder that `python -m input_pipeline.prepare` has made"


def find(path: str, subject: str) -> pathlib.Path:
    """Finds a folder of prepared data.

    Args:
        path: The folder, as the config has it.
        subject: Beginning of a message, such as "config.data.path is 'DATA'".

    Raises:
        ValueError: The folder does not hold prepared data.
        FileNotFoundError: It does not exist.
    """
    if not path:
        raise ValueError(f"{subject}; allowed: {_ALLOWED}")
    folder = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    if not folder.exists():
        raise FileNotFoundError(f"{subject}, which does not exist; allowed: {_ALLOWED}")
    if not (folder / "prepared.json").is_file():
        raise ValueError(
            f"{subject}, which is not prepared, or preparing it has not finished: it holds no "
            f"prepared.json; allowed: {_ALLOWED}"
        )
    return folder


def check(folder: pathlib.Path, recipe: records.Recipe, splits: Sequence[str]) -> None:
    """Checks some splits quickly: whole indices, and sizes and beginnings of shards.

    Data of former versions have no digests to check. In that case, the function prints a note.

    Args:
        folder: Folder of the prepared data.
        recipe: Recipe of the data.
        splits: Names of the splits to check.

    Raises:
        ValueError: The data have changed since they were written.
    """
    if recipe.contents is None:
        print(
            f"{folder} is from a former version, without digests: its files are not checked. "
            f"To add digests: python -m input_pipeline.inspect --data={folder} --verify --write",
            flush=True,
        )
        return
    known = recipe.contents.files
    problems: list[str] = []
    for split in splits:
        problems += _unknown_files(folder, recipe, split)
        index, *shards = metadata.split_files(folder, recipe.dataset, split)
        for names, whole in (([index], True), (shards, False)):
            files = {name: known[name] for name in names if name in known}
            problems += filter(None, manifest.problems(folder, files, whole))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}; {manifest.REMEDY}")


def _unknown_files(folder: pathlib.Path, recipe: records.Recipe, split: str) -> list[str]:
    """Returns the problem of each file of a split that the recipe does not list."""
    names = metadata.split_files(folder, recipe.dataset, split)
    unknown = [name for name in names if name not in recipe.contents.files]
    return [f"{name} is not one of the files that were written" for name in unknown]


def load_report(folder: pathlib.Path) -> dict[str, object]:
    """Reads the report of data, finished or not, and checks its digest if there is one.

    Raises:
        FileNotFoundError: There is no report.
        ValueError: The report or the recipe has changed since it was written.
    """
    values = preparation_report.load(folder)
    with contextlib.suppress(FileNotFoundError):  # the data are not finished
        contents = records.load_recipe(folder).contents
        known = contents.files if contents is not None else {}
        files = {name: file for name, file in known.items() if name == preparation_report.NAME}
        for problem in filter(None, manifest.problems(folder, files, whole=True)):
            raise ValueError(problem)
    return values


def verify(folder: pathlib.Path, write: bool = False) -> str:
    """Reads prepared data from end to end, and prints what is wrong with each file.

    It compares all files with their digests. It also decodes one record of each shard, since a
    digest does not show that what was written can be read.

    Data of former versions have no digests. For these, it reads all records, which have their own
    checksums, and compares them with the index.

    Args:
        folder: Folder of the prepared data.
        write: Whether to add digests to data that have none and are in order.

    Returns:
        One line that says what was checked.

    Raises:
        FileNotFoundError: The folder holds no prepared data.
        ValueError: The data are not as they were written.
    """
    recipe = records.load_recipe(folder)
    if recipe.contents is not None:
        files = recipe.contents.files
        results = manifest.problems(folder, files, whole=True)
        problems = list(filter(None, _with_progress(results, len(files), "file")))
        if not problems:
            for split in recipe.contents.splits:
                problems += _unknown_files(folder, recipe, split)
        if problems:
            print("\n".join(problems))
            raise ValueError(
                f"not as they were written: {len(problems)} of {counted(len(files), 'file')} in "
                f"{folder}; {manifest.REMEDY}"
            )
        count = sum(_decode_some(folder, recipe, split) for split in recipe.contents.splits)
        return (
            f"{folder}: all {len(files)} files are as they were written; one record of each of "
            f"{counted(count, 'shard')} can be decoded"
        )
    splits = metadata.splits(folder, recipe)
    count = sum(_read_through(folder, recipe, split) for split in splits)
    if write:
        names = metadata.list_files(folder, recipe.dataset, splits)
        files = {
            name: manifest.describe(folder / name)
            for name in _with_progress(names, len(names), "file")
        }
        contents = manifest.Manifest(tuple(splits), files)
        dataclasses.replace(recipe, contents=contents).save(folder)
    digests = "digests have been added" if write else "digests are missing: --write adds them"
    return f"{folder}: {count} records can be read and match the indices; {digests}"


def open_records(
    folder: pathlib.Path, recipe: records.Recipe, split: str, index: records.Index
) -> "ArrayRecordDataSource":
    """Opens the shards of a split.

    Args:
        folder: Folder of the prepared data.
        recipe: Recipe of the data.
        split: Name of the split.
        index: Index of the split.

    Returns:
        The serialized records, with random access.

    Raises:
        ValueError: A shard is missing or damaged, or the shards do not match the index.
    """
    # Imported here, as it is slow to load and only needed by readers.
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        stored = ArrayRecordDataSource(metadata.find_shards(folder, recipe.dataset, split))
    except RuntimeError as error:  # a damaged shard
        raise ValueError(f"its shards cannot be read ({error}); {manifest.REMEDY}") from None
    if len(stored) != len(index.names):
        raise ValueError(
            f"it holds {counted(len(stored), 'record')}, but its index lists {len(index.names)}; "
            f"{manifest.REMEDY}"
        )
    return stored


def _read_through(folder: pathlib.Path, recipe: records.Recipe, split: str) -> int:
    """Compares all records of a split with its index, and returns their number."""
    index = records.load_index(records.index_path(folder, split))
    stored = open_records(folder, recipe, split, index)
    for place in _with_progress(range(len(stored)), len(stored), "record"):
        with _naming(place, split, folder):
            _read(stored, place, index)
    return len(stored)


def _decode_some(folder: pathlib.Path, recipe: records.Recipe, split: str) -> int:
    """Decodes the first record of each shard of a split, and returns the number of these records.

    Raises:
        ValueError: A record cannot be decoded or does not match the index.
    """
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    index = records.load_index(records.index_path(folder, split))
    stored = open_records(folder, recipe, split, index)
    shards = metadata.find_shards(folder, recipe.dataset, split)
    ends = np.cumsum([len(ArrayRecordDataSource([shard])) for shard in shards])
    places = sorted({0, *ends.tolist()} - {len(stored)})
    for place in places:
        with _naming(place, split, folder):
            record = _read(stored, place, index)
            for frame in record.frames:
                _decode_jpeg(frame, recipe)
    return len(places)


@contextlib.contextmanager
def _naming(place: int, split: str, folder: pathlib.Path) -> Iterator[None]:
    """Names a record in the ValueErrors of the block."""
    try:
        yield
    except ValueError as error:
        where = f"record {place} of split {split!r} in {folder}"
        raise ValueError(f"{where} {error}; {manifest.REMEDY}") from None


def _read(stored: "ArrayRecordDataSource", place: int, index: records.Index) -> records.Record:
    """Reads a record, and compares it with the index.

    Raises:
        ValueError: The record cannot be read or does not match the index.
    """
    try:
        record = records.parse(stored[place])
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot be read ({error})") from None
    same = (
        record.name == index.names[place]
        and tuple(record.labels) == index.labels[place]
        and np.array_equal(record.roles, index.roles[place])
        and len(record.frames) == index.frames[place]
        and len(record.waveform) == index.samples[place]
    )
    if not same:
        raise ValueError("does not match its index")
    return record


def _decode_jpeg(data: bytes, recipe: records.Recipe) -> None:
    """Decodes a frame.

    Raises:
        ValueError: The frame is not a JPEG file, or larger than the recipe allows.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            image = PIL.Image.open(io.BytesIO(data), formats=["JPEG"])
        if image.width * image.height > picture.LARGEST_ASPECT * recipe.short_side**2:
            raise ValueError(f"has {image.width} x {image.height} pixels")
        image.load()
    except Exception as error:  # Pillow raises many types for damaged files
        raise ValueError(f"has a frame that cannot be decoded ({error})") from None


def _with_progress(items: Iterable[_T], total: int, unit: str) -> Iterable[_T]:
    return progress.bar("verifying", total, unit, items)
