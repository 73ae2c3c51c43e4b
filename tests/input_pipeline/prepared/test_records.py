"""Records and indices are read back as written, and TFDS reads them too."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from input_pipeline.files import atomic
from input_pipeline.prepared import records
from tests import full_disk


def _record() -> records.Record:
    return records.Record(
        name="a/Ünï code.mp4",
        frames=[b"\xff\xd8first", b"\xff\xd8second"],
        frame_times=np.array([0.0, 0.1], np.float32),
        waveform=np.array([-32768, 0, 5, 32767], np.int16),
        labels=(3, 1),
        roles=(records.Role.TRAIN, records.Role.TEST),
    )


def test_tfds_reads_what_is_serialized(tmp_path):
    shards = [
        f"{tmp_path}/tiny-train.array_record-00000-of-00002",
        f"{tmp_path}/tiny-train.array_record-00001-of-00002",
    ]
    for path, count in zip(shards, (0, 2), strict=True):  # a shard may be empty
        writer = ArrayRecordWriter(path, "group_size:1")
        for _ in range(count):
            writer.write(records.serialize(_record()))
        writer.close()
    template = tfds.core.ShardedFileTemplate(
        data_dir=tmp_path, dataset_name="tiny", split="train", filetype_suffix="array_record"
    )
    tfds.folder_dataset.write_metadata(
        data_dir=tmp_path,
        features=records.features(),
        split_infos=[
            tfds.core.SplitInfo(
                name="train", shard_lengths=[0, 2], num_bytes=1, filename_template=template
            )
        ],
        check_data=False,
    )
    source = tfds.builder_from_directory(tmp_path).as_data_source("train")
    assert len(source) == 2
    read, record = source[1], _record()
    assert read["name"].decode() == record.name
    assert list(read["frames"]) == record.frames
    np.testing.assert_array_equal(read["frame_times"], record.frame_times)
    np.testing.assert_array_equal(read["waveform"], record.waveform)
    assert tuple(read["labels"]) == record.labels
    assert tuple(read["roles"]) == record.roles


def test_tfds_serializes_alike():
    record = _record()
    info = records.features()
    serializer = tfds.core.example_serializer.ExampleSerializer(info.get_serialized_info())
    example = {name: getattr(record, name) for name in info}
    example["labels"] = np.array(record.labels)
    example["roles"] = np.array(record.roles)
    from_tfds = serializer.serialize_example(info.encode_example(example))
    parse = tfds.core.example_parser.ExampleParser(info.get_serialized_info()).parse_example
    ours, theirs = parse(records.serialize(record)), parse(from_tfds)
    for name in info:
        np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy(), err_msg=name)


def test_examples_are_tensorflows_byte_for_byte():
    data = records.serialize(_record())
    theirs = tf.train.Example.FromString(data)
    assert set(theirs.features.feature) == set(records.features())
    assert theirs.SerializeToString(deterministic=True) == data


@pytest.mark.parametrize("count", [0, 1, 3])
def test_index_comes_back(tmp_path, count):
    index = records.Index(
        names=["a\nb.mp4", "", "ü"][:count],
        labels=[(), (4,), (0, 2)][:count],
        roles=np.array([[1, 2], [2, 1], [0, 1]])[:count],
        frames=np.array([80, 0, 1])[:count],
        samples=np.array([0, 7, 16000])[:count],
    )
    path = records.index_path(tmp_path, "train")
    index.save(path)
    once = path.read_bytes()
    loaded = records.load_index(path)
    assert list(loaded.names) == index.names
    assert list(loaded.labels) == index.labels
    for name in ("roles", "frames", "samples"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(index, name))
    index.save(path)
    assert path.read_bytes() == once


def test_counts_that_no_record_can_have_are_damage(tmp_path):
    path = records.index_path(tmp_path, "train")
    for name in ("frames", "samples"):
        counts = {"frames": np.array([8]), "samples": np.array([16000]), name: np.array([2**31])}
        records.Index(["a"], [()], np.zeros((1, 0), int), **counts).save(path)
        with pytest.raises(ValueError, match=f"index-train.npz is damaged: its {name} are not"):
            records.load_index(path)


def test_recipe_comes_back(tmp_path):
    recipe = records.Recipe("ucf101", 8.0, 128, ("bow", "tennis swing"), ("1", "2", "3"))
    recipe.save(tmp_path)
    assert records.load_recipe(tmp_path) == recipe
    with pytest.raises(FileNotFoundError):
        records.load_recipe(tmp_path / "elsewhere")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    atomic.write_text(path, "old")
    with pytest.raises(TypeError):
        atomic.write_bytes(path, "not bytes")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_takes_no_files_is_an_error_that_names_the_file():
    with pytest.raises(OSError, match=r"'/proc/file'$"):
        atomic.write_text("/proc/file", "text")


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def replace():
        with atomic.replacing(path) as draft:
            draft.write_bytes(bytes(1000))

    for write in (lambda: atomic.write_bytes(path, bytes(1000)), replace):
        with full_disk.largest_file(100), pytest.raises(OSError, match=f"'{path}'$"):
            write()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
