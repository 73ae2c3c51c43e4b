"""Whether prepared data are as they were written: a quick look at each opening, all on demand."""

import contextlib
import dataclasses
import pathlib
import typing
from collections.abc import Iterable, Sequence

import numpy as np
import tqdm

from input_pipeline import manifest, metadata, records, report

if typing.TYPE_CHECKING:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

_T = typing.TypeVar("_T")


def check(folder: pathlib.Path, recipe: records.Recipe, splits: Sequence[str]) -> None:
    """Checks some splits as far as that is quick: their indices, sizes and beginnings of shards.

    Data of former versions have nothing to check by, which it says.

    Args:
        folder: Prepared data.
        recipe: Their recipe.
        splits: Which of the splits.

    Raises:
        ValueError: They have changed since they were written.
    """
    if recipe.contents is None:
        print(
            f"{folder} is of a former version, without digests: its files are not checked. "
            f"To add them: python -m input_pipeline.inspect --data={folder} --verify --write",
            flush=True,
        )
        return
    known = recipe.contents.files
    found: list[str] = []
    for split in splits:
        index, *shards = metadata.split_files(folder, recipe.dataset, split)
        strange = [name for name in (index, *shards) if name not in known]
        found += [f"{name} is none of the files that were written" for name in strange]
        for names, whole in (([index], True), (shards, False)):
            files = {name: known[name] for name in names if name in known}
            found += filter(None, manifest.problems(folder, files, whole))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ValueError(f"{found[0]}{more}; {manifest.REMEDY}")


def load_report(folder: pathlib.Path) -> dict[str, object]:
    """Reads the report of data, finished or not, and checks it where there is a digest of it.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It has changed since it was written, or the recipe has.
    """
    values = report.load(folder)
    with contextlib.suppress(FileNotFoundError):  # the data are not finished
        contents = records.load_recipe(folder).contents
        known = contents.files if contents is not None else {}
        files = {name: file for name, file in known.items() if name == report.NAME}
        for problem in filter(None, manifest.problems(folder, files, whole=True)):
            raise ValueError(problem)
    return values


def verify(folder: pathlib.Path, write: bool = False) -> str:
    """Reads prepared data from end to end; says what is wrong, file by file.

    Data of former versions have no digests. Of these, all records are read, which have checksums of
    their own, and compared with the index.

    Args:
        folder: Prepared data.
        write: Whether to write down the digests of data that are in order and have none.

    Returns:
        What was checked, in one line.

    Raises:
        FileNotFoundError: They are not prepared.
        ValueError: They are not as they were written.
    """
    recipe = records.load_recipe(folder)
    if recipe.contents is not None:
        files = recipe.contents.files
        looks = manifest.problems(folder, files, whole=True)
        found = list(filter(None, _in_progress(looks, len(files), "file")))
        if found:
            print("\n".join(found))
            raise ValueError(
                f"{len(found)} of {len(files)} files in {folder} are not as they were written; "
                f"{manifest.REMEDY}"
            )
        return f"{folder}: all {len(files)} files are as they were written"
    splits = metadata.splits(folder, recipe)
    count = sum(_read_through(folder, recipe, split) for split in splits)
    if write:
        names = metadata.list_files(folder, recipe.dataset, splits)
        files = {
            name: manifest.describe(folder / name)
            for name in _in_progress(names, len(names), "file")
        }
        contents = manifest.Manifest(tuple(splits), files)
        dataclasses.replace(recipe, contents=contents).save(folder)
    told = "have been written down" if write else "are missing: --write adds them"
    return f"{folder}: {count} records can be read and are as the indices say; digests {told}"


def open_records(
    folder: pathlib.Path, recipe: records.Recipe, split: str, index: records.Index
) -> "ArrayRecordDataSource":
    """Opens the shards of a split.

    Args:
        folder: Prepared data.
        recipe: Their recipe.
        split: The split.
        index: Its index.

    Returns:
        The records, serialized, to be had at random.

    Raises:
        ValueError: A shard is missing or damaged, or they are not those that the index tells of.
    """
    # Takes its time to load, and only where there is something to read.
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        stored = ArrayRecordDataSource(metadata.find_shards(folder, recipe.dataset, split))
    except RuntimeError as error:  # a shard that is damaged
        raise ValueError(f"its shards cannot be read ({error}); {manifest.REMEDY}") from None
    if len(stored) != len(index.names):
        raise ValueError(
            f"it holds {len(stored)} records, but its index tells of {len(index.names)}; "
            f"{manifest.REMEDY}"
        )
    return stored


def _read_through(folder: pathlib.Path, recipe: records.Recipe, split: str) -> int:
    """Compares all records of a split with its index; returns their number."""
    index = records.load_index(records.index_path(folder, split))
    stored = open_records(folder, recipe, split, index)
    for place in _in_progress(range(len(stored)), len(stored), "record"):
        where = f"record {place} of split {split!r} in {folder}"
        try:
            record = records.parse(stored[place])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{where} cannot be read ({error}); {manifest.REMEDY}") from None
        same = (
            record.name == index.names[place]
            and tuple(record.labels) == index.labels[place]
            and np.array_equal(record.roles, index.roles[place])
            and len(record.frames) == index.frames[place]
            and len(record.waveform) == index.samples[place]
        )
        if not same:
            raise ValueError(f"{where} is not what its index says; {manifest.REMEDY}")
    return len(stored)


def _in_progress(items: Iterable[_T], total: int, unit: str) -> Iterable[_T]:
    return tqdm.tqdm(items, "verifying", total, unit=unit, disable=None, leave=False)
