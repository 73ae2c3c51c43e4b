"""Several prepared sets as one: what a clip is, which clips a batch has, and what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest

from configs import base
from input_pipeline import data_folders, datasets
from input_pipeline.datasets import prepared
from input_pipeline.example_order import MixedOrder
from input_pipeline.loader import Loader, ReadError
from input_pipeline.prepared import records, sets
from tests.input_pipeline.prepared_files import clock_record, write_prepared


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Returns three folders: with picture and sound, without sound, and without picture."""
    root = tmp_path_factory.mktemp("mixture")
    both = [clock_record(f"{n}.mp4", 2.0 + n / 8, labels=(n,)) for n in range(3)]
    silent = [clock_record(f"{n}.mp4", 3.0, sound=0, labels=()) for n in range(2)]
    sounds = [clock_record(f"{n}.wav", 2.0 + n / 4, picture=False) for n in range(4)]
    return [
        write_prepared(root / "both", {"train": both, "test": both[:1]}),
        write_prepared(root / "silent", {"train": silent}, dataset="quiet"),
        write_prepared(root / "sounds", {"full": sounds}, partitions=()),
    ]


def settings(folders, **fields):
    """Returns the sections data and views for small views of one second."""
    config = base.get_config()
    config.data.update({"dataset": "prepared", "sources": tuple(map(str, folders)), **fields})
    video, audio = config.views.video, config.views.audio
    video.global_frames, video.local_frames, video.global_size, video.local_size = 8, 4, 24, 16
    audio.global_frames, audio.local_frames, audio.local_seconds = 112, 56, 0.5
    return config.data, config.views


def batches(folders, steps, weights=(2, 1, 1), **place):
    data, views = settings(folders)
    source = datasets.open_dataset(data, views, picture=False)
    order = MixedOrder([*source.sets.values()], weights)
    return list(Loader(source, views, 4, seed=3, order=order, threads=2, **place).batches(*steps))


@pytest.fixture(scope="module")
def whole(folders):
    """The first six batches of four."""
    return batches(folders, (0, 6))


def test_a_clip_is_that_of_its_own_set(folders):
    source = datasets.open_dataset(*settings(folders), picture=False)
    assert len(source) == 9
    assert source.sets == {
        str(folder): range(*ids)
        for folder, ids in zip(folders, [(0, 3), (3, 5), (5, 9)], strict=True)
    }
    assert source.labels is None and source.class_names == () and source.partitions == ()
    for folder, ids in source.sets.items():
        data, views = settings([])
        data.path = folder
        alone = datasets.open_dataset(data, views, picture=False)
        for number, index in enumerate(ids):
            assert source.name(index) == f"{folder}: {alone.name(number)}"
            ours, theirs = source.read(index, 0.4), alone.read(number, 0.4)
            np.testing.assert_array_equal(ours.frames, theirs.frames)
            np.testing.assert_array_equal(ours.waveform, theirs.waveform)
            assert (ours.has_video, ours.has_audio) == (theirs.has_video, theirs.has_audio)


def test_what_a_recording_lacks_is_marked(whole):
    ids = np.concatenate([batch["example_id"] for batch in whole])
    flags = {f: np.concatenate([batch[f] for batch in whole]) for f in ("has_audio", "has_video")}
    np.testing.assert_array_equal(flags["has_audio"], (ids < 3) | (ids >= 5))
    np.testing.assert_array_equal(flags["has_video"], ids < 5)
    for batch in whole:
        counts = np.bincount(np.digitize(batch["example_id"], [3, 5]))
        np.testing.assert_array_equal(counts, [2, 1, 1])
        assert not batch["video_global"][~batch["has_video"]].any()


def test_a_batch_depends_on_the_seed_and_the_step_alone(folders, whole):
    resumed = batches(folders, (4, 6))
    halves = [batches(folders, (0, 6), process_index=place, process_count=2) for place in range(2)]
    joined = [
        {name: np.concatenate([one[name], other[name]]) for name in one}
        for one, other in zip(*halves, strict=True)
    ]
    for ours, expected in ((resumed, whole[4:]), (joined, whole)):
        for batch, theirs in zip(ours, expected, strict=True):
            for name, array in theirs.items():
                np.testing.assert_array_equal(batch[name], array, err_msg=name)


