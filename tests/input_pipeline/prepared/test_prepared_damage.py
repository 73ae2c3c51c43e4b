"""Prepared data are read exactly as written, or refused in one line."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest

from input_pipeline import inspect
from input_pipeline.datasets import prepared
from input_pipeline.files import sealed
from input_pipeline.prepared import manifest, records, verification
from tests.damage import damages
from tests.input_pipeline.datasets.test_prepared import data_of, views_of
from tests.input_pipeline.prepared_files import clock_record, jpeg, write_prepared

TRAIN = [clock_record(f"{number}.mp4", 2.0, size=(16, 16), labels=(number,)) for number in range(3)]
TEST = [clock_record(f"{number}.mp4", 2.0, size=(16, 16), labels=(2,)) for number in (7, 8)]


def make(folder, **options):
    return write_prepared(folder, {"train": TRAIN, "test": TEST}, **options)


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "data")


def open_train(folder):
    return prepared.open_prepared(data_of(folder, "train"), views_of())


def refusal(folder):
    with pytest.raises(ValueError) as caught:
        open_train(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def content(folder):
    """Returns everything that training reads from the data."""
    source = open_train(folder)
    stored = [source.fetch(index) for index in range(len(source))]
    return source._recipe, source._index.names, source.label_sets, source.has_audio.tolist(), stored


FILES = sorted(
    ["dataset_info.json", "features.json", "prepared.json"]
    + [f"index-{split}.npz" for split in ("train", "test")]
    + [
        f"tiny-{split}.array_record-0000{number}-of-00002"
        for split in ("train", "test")
        for number in range(2)
    ]
)


@pytest.mark.faults
@pytest.mark.parametrize("name", FILES)
def test_damage_is_noticed_or_harmless(folder, name):
    assert sorted(os.listdir(folder)) == FILES
    whole, path = content(folder), folder / name
    for damaged in damages(path.read_bytes(), 60):
        path.write_bytes(damaged)
        try:
            assert content(folder) == whole
        except ValueError as error:
            told = ("config.data.path", "prepared.json is damaged", "the record of")
            assert any(words in str(error) for words in told)
            assert "\n" not in str(error)
        try:  # the remaining files are checked on demand
            verification.verify(folder)
        except ValueError as error:
            assert name in str(error) or "1 of 8 files" in str(error)
        else:  # a digit may change without changing the number
            assert name == "prepared.json" and content(folder) == whole


@pytest.mark.faults
@pytest.mark.parametrize("name", [name for name in FILES if "array_record" not in name])
def test_damage_to_data_without_digests_is_no_traceback(tmp_path, name):
    folder = make(tmp_path, sealed=False)
    path = folder / name
    for damaged in damages(path.read_bytes(), 150):
        path.write_bytes(damaged)
        for look in (content, verification.verify):
            try:
                look(folder)
            except ValueError as error:
                assert "\n" not in str(error)


def swap(one, other):
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tiny-train.array_record-00000-of-00002", "tiny-train.array_record-00001-of-00002"),
        ("tiny-train.array_record-00000-of-00002", "tiny-test.array_record-00000-of-00002"),
        ("index-train.npz", "index-test.npz"),
    ],
)
def test_swapped_files_are_noticed(folder, one, other):
    swap(folder / one, folder / other)
    assert f"{one} has " in refusal(folder)


def test_shards_of_other_data_are_noticed(folder, tmp_path):
    others = [clock_record(f"{number}.mp4", 3.0) for number in range(3)]
    elsewhere = write_prepared(tmp_path / "elsewhere", {"train": others}, shards=3)
    for shard in folder.glob("tiny-train.array_record-*"):
        shard.unlink()
    for shard in elsewhere.glob("tiny-train.array_record-*"):
        shard.rename(folder / shard.name)
    assert "of-00003 is not one of the files that were written (and 2 more)" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "other"), [('"frame_rate": 8.0', '"frame_rate": 9.0'), ('"bow"', '"row"')]
)
def test_a_changed_recipe_is_noticed(folder, text, other):
    recipe = folder / "prepared.json"
    changed = recipe.read_text().replace(text, other)
    assert changed != recipe.read_text()
    recipe.write_text(changed)
    assert "prepared.json is damaged: its content has changed" in refusal(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frame_rate", 1e308),
        ("frame_rate", 10**400),
        ("frame_rate", 1e-6),
        ("frame_rate", True),
        ("short_side", "48"),
        ("short_side", 10**6),
        ("class_names", "abc"),
        ("partitions", {"a": 1}),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_whoever_has_sealed_it(folder, field, value):
    path = folder / "prepared.json"
    recipe = sealed.unseal(json.loads(path.read_text()))
    path.write_text(json.dumps(sealed.seal(recipe | {field: value})))
    assert f"prepared.json is damaged: its {field} " in refusal(folder)


@pytest.mark.parametrize("splits", ["train", {"train": 1}, ["train"] * 2, ["train", "../x"]])
def test_splits_that_cannot_be_are_refused_whoever_has_sealed_them(folder, splits):
    path = folder / "prepared.json"
    recipe = sealed.unseal(json.loads(path.read_text()))
    path.write_text(json.dumps(sealed.seal(recipe | {"splits": splits})))
    assert re.search(r"prepared\.json is damaged: .*split", refusal(folder))


def test_verifying_misses_the_digests_of_a_splits_files(folder):
    path = folder / "prepared.json"
    recipe = sealed.unseal(json.loads(path.read_text()))
    path.write_text(json.dumps(sealed.seal(recipe | {"files": {}})))
    with pytest.raises(ValueError, match="not as they were written: 6 of 0 files"):
        verification.verify(folder)


def test_many_shards_are_not_looked_for_where_there_are_few(folder):
    first = folder / "tiny-train.array_record-00000-of-00002"
    first.rename(folder / "tiny-train.array_record-00000-of-999999999")
    assert "holds 2 shards of split 'train'; allowed: 999999999" in refusal(folder)


@pytest.mark.parametrize(
    "text",
    [
        '{"dataset": "tiny"}',
        "[]",
        "3",
        "[" * 100_000,
        '{"dataset": 3, "frame_rate": 8, "short_side": 1, "class_names": [], "partitions": []}',
        '{"dataset": "", "frame_rate": "8", "short_side": 1, "class_names": [], "partitions": []}',
        '{"dataset": "", "frame_rate": 0, "short_side": 1, "class_names": [], "partitions": []}',
        '{"dataset": "", "frame_rate": 8, "short_side": 1, "class_names": [3], "partitions": []}',
        '{"dataset": "", "frame_rate": 8, "short_side": 1, "class_names": 3, "partitions": []}',
    ],
)
def test_what_is_no_recipe_is_refused(folder, text):
    (folder / "prepared.json").write_text(text)
    assert "prepared.json is damaged: " in refusal(folder)


def test_files_elsewhere_are_not_looked_at():
    for name in ("../x", "/dev/zero", "\x1b[2J"):
        with pytest.raises(ValueError, match="or file has a folder or unpr"):
            manifest.parse([], {name: {}})


# Splits.


@pytest.mark.parametrize("has_digests", [True, False])
@pytest.mark.parametrize("asked", ["train", ""])
def test_a_missing_index_does_not_lead_to_another_split(tmp_path, has_digests, asked):
    """The test split's shards are there, and must not become training data."""
    folder = make(tmp_path, sealed=has_digests)
    (folder / "index-train.npz").unlink()
    with pytest.raises(ValueError, match=r"split 'train' cannot be read.* index-train\.npz"):
        prepared.open_prepared(data_of(folder, asked), views_of())


