"""The online probe measures features during training and does not change the training."""

import re
import shutil
import types

import jax
import numpy as np
import pytest

from tests.input_pipeline.prepared_files import write_prepared
from tests.saved_runs import logged_lines, save_run
from tests.tiny import random_params, tiny_config
from tests.xkd_jax.downstream.labeled_clips import record
from xkd_jax import pretrain_run, sharding
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import labeled_data, metrics, online, ranks
from xkd_jax.encoders import pretrained_encoder
from xkd_jax.method.models import xkd
from xkd_jax.method.state import TrainState
from xkd_jax.report import clips

NAMES = [
    f"{kind}/{m}_{n}"
    for kind in ("probe", "linear_probe")
    for n in ("teacher", "student")
    for m in ("video", "audio", "fused")
]
_OF_FEATURES = [f"{m}_{n}" for n in ("teacher", "student") for m in ("video", "audio")]
RANKS = [
    *(f"rankme/{name}" for name in (*_OF_FEATURES, "video_outputs", "audio_outputs")),
    *(f"lidar/{name}" for name in _OF_FEATURES),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Colors and tones of three classes: 15 training recordings and 9 test recordings."""
    splits = {
        split: [record(f"{split}{n}", n % 3) for n in range(count)]
        for split, count in (("train", 15), ("test", 9))
    }
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared", splits)


def make_config(data, **changes):
    config = tiny_config()
    config.data.dataset, config.data.path = "prepared", str(data)
    config.probe.update(every_steps=2, k=3)
    config.update_from_flattened_dict(changes)
    return config


def make_state(model, step=0):
    params = random_params(model)
    teacher = random_params(model, seed=1)
    return TrainState(
        step=step,
        params=params,
        teacher=model.teacher_target(teacher),
        centers={},
        opt_state={},
        seed=0,
    )


def test_what_a_random_network_sees_of_colors_and_tones(data, capsys):
    config = make_config(data)
    model = xkd.build(config)
    probe = online.make(config, model, sharding.make_mesh())
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.match(
        r"Probe every 2 steps: top-1 on 9 test recordings of 3 classes, by 3 neighbors out of 15; "
        r"chance 0\.33; read in [\d.]+ s, [\d.]+ MB",
        line,
    )
    state = make_state(model)
    after, found = probe(state, 2)
    assert after is state
    assert list(found) == NAMES + RANKS
    assert all(found[name] > 0.7 for name in NAMES), found
    assert all(1 < found[name] < 9 for name in RANKS), found  # of 9 recordings
    assert probe(state, 4)[1] == found


def test_features_are_those_of_load_encoder(data, tmp_path):
    config, model, state = save_run(tmp_path / "run")
    config = make_config(data)
    mesh = sharding.make_mesh()
    clips = online.read(config, online.open_data(config).partitions[0].test)
    found, _, targets = online.features(online.make_encoder(model, mesh), state, clips, mesh)
    used = np.concatenate([batch["used"] for batch in clips.batches])
    assert used.sum() == len(targets) == 9
    for modality in ("video", "audio"):
        views = np.concatenate([batch[modality] for batch in clips.batches])[used]
        for network in ("teacher", "student"):
            encoder = pretrained_encoder.load_encoder(tmp_path / "run", modality, network)
            expected = encoder.encode_views(views)
            np.testing.assert_allclose(
                found[f"{modality}_{network}"], expected, rtol=1e-4, atol=1e-5
            )
    assert found["fused_teacher"].shape == (9, 64)


def test_ranks_are_those_of_the_test_recordings_and_of_their_views(data):
    config = make_config(data)
    model, mesh = xkd.build(config), sharding.make_mesh()
    state, encode = make_state(model), online.make_encoder(model, mesh)
    test = online.open_data(config).partitions[0].test

    def encoded(**count):
        return online.features(encode, state, online.read(config, test, **count), mesh)

    single, several = encoded(), encoded(count=3)
    found = online.effective_ranks(single, several, 3)
    assert list(found) == RANKS
    assert found["rankme/video_student"] == ranks.rankme(single.features["video_student"])
    views = several.features["audio_teacher"].reshape(9, 3, -1)
    assert found["lidar/audio_teacher"] == ranks.lidar(views)
    # The teachers' outputs are projections of their features.
    projected = model.audio.project(
        xkd.modality_params(state.teacher, "audio"), single.features["audio_teacher"]
    )
    np.testing.assert_allclose(single.outputs["audio"], projected, rtol=1e-4, atol=1e-4)
    assert found["rankme/audio_outputs"] == pytest.approx(ranks.rankme(np.asarray(projected)), 1e-3)
    few = several._replace(features={name: x[:3] for name, x in several.features.items()})
    assert list(online.effective_ranks(single, few, 3)) == RANKS[:6]


def test_several_views_are_drawn_by_the_seed_and_stand_beside_each_other(data):
    def read(**changes):
        config = make_config(data, **changes)
        return online.read(config, online.open_data(config).partitions[0].test, 3)

    def rows(clips, name):
        return np.concatenate([batch[name] for batch in clips.batches])[:27]

    clips, again, other = read(), read(), read(**{"probe.seed": 1})
    assert clips.per_recording == 3
    np.testing.assert_array_equal(clips.targets[::3], clips.targets[2::3])
    assert len(clips.targets) == 27
    for m in ("video", "audio"):
        np.testing.assert_array_equal(rows(clips, m), rows(again, m))
        assert not np.array_equal(rows(clips, m), rows(other, m))
        assert not np.array_equal(rows(clips, m)[0], rows(clips, m)[1])


def test_a_recording_of_which_one_view_was_replaced_is_left_out(data):
    config = make_config(data)
    model, mesh = xkd.build(config), sharding.make_mesh()
    clips = online.read(config, online.open_data(config).partitions[0].test, 3)
    clips.batches[0]["used"][1] = False
    found = online.features(online.make_encoder(model, mesh), make_state(model), clips, mesh)
    assert len(found.targets) == len(found.features["fused_student"]) == 24


def test_wrong_labels_are_not_found_by_a_program_that_is_made_once(data):
    """With the labels of the training clips shifted by one class, no prediction is right."""
    config = make_config(data)
    model = xkd.build(config)
    mesh = sharding.make_mesh()
    partition = online.open_data(config).partitions[0]
    encode, state = online.make_encoder(model, mesh), make_state(model)
    encode.clear_cache()
    read = [online.read(config, part) for part in (partition.train, partition.test)]
    turned = read[0]._replace(targets=np.roll(read[0].targets, 1, axis=1))
    parts = [online.features(encode, state, clips, mesh) for clips in (turned, read[1])]
    assert len(parts[0].targets) == 15
    found = online.scores(*parts, k=3, temperature=0.07, metric=metrics.TOP1)
    assert all(value < 0.3 for value in found.values())
    online.features(encode, make_state(model, step=1), read[0], mesh)
    assert encode._cache_size() == 1


def recordings(labels, has_video=True):
    targets = np.eye(3, dtype=bool)[labels]
    source = types.SimpleNamespace(has_video=np.broadcast_to(has_video, len(labels)))
    return labeled_data.Recordings(source, np.arange(len(labels)), targets)


def test_recordings_are_drawn_evenly_from_the_classes():
    everything = recordings([0] * 20 + [1] * 5 + [2] * 2)
    drawn = online.choose(everything, 10, seed=0)
    assert drawn.targets.sum(axis=0).tolist() == [4, 4, 2]
    assert (np.diff(drawn.example_ids) > 0).all()
    assert drawn.example_ids.tolist() == online.choose(everything, 10, seed=0).example_ids.tolist()
    assert drawn.example_ids.tolist() != online.choose(everything, 10, seed=1).example_ids.tolist()
    assert len(online.choose(everything, 99, seed=0)) == 27
    has_video = np.arange(27) % 2 == 0
    some = online.choose(recordings([0] * 27, has_video), 99, seed=0)
    np.testing.assert_array_equal(some.example_ids, np.flatnonzero(has_video))
    assert len(online.choose(recordings([0] * 27, has_video=False), 99, seed=0)) == 27


def test_its_own_data_go_before_those_of_the_run(data, tmp_path):
    config = make_config(tmp_path, **{"probe.path": str(data), "data.dataset": "folder"})
    assert len(online.open_data(config).partitions[0].test) == 9


def test_it_and_the_report_look_at_the_validation_split_unless_the_test_split_is_named(tmp_path):
    counts = {"train": 15, "test": 9, "val": 6}
    splits = {s: [record(f"{s}{n}", n % 3) for n in range(k)] for s, k in counts.items()}
    path = write_prepared(tmp_path / "prepared", splits)

    def held_out(**fields):
        config = make_config(path, **{f"probe.{name}": value for name, value in fields.items()})
        recordings, use = online.find_held_out(config, online.open_data(config))
        return len(recordings), use

    assert held_out() == (6, "validation")
    assert held_out(test_split="test") == (9, "test")
    assert held_out(test_split="val") == (6, "test")
    shown = clips.of_run(make_config(path), 4)
    assert shown.origin.endswith("data, of their validation split, which it was not trained on")


def test_without_a_validation_split_it_scores_on_the_test_split(data):
    config = make_config(data)
    recordings, use = online.find_held_out(config, online.open_data(config))
    assert (len(recordings), use) == (9, "test")


def test_data_that_cannot_serve_are_refused_in_one_line(data, tmp_path):
    config = make_config(data, **{"probe.test_split": "nowhere"})
    with pytest.raises(ConfigError, match=r"^config\.probe on the run's own data: .*'nowhere'"):
        online.open_data(config)
    unlabeled = write_prepared(tmp_path / "none", {"train": [record("a"), record("b")]})
    with pytest.raises(ConfigError, match=r"^config\.probe: .* labeled data"):
        online.open_data(make_config(data, **{"probe.path": str(unlabeled)}))
    mixture = {"data.path": "", "data.sources": (str(data), str(unlabeled))}
    with pytest.raises(ConfigError, match=r"^config\.probe\.path is ''; allowed: labeled data"):
        online.open_data(make_config(data, **mixture))


def test_a_folder_of_the_probe_that_does_not_exist_is_named_as_its_own(data, tmp_path):
    config = make_config(data, **{"probe.path": str(tmp_path / "nowhere")})
    with pytest.raises(ConfigError, match=r"^config\.probe: path is '\S+/nowhere', which does not"):
        online.open_data(config)


@pytest.mark.slow
def test_a_run_in_two_parts_is_the_run_in_one_and_the_probe_changes_nothing(data, tmp_path, capsys):
    def run(name, **changes):
        changes = {"log.every_steps": 4, "log.images_every_steps": 0} | changes
        config = make_config(data, steps=4, **{"saving.every_steps": 2}, **changes)
        return jax.device_get(pretrain_run.pretrain(config, str(tmp_path / name)).state)

    def probed(name):
        return {
            line["step"]: [line.get(n) for n in NAMES + RANKS]
            for line in logged_lines(tmp_path / name)
        }

    whole = run("whole")
    assert "| probe video_teacher" in capsys.readouterr().out
    assert list(probed("whole")) == [2, 4]
    assert all(None not in values for values in probed("whole").values())
    without = run("without", **{"probe.every_steps": 0})
    jax.tree.map(np.testing.assert_array_equal, whole, without)

    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "4")
    resumed = run("parts")
    assert "RESTORED step 2" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert probed("parts") == probed("whole")
