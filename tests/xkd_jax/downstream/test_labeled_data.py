"""The division of each kind of data into training and test sets, and refused data."""

import re
import shutil

import numpy as np
import pytest

from configs import base
from input_pipeline.prepared.records import Role
from tests.input_pipeline.prepared_files import CLASSES, clock_record, write_prepared
from tests.media_files import write_media
from xkd_jax.config import evaluation, schema
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import labeled_data

TRAIN, TEST, UNUSED = Role.TRAIN, Role.TEST, Role.UNUSED


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    return write_media(tmp_path_factory.mktemp("clip") / "clip.mp4", 1.0, size=(32, 32))


def views():
    views = base.get_config().views
    views.video.global_frames, views.video.global_size, views.video.short_side = 4, 16, 16
    return views


def opened(path, dataset, picture=True, **fields):
    data = schema.defaults(evaluation.labeled_data())
    data.dataset, data.path = dataset, str(path)
    data.update(fields)
    return labeled_data.open_labeled(data, views(), picture)


def refusal(path, dataset, picture=True, **fields):
    with pytest.raises((ConfigError, ValueError, FileNotFoundError)) as error:
        opened(path, dataset, picture, **fields)
    assert "\n" not in str(error.value) and "allowed: " in str(error.value)
    return str(error.value)


def names(recordings):
    return [recordings.source.name(number) for number in recordings.example_ids]


def classes(data, recordings):
    return [
        [name for name, held in zip(data.class_names, row, strict=True) if held]
        for row in recordings.targets
    ]


def record(name, *labels, roles=(), **form):
    return clock_record(name, 1.0, labels=labels, roles=roles, size=(16, 16), **form)