def test_a_split_of_which_all_files_are_gone_is_missed(folder):
    for path in (*folder.glob("*train*"),):
        path.unlink()
    with pytest.raises(ValueError, match="holds 0 shards of split 'train'"):
        prepared.open_prepared(data_of(folder), views_of())


def test_a_recording_of_nothing_is_refused(tmp_path):
    nothing = clock_record("9.mp4", 2.0, picture=False, sound=0.0)
    folder = write_prepared(tmp_path, {"train": [*TRAIN, nothing]})
    with pytest.raises(ValueError, match="has recordings without picture and sound"):
        prepared.open_prepared(data_of(folder, "train"), views_of(), picture=False)


# Data of earlier versions.


def test_data_without_digests_open_and_say_so(tmp_path, capsys):
    folder = make(tmp_path, sealed=False)
    before = content(folder)
    told = capsys.readouterr().out.splitlines()
    assert "its files are not checked" in told[0]
    assert told[0].endswith(f"python -m input_pipeline.inspect --data={folder} --verify --write")
    assert verification.verify(folder).endswith("digests are missing: --write adds them")
    fingerprint = open_train(folder).fingerprint
    assert "5 records can be read" in verification.verify(folder, write=True)
    capsys.readouterr()
    assert content(folder)[1:] == before[1:]
    assert "not checked" not in capsys.readouterr().out
    assert open_train(folder).fingerprint == fingerprint
    assert records.load_recipe(folder) == records.load_recipe(make(tmp_path / "new"))


