"""What TFDS needs to know of a prepared data set: the names of its files, and what they hold."""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from input_pipeline import manifest, records, report

_DESCRIPTION = ("dataset_info.json", "features.json")  # TFDS's own


def shard_path(
    folder: str | os.PathLike, dataset: str, split: str, number: int, count: int
) -> pathlib.Path:
    """Where a shard is: TFDS finds it by this name."""
    name = f"{dataset}-{split}.array_record-{number:05d}-of-{count:05d}"
    return pathlib.Path(folder) / name


def splits(folder: str | os.PathLike, recipe: records.Recipe) -> list[str]:
    """Names of the splits: those written down, or else those that any file is of."""
    if recipe.contents is not None:
        return sorted(recipe.contents.splits)
    shard = re.compile(rf"{re.escape(recipe.dataset)}-(.+)\.array_record-\d+-of-\d+")
    index = re.compile(r"index-(.+)\.npz")
    found = (shard.fullmatch(name) or index.fullmatch(name) for name in os.listdir(folder))
    return sorted({match[1] for match in found if match})


def find_shards(folder: str | os.PathLike, dataset: str, split: str) -> list[pathlib.Path]:
    """Finds the shards of a split by their names, in the order of their numbers.

    What TFDS keeps beside them is not asked: it names Python classes, which TFDS imports.

    Raises:
        ValueError: There are none, or some are missing.
    """
    pattern = re.compile(rf"{re.escape(dataset)}-{re.escape(split)}\.array_record-(\d+)-of-(\d+)")
    found = sorted(filter(pattern.fullmatch, os.listdir(folder)))
    count = int(pattern.fullmatch(found[0])[2]) if found else 0
    paths = [shard_path(folder, dataset, split, number, count) for number in range(len(found))]
    if not found or len(found) != count or found != [path.name for path in paths]:
        raise ValueError(
            f"{os.fspath(folder)!r} holds {len(found)} shards of split {split!r}; "
            f"allowed: {count or 'at least 1'}, all of the same data: {manifest.REMEDY}"
        )
    return paths


def list_files(folder: str | os.PathLike, dataset: str, names: Sequence[str]) -> list[str]:
    """Names of all files that a complete data set has besides its recipe, in one order.

    Args:
        folder: The folder.
        dataset: Name of the data set.
        names: Of its splits.

    Raises:
        ValueError: A split lacks shards.
    """
    files = [name for name in (*_DESCRIPTION, report.NAME) if pathlib.Path(folder, name).is_file()]
    for split in names:
        files += split_files(folder, dataset, split)
    return files


def split_files(folder: str | os.PathLike, dataset: str, split: str) -> list[str]:
    """Names of a split's files, the index first; raises as `find_shards`."""
    shards = find_shards(folder, dataset, split)
    return [records.index_path(folder, split).name, *(path.name for path in shards)]


def write(
    folder: str | os.PathLike,
    dataset: str,
    shard_lengths: Mapping[str, Sequence[int]],
    sizes: Mapping[str, int],
) -> None:
    """Makes a folder of shards one that `tfds.builder_from_directory` reads.

    Args:
        folder: The folder.
        dataset: Name of the data set.
        shard_lengths: Number of records of each shard, by split.
        sizes: Bytes of all shards, by split.
    """
    import tensorflow_datasets as tfds

    templates = {
        split: tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=dataset, split=split, filetype_suffix="array_record"
        )
        for split in shard_lengths
    }
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=records.features(),
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=list(lengths),
                num_bytes=sizes[split],
                filename_template=templates[split],
            )
            for split, lengths in shard_lengths.items()
        ],
        check_data=False,
    )