# Prepared data.


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Two partitions of four recordings, one of them without sound; and one without a label."""
    forms = {
        "a": (0, (TRAIN, TEST)),
        "b": (1, (TRAIN, TRAIN)),
        "c": (1, (TEST, TRAIN)),
        "d": (0, (UNUSED, TRAIN)),
    }
    rows = [
        record(name, label, roles=roles, sound=0 if name == "b" else None)
        for name, (label, roles) in forms.items()
    ]
    rows.insert(1, record("nothing", roles=(TRAIN, TEST)))
    return write_prepared(tmp_path_factory.mktemp("data") / "full", {"full": rows}, ("1", "2"))


def test_official_partitions_are_taken_as_they_are(official, capsys):
    data = opened(official, "prepared")
    first, second = data.partitions
    assert (first.name, names(first.train), names(first.test)) == ("1", ["a", "b"], ["c"])
    assert (second.name, names(second.train), names(second.test)) == ("2", ["b", "c", "d"], ["a"])
    assert first.validation is None and second.validation is None
    assert data.class_names == CLASSES and not data.multi_label
    assert classes(data, second.train) == [["run"], ["run"], ["bow"]]
    assert "left out 1 of 5 recordings without a label" in capsys.readouterr().out
    assert [first.train.without_sound, first.test.without_sound] == [1, 0]
    [(source, ids)] = labeled_data.all_recordings(data)
    assert [source.name(number) for number in ids] == ["a", "b", "c", "d"]


def test_some_partitions_may_be_asked_for(official):
    data = opened(official, "prepared", partitions=("2",))
    assert [partition.name for partition in data.partitions] == ["2"]
    assert "config.data.partitions is ('3',); allowed: () for all, or some of ('1', '2')" in (
        refusal(official, "prepared", partitions=("3",))
    )


def test_splits_of_a_multi_label_data_set(tmp_path):
    """The data are like FSD50K: audio alone, with a validation split."""
    splits = {
        "train": [record("a", 0, 2, picture=False), record("b", 1, picture=False)],
        "val": [record("c", 2, picture=False)],
        "test": [record("d", 0, 1, picture=False)],
    }
    path = write_prepared(tmp_path / "sound", splits)
    data = opened(path, "prepared", picture=False)
    [partition] = data.partitions
    assert data.multi_label and partition.name == "test"
    assert [names(part) for part in partition[1:]] == [["a", "b"], ["d"], ["c"]]
    assert classes(data, partition.train) == [["bow", "swim"], ["run"]]
    assert "2 of 2 recordings without picture" in refusal(path, "prepared")


@pytest.mark.parametrize(
    "dataset", ["kinetics400", "kinetics600", "kinetics700", "something_something"]
)
def test_what_has_no_labels_to_test_on_is_tested_on_val(tmp_path, dataset):
    splits = {
        "train": [record("a", 0), record("b", 1)],
        "val": [record("c", 1)],
        "test": [record("d")],  # without labels
    }
    path = write_prepared(tmp_path / "data", splits, dataset=dataset)
    [partition] = opened(path, "prepared").partitions
    assert (partition.name, names(partition.test), partition.validation) == ("val", ["c"], None)
    assert "config.data.path is " in refusal(path, "prepared", test_split="test")


def test_splits_can_be_named_and_are_never_the_same(tmp_path):
    rows = [record(name, label) for name, label in (("a", 0), ("b", 1))]
    path = write_prepared(tmp_path / "data", {"one": rows, "two": rows, "train": rows[:1]})
    [partition] = opened(path, "prepared", train_split="two", test_split="one").partitions
    assert partition.name == "one" and len(partition.train) == len(partition.test) == 2
    message = refusal(path, "prepared", train_split="two", test_split="two")
    assert "config.data.train_split is 'two'; allowed: a split that no other" in message
    message = refusal(path, "prepared", train_split="three")
    assert "config.data.train_split is 'three'; allowed: '' or an existing split: 'one'" in (
        message
    )
    assert "the training recordings of partition 'one' have 1" in refusal(
        path, "prepared", test_split="one"
    )


# Folders.


def folder(root, clip_file, paths):
    for path in paths.split():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip_file, root / path)
    return root


@pytest.mark.parametrize("tested", ["test", "val"])
def test_a_folder_with_splits(tmp_path, clip_file, tested):
    paths = "train/bow/1.mp4 train/run/2.mp4 train/swim/3.mp4 {0}/run/4.mp4 {0}/swim/5.mp4"
    root = folder(tmp_path / "data", clip_file, paths.format(tested))
    data = opened(root, "folder")
    [partition] = data.partitions
    assert data.class_names == ("bow", "run", "swim") and partition.name == tested
    # Classes are matched by name: the smaller split numbers them differently.
    assert classes(data, partition.test) == [["run"], ["swim"]]
    assert classes(data, partition.train) == [["bow"], ["run"], ["swim"]]


@pytest.mark.parametrize(
    ("train", "tested", "validation"),
    [("Train", "Test", "Val"), ("training", "testing", "validation"), ("TRAIN", "Eval", "valid")],
)
def test_splits_are_found_by_any_of_their_usual_names(
    tmp_path, clip_file, train, tested, validation
):
    paths = f"{train}/a/1.mp4 {train}/b/2.mp4 {validation}/a/3.mp4 {tested}/b/4.mp4 stray.mp4"
    data = opened(folder(tmp_path / "data", clip_file, paths), "folder")
    [partition] = data.partitions
    assert data.class_names == ("a", "b") and partition.name == tested
    assert [names(part) for part in partition[1:]] == [
        ["a/1.mp4", "b/2.mp4"],
        ["b/4.mp4"],
        ["a/3.mp4"],
    ]


def test_which_of_two_folders_is_a_split_is_not_guessed(tmp_path, clip_file):
    paths = "Train/a/1.mp4 train/b/2.mp4 test/a/3.mp4"
    message = refusal(folder(tmp_path / "data", clip_file, paths), "folder")
    assert message == "config.data.train_split is ''; allowed: one of 'Train', 'train'"


def test_a_stray_file_takes_no_labels_away(tmp_path, clip_file, capsys):
    paths = " ".join(f"{name}/{n}.mp4" for name in "ab" for n in range(5))
    root = folder(tmp_path / "data", clip_file, f"{paths} stray.mp4")
    [partition] = opened(root, "folder").partitions
    assert sorted(names(partition.train) + names(partition.test)) == sorted(paths.split())
    assert "left out 1 of 11 recordings without a label" in capsys.readouterr().out


def test_a_folder_with_a_split_to_choose_on(tmp_path, clip_file):
    paths = "train/a/1.mp4 train/b/2.mp4 val/a/3.mp4 test/b/4.mp4"
    [partition] = opened(folder(tmp_path / "data", clip_file, paths), "folder").partitions
    assert partition.name == "test"
    assert [names(part) for part in partition[1:]] == [
        ["a/1.mp4", "b/2.mp4"],
        ["b/4.mp4"],
        ["a/3.mp4"],
    ]


def test_a_class_that_is_tested_and_not_trained_on_is_refused(tmp_path, clip_file):
    paths = "train/a/1.mp4 train/b/2.mp4 test/A/3.mp4"
    message = refusal(folder(tmp_path / "data", clip_file, paths), "folder")
    assert message == (
        "config.data.test_split is ''; allowed: a split without classes that the training split "
        "lacks, such as 'A'"
    )


def test_a_folder_without_splits_is_divided_class_by_class(tmp_path, clip_file):
    """A class named "train" is not taken for a split."""
    paths = " ".join(f"{name}/{n}.mp4" for name in ("plane", "train") for n in range(5))
    root = folder(tmp_path / "data", clip_file, paths)
    [partition] = opened(root, "folder", test_share=0.4).partitions
    assert partition.name == "random" and partition.validation is None
    np.testing.assert_array_equal(partition.test.targets.sum(axis=0), [2, 2])
    assert sorted(names(partition.train) + names(partition.test)) == sorted(paths.split())
    [again] = opened(root, "folder", test_share=0.4).partitions
    assert names(again.test) == names(partition.test)
    [other] = opened(root, "folder", test_share=0.4, seed=1).partitions
    assert names(other.test) != names(partition.test)


def test_folders_that_cannot_serve(tmp_path, clip_file):
    assert "config.data.path is '/nowhere'" in refusal("/nowhere", "folder")
    assert "config.data.path is '/nowhere'" in refusal("/nowhere", "prepared")
    flat = folder(tmp_path / "flat", clip_file, "1.mp4 2.mp4")
    assert re.search(r"config\.data\.path is .*; allowed: labeled data", refusal(flat, "folder"))
    one = folder(tmp_path / "one", clip_file, "a/1.mp4 a/2.mp4")
    assert "the training recordings of partition 'random' have 1" in refusal(one, "folder")
    few = folder(tmp_path / "few", clip_file, "a/1.mp4 b/2.mp4")
    assert "has none to test on" in refusal(few, "folder")


def test_generated_data(tmp_path):
    form = {"train": 8, "test": 8, "seed": 0}
    data = opened(tmp_path / "made", "generated", generated=form)
    [partition] = data.partitions
    assert partition.name == "test" and len(partition.train) == len(partition.test) == 8
    assert len(data.class_names) > 1
    same = (partition.train.targets == partition.test.targets).all()
    assert same, "both splits go through the classes in turn"


# Holding out.


def recordings(labels, classes=3):
    targets = np.eye(classes, dtype=bool)[labels]
    return labeled_data.Recordings(None, np.arange(100, 100 + len(labels)), targets)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("counts", [(40, 20, 10), (2, 2, 2), (1, 30, 2), (5, 0, 5)])
def test_what_is_held_out_is_in_proportion_and_never_kept(counts, share):
    given = recordings(np.repeat(np.arange(3), counts))
    for seed in range(5):
        kept, held = labeled_data.held_out(given, share, seed)
        assert not set(kept.example_ids) & set(held.example_ids)
        assert sorted([*kept.example_ids, *held.example_ids]) == list(given.example_ids)
        for place in range(3):
            part = held.targets[:, place].sum()
            assert abs(part - share * counts[place]) <= 1
            assert kept.targets[:, place].sum() >= min(counts[place], 1)
        rows = np.concatenate([kept.example_ids, held.example_ids]) - 100
        np.testing.assert_array_equal(
            given.targets[rows], np.concatenate([kept.targets, held.targets])
        )


def test_holding_out_follows_the_seed_alone():
    given = recordings(np.tile([0, 1, 2], 20))
    first, second, other = (labeled_data.held_out(given, 0.2, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.example_ids, second.example_ids)
    assert set(first.example_ids) != set(other.example_ids)


def test_holding_out_of_several_labels():
    rng = np.random.default_rng(0)
    given = labeled_data.Recordings(None, np.arange(50), rng.random((50, 4)) < 0.5)
    kept, held = labeled_data.held_out(given, 0.2, 0)
    assert (len(kept), len(held)) == (40, 10)
    assert not set(kept.example_ids) & set(held.example_ids)


def test_too_few_to_hold_any_out():
    for share, labels in ((0.2, [0, 1, 2]), (0.0, [0, 0, 1, 1])):
        kept, held = labeled_data.held_out(recordings(labels), share, 0)
        assert (len(kept), len(held)) == (len(labels), 0)


# Identity.


def test_the_fingerprint_follows_recordings_labels_and_partitions(tmp_path):
    def of(number, rows, **fields):
        path = write_prepared(tmp_path / str(number), {"full": rows}, ("1",))
        return opened(path, "prepared", **fields).fingerprint

    def rows(*forms):
        return [record(name, label, roles=(role,)) for name, label, role in forms]

    forms = [("a", 0, TRAIN), ("b", 1, TRAIN), ("c", 0, TEST)]
    first = of(0, rows(*forms))
    assert of(1, rows(*forms)) == first
    others = {
        of(2, rows(*forms[:2], ("c", 1, TEST))),
        of(3, rows(*forms[:2], ("d", 0, TEST))),
        of(4, rows(*forms, ("d", 0, TEST))),
    }
    assert len(others | {first}) == 4


@pytest.mark.parametrize(("dataset", "picture"), [("folder", False), ("prepared", True)])
def test_silence_is_for_sound_alone_from_prepared_data(tmp_path, dataset, picture):
    message = refusal(tmp_path, dataset, picture, short_sound="silence")
    assert message.startswith("config.data.short_sound is 'silence'; allowed: 'repeat', except for")