def test_damaged_data_are_not_given_digests(tmp_path):
    folder = make(tmp_path, sealed=False)
    before = (folder / "prepared.json").read_bytes()
    swap(
        folder / "tiny-train.array_record-00000-of-00002",
        folder / "tiny-train.array_record-00001-of-00002",
    )
    with pytest.raises(ValueError, match=r"record 0 of split 'train' in .* does not match its"):
        verification.verify(folder, write=True)
    assert (folder / "prepared.json").read_bytes() == before


# The command.


def command(monkeypatch, *flags):
    monkeypatch.setattr("sys.argv", ["inspect", *map(str, flags)])
    inspect.main()


def test_inspect_verifies(folder, monkeypatch, capsys):
    command(monkeypatch, "--data", folder, "--verify")
    assert capsys.readouterr().out == (
        f"{folder}: all 8 files are as they were written; one record of each of 4 shards can be "
        "decoded\n"
    )
    for name in ("features.json", "index-test.npz"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit, match=r"^error: not as they were written: 2 of 8 files in "):
        command(monkeypatch, "--data", folder, "--verify")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["features.json", "index-test.npz"]
    assert all(line.endswith("has changed since it was written") for line in lines)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\xff\xd8 no JPEG", "cannot identify"),
        (clock_record("", 0.2, size=(64, 48)).frames[0][:-60], "Truncated"),
        (jpeg(np.zeros((300, 300, 3), np.uint8)), "has 300 x 300 pixels"),
    ],
)
def test_verifying_decodes_a_record_of_each_shard(tmp_path, frame, reason):
    """Digests show only that the files are as they were written."""
    bad = dataclasses.replace(TRAIN[2], frames=[*TRAIN[2].frames[1:], frame])
    folder = write_prepared(tmp_path, {"train": [*TRAIN[:2], bad], "test": TEST})
    with pytest.raises(ValueError, match=rf"^record 2 of split 'train' in .*{reason}"):
        verification.verify(folder)


def test_what_inspect_cannot_verify_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"prepared\.json; allowed: prepared data"):
        command(monkeypatch, "--data", tmp_path, "--verify")
    with pytest.raises(SystemExit, match="--write; allowed only with --verify"):
        command(monkeypatch, "--data", tmp_path, "--write")


def test_a_changed_report_is_not_shown(tmp_path, monkeypatch, capsys):
    tmp_path.joinpath("report.json").write_text(json.dumps({"total": 3}))
    folder = make(tmp_path)
    tmp_path.joinpath("report.json").write_text(json.dumps({"total": 4}))
    command(monkeypatch, "--data", folder, "--clips=0")
    said = capsys.readouterr().out
    assert re.search(r"no readable report: report\.json has changed", said)