def test_the_fingerprint_is_that_of_all_sets(folders, tmp_path):
    def inventory(*folders):
        return datasets.open_dataset(*settings(folders), picture=False).inventory

    first = inventory(*folders)
    assert first["recordings"] == 9
    copy = shutil.copytree(folders[2], tmp_path / "elsewhere")
    assert inventory(*folders[:2], copy) == first
    sounds = [clock_record(f"{n}.wav", 2.0 + n / 4, picture=False) for n in range(4)]
    sounds[2] = dataclasses.replace(sounds[2], waveform=sounds[2].waveform // 2)
    write_prepared(tmp_path / "changed", {"full": sounds})
    for others in ((folders[1], folders[0], folders[2]), (*folders[:2], tmp_path / "changed")):
        assert inventory(*others)["digest"] != first["digest"]


def test_a_damaged_record_is_named_with_its_set(folders, tmp_path):
    broken = shutil.copytree(folders[1], tmp_path / "broken")
    for shard in broken.glob("*.array_record*"):
        content = bytearray(shard.read_bytes())
        content[5_000:5_100] = bytes(100)  # in its only record
        shard.write_bytes(content)
    with pytest.raises(ReadError, match=rf"^example [34], {broken}: \d\.mp4: "):
        batches([folders[0], broken, folders[2]], (0, 2))


def refusal(data, views, error=ValueError, **options):
    with pytest.raises(error) as caught:
        datasets.open_dataset(data, views, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "DATA"}, "config.data.path is 'DATA'; allowed: '' with config.data.sources"),
        ({"dataset": "folder"}, "config.data.dataset is 'folder'; allowed: 'prepared' with"),
        ({"weights": (1, 2)}, "config.data.weights is (1, 2); allowed: (), or 3 numbers"),
        ({"split": "test"}, "config.data.split is 'test', which '{1}' does not hold"),
    ],
)
def test_fields_that_do_not_go_together(folders, fields, message):
    message = message.replace("{1}", str(folders[1]))
    assert refusal(*settings(folders, **fields), picture=False).startswith(message)


def test_weights_need_sources(folders):
    data, views = settings([], path=str(folders[0]), weights=(1,))
    expected = "config.data.weights is (1,); allowed: () without config.data.sources"
    assert refusal(data, views) == expected


def test_a_folder_that_cannot_be_used_is_named(folders, tmp_path):
    missing = refusal(*settings([folders[0], "nowhere"]), error=FileNotFoundError)
    assert missing.startswith("config.data.sources holds 'nowhere', which does not exist; allowed:")
    told = refusal(*settings([folders[0], tmp_path]))
    assert told.startswith(f"config.data.sources holds '{tmp_path}', which is not prepared")
    again = folders[0] / ".." / folders[0].name
    assert f"different folders; '{again}' comes twice" in refusal(*settings([folders[0], again]))
    told = refusal(*settings(folders))
    assert f"holds '{folders[1].with_name('sounds')}', whose split 'full' has 4 of 4" in told


@pytest.mark.parametrize(("field", "value"), [("frame_rate", 4.0), ("short_side", 32)])
def test_sets_prepared_differently_are_not_mixed(folders, tmp_path, field, value):
    other = shutil.copytree(folders[1], tmp_path / "other")
    dataclasses.replace(records.load_recipe(other), **{field: value}).save(other)
    data, views = settings([folders[2], folders[0], other])
    views.video.frame_rate, views.video.global_frames = 4.0, 4
    theirs = {"frame_rate": 8, "short_side": 48}[field]
    assert refusal(data, views, picture=False) == (
        f"config.data.sources holds '{folders[0]}', prepared with --{field}={theirs}, and "
        f"'{other}', with --{field}={value:g}; allowed: sets prepared alike"
    )


def test_the_frames_size_of_a_set_without_pictures_means_nothing(folders, tmp_path):
    other = shutil.copytree(folders[2], tmp_path / "other")
    dataclasses.replace(records.load_recipe(other), short_side=512).save(other)
    opened = sets.open_sets(settings([other, folders[0]])[0])
    assert opened.recipe.short_side == 48 and opened.recipe.class_names == ()


def test_one_source_is_as_one_path(folders):
    data, views = settings(folders[:1])
    alone, alone_views = settings([], path=str(folders[0]))
    one, other = prepared.open_prepared(data, views), prepared.open_prepared(alone, alone_views)
    assert one.fingerprint == other.fingerprint and one.name(0) == other.name(0)


def test_shares_are_by_weight_or_by_size():
    data = {"sources": ["A", "B"], "weights": [1, 3], "path": ""}
    words = [share.in_words(1000) for share in data_folders.shares(data, [50, 10])]
    assert words == ["25.00% of the examples, 5 passes", "75.00% of the examples, 75 passes"]
    words = [
        share.in_words(1000) for share in data_folders.shares(data | {"weights": []}, [50, 10])
    ]
    assert words == ["83.33% of the examples, 16.67 passes", "16.67% of the examples, 16.67 passes"]
    assert data_folders.folders({"path": "A"}) == ("A",)  # of earlier versions
