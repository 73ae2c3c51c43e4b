"""Metadata of a prepared data set for TFDS, and the names of its files."""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from input_pipeline.prepared import manifest, preparation_report, records
from input_pipeline.programs.wording import counted

_TFDS_FILES = ("dataset_info.json", "features.json")  # written by TFDS


def shard_path(
    folder: str | os.PathLike, dataset: str, split: str, number: int, count: int
) -> pathlib.Path:
    """Returns the path of a shard. TFDS finds the shard by this name."""
    name = f"{dataset}-{split}.array_record-{number:05d}-of-{count:05d}"
    return pathlib.Path(folder) / name


def splits(folder: str | os.PathLike, recipe: records.Recipe) -> list[str]:
    """Returns the names of the splits, from the recipe or else from the names of the files."""
    if recipe.contents is not None:
        return sorted(recipe.contents.splits)
    shard = re.compile(rf"{re.escape(recipe.dataset)}-(.+)\.array_record-\d+-of-\d+")
    index = re.compile(r"index-(.+)\.npz")
    matches = (shard.fullmatch(name) or index.fullmatch(name) for name in os.listdir(folder))
    return sorted({match[1] for match in matches if match})


def find_shards(folder: str | os.PathLike, dataset: str, split: str) -> list[pathlib.Path]:
    """Finds the shards of a split by their names, in the order of their numbers.

    TFDS's own metadata files are not used: they name Python classes, which TFDS would import.

    Raises:
        ValueError: There are no shards, or some are missing.
    """
    pattern = re.compile(rf"{re.escape(dataset)}-{re.escape(split)}\.array_record-(\d+)-of-(\d+)")
    names = sorted(filter(pattern.fullmatch, os.listdir(folder)))
    count = int(pattern.fullmatch(names[0])[2]) if names else 0
    paths = [shard_path(folder, dataset, split, number, count) for number in range(len(names))]
    if not names or len(names) != count or names != [path.name for path in paths]:
        raise ValueError(
            f"{os.fspath(folder)!r} holds {counted(len(names), 'shard')} of split {split!r}; "
            f"allowed: {count or 'at least 1'}, all of the same data: {manifest.REMEDY}"
        )
    return paths


def list_files(folder: str | os.PathLike, dataset: str, names: Sequence[str]) -> list[str]:
    """Lists the names of all files of a complete data set but its recipe, in a fixed order.

    Args:
        folder: Folder of the data set.
        dataset: Name of the data set.
        names: Names of its splits.

    Raises:
        ValueError: A split lacks shards.
    """
    files = [
        name
        for name in (*_TFDS_FILES, preparation_report.NAME)
        if pathlib.Path(folder, name).is_file()
    ]
    for split in names:
        files += split_files(folder, dataset, split)
    return files


def split_files(folder: str | os.PathLike, dataset: str, split: str) -> list[str]:
    """Lists the names of a split's files, the index first.

    Raises:
        ValueError: The split lacks shards.
    """
    shards = find_shards(folder, dataset, split)
    return [records.index_path(folder, split).name, *(path.name for path in shards)]


def write(
    folder: str | os.PathLike,
    dataset: str,
    shard_lengths: Mapping[str, Sequence[int]],
    sizes: Mapping[str, int],
) -> None:
    """Writes the metadata with which `tfds.builder_from_directory` reads a folder of shards.

    Args:
        folder: Folder of the shards.
        dataset: Name of the data set.
        shard_lengths: Number of records in each shard, by split.
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
