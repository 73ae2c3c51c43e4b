"""Small prepared data of clocks: every frame and every moment of sound shows its own time."""

import dataclasses
import io
import pathlib

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from input_pipeline.prepared import manifest, metadata, records
from tests.media_files import clock_frame, clock_sound

FRAME_RATE = 8.0
CLASSES = ("bow", "run", "swim")


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=records.JPEG_QUALITY)
    return file.getvalue()


def clock_record(
    name: str,
    seconds: float,
    *,
    picture: bool = True,
    sound: float | None = None,
    size: tuple[int, int] = (64, 48),
    labels: tuple[int, ...] = (0,),
    roles: tuple[int, ...] = (),
) -> records.Record:
    """Makes a record whose frames and sound are those of a clock.

    Args:
        name: Name of the record.
        seconds: Length of the picture in seconds.
        picture: Whether the record has frames.
        sound: Length of the sound in seconds; by default that of the picture.
        size: Width and height of the frames in pixels.
        labels: Indices of the record's classes.
        roles: Role of the record in each partition.
    """
    times = np.arange(round(seconds * FRAME_RATE) if picture else 0) / FRAME_RATE
    heard = np.arange(round((seconds if sound is None else sound) * records.SAMPLE_RATE))
    return records.Record(
        name=name,
        frames=[jpeg(clock_frame(time, *size)) for time in times],
        frame_times=times.astype(np.float32),
        waveform=np.round(clock_sound(heard / records.SAMPLE_RATE) * 32767).astype(np.int16),
        labels=labels,
        roles=roles,
    )


def write_prepared(
    folder: pathlib.Path,
    splits: dict[str, list[records.Record]],
    partitions: tuple[str, ...] = (),
    shards: int = 2,
    dataset: str = "tiny",
    sealed: bool = True,
) -> pathlib.Path:
    """Writes records as `python -m input_pipeline.prepare` does; old versions wrote no seals."""
    folder.mkdir(parents=True, exist_ok=True)
    infos = []
    for split, items in splits.items():
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=dataset, split=split, filetype_suffix="array_record"
        )
        parts = [list(part) for part in np.array_split(np.arange(len(items)), shards)]
        for number, part in enumerate(parts):
            path = template.sharded_filepath(shard_index=number, num_shards=shards)
            writer = ArrayRecordWriter(str(path), records.SHARD_OPTIONS)
            for item in part:
                writer.write(records.serialize(items[item]))
            writer.close()
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(part) for part in parts],
                num_bytes=1,
                filename_template=template,
            )
        )
        records.Index(
            names=[item.name for item in items],
            labels=[tuple(item.labels) for item in items],
            roles=np.array([item.roles for item in items]).reshape(len(items), len(partitions)),
            frames=np.array([len(item.frames) for item in items]),
            samples=np.array([len(item.waveform) for item in items]),
        ).save(records.index_path(folder, split))
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=records.features(), split_infos=infos, check_data=False
    )
    recipe = records.Recipe(dataset, FRAME_RATE, 48, CLASSES, partitions)
    if sealed:
        names = metadata.list_files(folder, dataset, sorted(splits))
        files = {name: manifest.describe(folder / name) for name in names}
        contents = manifest.Manifest(tuple(sorted(splits)), files)
        recipe = dataclasses.replace(recipe, contents=contents)
    recipe.save(folder)
    return folder
