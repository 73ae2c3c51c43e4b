"""Probes end to end: no leaks, features go with their recordings, nothing is computed twice."""

import json

import numpy as np
import pytest

from configs.eval import probe as probe_config
from input_pipeline.prepared.records import Role
from tests.input_pipeline.prepared_files import clock_record, write_prepared
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import backbones, extraction, metrics, probe, sampling, selection

TRAIN, TEST = Role.TRAIN, Role.TEST
COUNT = 24


@pytest.fixture(scope="module")
def encoders(run):
    return backbones.load(run, ("video", "audio"), "teacher", np.dtype("float32"))


def rows(count=COUNT, partitions=0, **form):
    """Makes recordings of alternating classes, each in the test set of one partition."""
    made = []
    for number in range(count):
        roles = tuple(TEST if number // 2 % 3 == p else TRAIN for p in range(partitions))
        form |= {"labels": (number % 2,), "roles": roles, "size": (32, 32)}
        made.append(clock_record(f"{number}", 1.0, **form))
    return made


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Data of each kind: official partitions, three splits, and a single unnamed split."""
    root = tmp_path_factory.mktemp("data")
    return {
        "official": write_prepared(root / "o", {"full": rows(partitions=3)}, ("1", "2", "3")),
        "splits": write_prepared(root / "s", {"train": rows(), "val": rows(8), "test": rows(6)}),
        "pile": write_prepared(root / "p", {"train": rows()}),
    }


def config_for(run, path, **changes):
    config = probe_config.get_config()
    config.checkpoint, config.data.path = run, str(path)
    config.compute_dtype = "float32"
    config.batch_size = 8
    config.clips.train.count, config.clips.test.count = 2, 1
    config.classifier.svm.c = (1e-2, 1.0)
    config.update_from_flattened_dict(changes)
    return config


# No leaks.


class Identified:
    """Features that are the ids of their recordings."""

    unreadable = ()

    def load(self, recordings, use):
        source = float(id(recordings.source) % 9973)
        numbers = recordings.example_ids.astype(np.float32)
        features = np.stack([numbers, np.full_like(numbers, source)], axis=-1)
        return selection.LabeledFeatures(
            np.repeat(features[:, None], 2, axis=1), recordings.targets
        )


def evaluate(config, data):
    """Evaluates like `probe.probe`, with features that are ids."""
    parts = sampling.folds(config, data)
    classifier = probe.make_classifier(config, data, parts)
    return probe.evaluate(parts, Identified(), classifier, metrics.TOP1)


def identities(samples):
    return {tuple(row) for row in samples.features[:, 0].tolist()}


@pytest.mark.parametrize("tune_on", ["first", "each"])
@pytest.mark.parametrize("kind", ["official", "splits", "pile"])
def test_no_recording_is_trained_on_and_scored(kinds, encoders, run, kind, tune_on, monkeypatch):
    config = config_for(run, kinds[kind], **{"selection.tune_on": tune_on})
    data = probe.open_data(config, encoders)
    fits, fit = [], selection.fit

    def spied(classifier, train, parts, doing):
        fits.append((identities(train), [identities(part) for part in parts]))
        return fit(classifier, train, parts, doing)

    monkeypatch.setattr(selection, "fit", spied)
    outcomes = evaluate(config, data)
    for train, parts in fits:
        assert train and all(parts) and not any(train & part for part in parts)
    everything = set.union(*(train.union(*parts) for train, parts in fits))
    assert len(everything) == {"official": COUNT, "splits": COUNT + 8 + 6, "pile": COUNT}[kind]
    partitions = {"official": 3, "splits": 1, "pile": 1}[kind]
    assert len(outcomes) == partitions
    choices = partitions if tune_on == "each" else 1
    # One fit to choose and one to test. With a validation split, one fit serves for both.
    assert len(fits) == (1 if kind == "splits" else choices + partitions)
    for outcome in outcomes.values():
        assert outcome.counts["test"] == len(outcome.scores) == len(outcome.targets)


def test_what_is_chosen_on_the_first_partition_holds_for_all(kinds, encoders, run):
    config = config_for(run, kinds["official"])
    data = probe.open_data(config, encoders)
    first, second, third = evaluate(config, data).values()
    assert first.counts["held_out"] > 0 and first.candidates[0].held_out is not None
    for other in (second, third):
        assert other.chosen == first.chosen
        assert other.counts["held_out"] == 0
        assert [c.value for c in other.candidates] == [c.value for c in first.candidates]
        assert all(c.held_out is None and c.test is not None for c in other.candidates)


# Features go with their recordings.


def numbered(calls):
    """Makes a stand-in for `extract`: features are ids, and recording 3 is unreadable."""

    def extract(protocol, source, example_ids, cache, mesh, **_):
        calls.append((protocol.clips, protocol.views, example_ids))
        shape = (len(example_ids), protocol.clips.count, 2)
        features = np.broadcast_to(example_ids[:, None, None], shape).astype(np.float32)
        return extraction.Features(
            dict.fromkeys(protocol.backbones, features), np.asarray(example_ids) == 3
        )

    return extract


@pytest.mark.parametrize("same", [False, True])
def test_features_go_with_their_recordings(kinds, encoders, run, monkeypatch, tmp_path, same):
    """A recording is encoded once if training and test clips are configured alike."""
    config = config_for(run, kinds["official"])
    if same:
        config.clips.train.update({"count": 1, "placement": "uniform", "augment": False})
    calls = []
    monkeypatch.setattr(sampling.extraction, "extract", numbered(calls))
    data = probe.open_data(config, encoders)
    parts = sampling.folds(config, data)
    samples = sampling.FeatureSource(config, {"video": encoders["video"]}, parts, tmp_path)
    assert len(calls) == (1 if same else 2)
    for clips, views, example_ids in calls:
        np.testing.assert_array_equal(example_ids, np.arange(COUNT))
        assert ("color_jitter" in views.video) == clips.augment
    assert samples.unreadable == ["3"]
    for partition in data.partitions:
        for use, part in (("train", partition.train), ("test", partition.test)):
            found = samples.load(part, use)
            readable = part.example_ids != 3
            np.testing.assert_array_equal(found.features[:, 0, 0], part.example_ids[readable])
            np.testing.assert_array_equal(found.targets, part.targets[readable])
            assert found.features.shape[1] == (2 if use == "train" and not same else 1)


@pytest.mark.parametrize("fusion", ["plain", "unit"])
def test_features_are_fused_as_the_config_says(kinds, encoders, run, monkeypatch, tmp_path, fusion):
    monkeypatch.setattr(sampling.extraction, "extract", numbered([]))
    config = config_for(run, kinds["pile"], fusion=fusion)
    parts = sampling.folds(config, probe.open_data(config, encoders))
    samples = sampling.FeatureSource(config, encoders, parts, tmp_path)
    part = parts[0].test
    numbers = part.example_ids[part.example_ids != 3].astype(np.float32)
    rows = samples.load(part, "test").features[:, 0]
    width = rows.shape[1] // 2  # of one modality, whose features are all the recording's number
    expected = numbers if fusion == "plain" else (numbers > 0) / np.sqrt(width)
    np.testing.assert_allclose(rows, np.repeat(expected[:, None], 2 * width, 1), rtol=1e-6)


def test_media_are_decoded_for_the_crop(kinds, encoders, run, monkeypatch):
    opened = []
    monkeypatch.setattr(
        probe.labeled_data, "open_labeled", lambda data, views, picture: opened.append(views)
    )
    monkeypatch.setattr(probe, "without_sound", lambda data: (0, 1))
    for crop in (1.0, 0.875):
        config = config_for(run, kinds["pile"], **{"clips.test.crop": crop})
        probe.open_data(config, encoders)
    assert [views.video.short_side for views in opened] == [32, 37]


def test_what_is_chosen_on_is_seen_as_what_is_tested(kinds, encoders, run, monkeypatch, tmp_path):
    """Held-out recordings use test clips and the others training clips.

    With a validation split, the training set is not divided.
    """
    monkeypatch.setattr(sampling.extraction, "extract", numbered([]))
    for kind, divided in (("pile", True), ("splits", False)):
        config = config_for(run, kinds[kind])
        [fold] = sampling.folds(config, probe.open_data(config, encoders))
        samples = sampling.FeatureSource(config, {"video": encoders["video"]}, [fold], tmp_path)
        assert samples.load(fold.held, "test").features.shape[1] == config.clips.test.count == 1
        assert samples.load(fold.kept, "train").features.shape[1] == config.clips.train.count == 2
        assert (fold.kept is fold.train) is not divided
        if divided:
            both = [*fold.kept.example_ids, *fold.held.example_ids]
            assert sorted(both) == fold.train.example_ids.tolist()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("splits", ["train clips", "test clips", "validation clips"]),
        ("pile", ["train clips", "test, validation clips"]),  # of one source
    ],
)
def test_messages_say_what_clips_are_for(
    kinds, encoders, run, monkeypatch, tmp_path, kind, expected
):
    titles, extract = [], numbered([])

    def listened(*args, title, **options):
        titles.append(title)
        return extract(*args, **options)

    monkeypatch.setattr(sampling.extraction, "extract", listened)
    config = config_for(run, kinds[kind])
    folds = sampling.folds(config, probe.open_data(config, encoders))
    sampling.FeatureSource(config, {"video": encoders["video"]}, folds, tmp_path)
    assert titles == expected


# Refusals, before features are extracted.


def test_there_has_to_be_something_to_choose_on(kinds, encoders, run):
    config = config_for(run, kinds["official"], **{"data.held_out": 0.0})
    data = probe.open_data(config, encoders)
    with pytest.raises(
        ConfigError, match=r"config\.data\.held_out is 0\.0; allowed: .* to choose C"
    ):
        probe.make_classifier(config, data, sampling.folds(config, data))
    config.classifier.svm.c = (1.0,)
    probe.make_classifier(config, data, sampling.folds(config, data))


def test_an_svm_is_not_for_recordings_of_several_classes(run, encoders, tmp_path):
    splits = {
        split: [clock_record(f"{n}", 1.0, labels=(0, 1) if n else (2,)) for n in range(4)]
        for split in ("train", "test")
    }
    config = config_for(run, write_prepared(tmp_path / "data", splits))
    data = probe.open_data(config, encoders)
    with pytest.raises(ConfigError, match=r"config\.classifier\.name is 'svm'; allowed"):
        probe.make_classifier(config, data, sampling.folds(config, data))


def test_data_without_any_sound_cannot_be_listened_to(run, encoders, tmp_path, capsys):
    mute = write_prepared(tmp_path / "mute", {"train": rows(8, sound=0)})
    with pytest.raises(ConfigError, match=r"config\.modalities is .*; allowed: \('video',\) for"):
        probe.open_data(config_for(run, mute, modalities=("audio",)), encoders)
    made = rows(8)
    made[5:] = rows(8, sound=0)[5:]
    some = write_prepared(tmp_path / "some", {"train": made})
    probe.open_data(config_for(run, some, modalities=("audio",)), encoders)
    assert "silence in place of sound: 3 of 8 recordings" in capsys.readouterr().out


# Whole probes.


def test_the_second_time_no_feature_is_made_and_the_result_is_the_same(
    kinds, run, tmp_path, monkeypatch, capsys
):
    cache = tmp_path / "features"
    config = config_for(run, kinds["official"], **{"features.cache": str(cache)})
    config.paper = "ucf101/svm"
    first = probe.probe(config, str(tmp_path / "one"))
    assert json.loads((tmp_path / "one" / "results.json").read_text()) == json.loads(
        json.dumps(first)
    )
    assert (tmp_path / "one" / "confusion.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "paper, another recipe: XKD, Kinetics400" in printed and "83.8" in printed
    assert "not by the paper's protocol: " in printed
    assert first["checkpoint"]["provenance"]["step"] == 7
    assert first["data"]["recordings"] == COUNT and first["data"]["unreadable"] == []
    assert first["protocol"]["clips"]["test"]["count"] == 1
    assert set(first["partitions"]) == {"1", "2", "3"}
    monkeypatch.setattr(extraction, "_encoded", None)
    again = probe.probe(config, str(tmp_path / "two"))
    assert again == first
    # Another classifier uses the same features.
    config.classifier.name = "knn"
    config.classifier.knn.k = (1, 3)
    other = probe.probe(config, str(tmp_path / "three"))
    assert other["partitions"]["1"]["varied"] == "k"
