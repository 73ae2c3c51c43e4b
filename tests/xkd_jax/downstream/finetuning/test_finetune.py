"""Finetuning learns, resumes bit for bit, and reports the scores that it stores."""

import json
import os
import signal

import jax
import numpy as np
import pytest

import xkd_jax
from configs.eval import finetune_audio, finetune_video
from tests.integration.runs import load_state, saved_steps
from tests.saved_runs import logged_lines, save_run
from tests.xkd_jax.downstream import labeled_clips
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import metrics
from xkd_jax.downstream.finetuning import finetune, finetune_folder, partition_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrained")
    save_run(workdir)
    return workdir


@pytest.fixture(scope="module")
def two_partitions(tmp_path_factory):
    return labeled_clips.two_partitions(tmp_path_factory.mktemp("data") / "two")


@pytest.fixture(scope="module")
def multi_label(tmp_path_factory):
    return labeled_clips.multi_label(tmp_path_factory.mktemp("data") / "sound")


def small(config, pretrained, data, steps, **changes):
    config.checkpoint, config.data.path = str(pretrained), str(data)
    config.steps, config.batch_size, config.evaluation.batch_size = steps, 8, 8
    config.evaluation.clips = 2
    config.log.every_steps = 1
    config.compute_dtype = "float32"
    config.optimizer.warmup_epochs = 0.0
    config.update_from_flattened_dict(changes)
    return config


def video_config(pretrained, data, steps=24, **changes):
    """Weak augmentation of every kind, on 48 pixels instead of the 32 of pretraining."""
    changes = {
        "frame_size": 48,
        "short_side": 48,
        "dropout": 0.1,
        "drop_path": 0.1,
        "label_smoothing": 0.0,
        "mixing.probability": 0.1,
        "augmentation.crop_scale": (0.5, 1.0),
        "augmentation.rand_augment.magnitude": 1.0,
        "augmentation.rand_augment.probability": 0.2,
        "optimizer.learning_rate": 2e-2,
        "optimizer.layer_decay": 0.9,
        "data.held_out": 0.4,
        # An epoch is 3/8 of a step, so there are evaluations after 12 and 24 steps.
        "evaluation.every_epochs": 32.0,
        "saving.every_steps": 10,
        "saving.keep": 9,
    } | changes
    return small(finetune_video.get_config(), pretrained, data, steps, **changes)


def audio_config(pretrained, data, steps=30, **changes):
    changes = {
        "dropout": 0.0,
        "augmentation.time_mask_frames": 8,
        "augmentation.frequency_mask_bands": 3,
        "augmentation.time_warp": 5,
        "augmentation.crop_extent": (0.9, 1.1),
        "augmentation.crop_canvas": (1.0, 1.1),
        "optimizer.learning_rate": 2e-2,
        "optimizer.layer_decay": 0.9,
        "evaluation.every_epochs": 20.0,
        "evaluation.watch_test": False,
    } | changes
    return small(finetune_audio.get_config(), pretrained, data, steps, **changes)


@pytest.fixture(scope="module")
def undisturbed(pretrained, two_partitions, tmp_path_factory):
    """Workdir and results of an uninterrupted finetuning of video."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    return workdir, finetune.finetune(video_config(pretrained, two_partitions), str(workdir))


def test_a_handful_of_clips_is_learned_in_every_partition(undisturbed):
    workdir, found = undisturbed
    assert list(found["partitions"]) == ["1", "2"]
    assert found["scores"]["top1"] == {"mean": 1.0, "spread": 0.0}
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(found))
    assert {path.name for path in workdir.glob("*.png")} == {"confusion.png", "per_class.png"}
    for name in found["partitions"]:
        losses = [line["total"] for line in logged_lines(workdir / name)]
        assert losses[0] > 0.8 and np.mean(losses[-3:]) < 0.5 * losses[0], losses


def test_evaluations_are_logged_and_kept(undisturbed):
    workdir, found = undisturbed
    logged = [line for line in logged_lines(workdir / "1") if "test/top1" in line]
    assert [line["step"] for line in logged] == [12, 24]
    partition = found["partitions"]["1"]
    candidates = partition["candidates"]
    assert [c["held_out"] for c in candidates] == [line["held_out/top1"] for line in logged]
    assert [c["test"] for c in candidates] == [line["test/top1"] for line in logged]
    assert [c["value"] for c in candidates] == [32.0, 64.0]
    assert partition["recordings"] == {"train": 3, "held_out": 3, "test": 6}
    history = load_state(workdir / "1", 24)["['history']"]
    np.testing.assert_allclose(history[:, 0], [c["held_out"] for c in candidates], rtol=1e-6)
    best = np.argmax(history[:, 0])
    assert partition["chosen"] == candidates[best]["value"]
    assert partition["scores"]["top1"] == pytest.approx(history[best, 1])


def test_head_and_encoder_are_both_trained_and_the_best_weights_kept(undisturbed, pretrained):
    workdir, found = undisturbed
    partition = found["partitions"]["1"]
    values = [c["value"] for c in partition["candidates"]]
    chosen = [12, 24][values.index(partition["chosen"])]
    state = load_state(workdir / "1", 24)
    start = load_state(pretrained, 7)
    blocks = "['transformer']['blocks']"
    for name in (
        f"{blocks}['qkv']['kernel']",
        "['patch_embedding']['kernel']",
        "['norm']['scale']",
    ):
        before = start[f"['teacher']['video']['encoder']{name}"]
        assert not np.allclose(before, state[f"['params']['encoder']{name}"], atol=1e-4), name
    positions = state["['params']['encoder']['position_embedding']"]
    assert positions.shape == (1 + 2 * 6 * 6, 32)  # instead of pretraining's 2 x 4 x 4
    assert np.abs(state["['params']['head']['kernel']"]).max() > 0.02
    differs = any(
        not np.array_equal(state[name], state[name.replace("['best']", "['params']")])
        for name in state
        if name.startswith("['best']")
    )
    assert differs == (chosen != 24)


def stop_after(step, monkeypatch):
    """Makes the run stop at an evaluation, as a scheduler would."""
    evaluate = finetune.Evaluator.__call__

    def stopping(self, state, at):
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, state, at)

    monkeypatch.setattr(finetune.Evaluator, "__call__", stopping)


def test_the_chosen_weights_are_loaded_as_an_encoder(undisturbed):
    workdir, _ = undisturbed
    encoder = xkd_jax.load_encoder(workdir / "1")
    state = load_state(workdir / "1", 24)
    leaves, _ = jax.tree_util.tree_flatten_with_path(encoder.params)
    for path, leaf in leaves:
        saved = state[f"['best']['encoder']{jax.tree_util.keystr(path)}"]
        np.testing.assert_array_equal(leaf, saved)
    assert encoder.sizes.view == (8, 48, 48, 3)


def test_stopped_twice_it_ends_in_the_same_bits(
    undisturbed, pretrained, two_partitions, tmp_path, monkeypatch, capsys
):
    whole, expected = undisturbed
    config = video_config(pretrained, two_partitions, **{"data.partitions": ("1",)})
    with monkeypatch.context() as patch:
        stop_after(12, patch)
        assert finetune.finetune(config, str(tmp_path)) is None
    assert saved_steps(tmp_path / "1") == [10, 12]
    with monkeypatch.context() as patch:
        # Stopped after the last step and before the test, with nothing left to train.
        patch.setattr(finetune.Evaluator, "outcome", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            finetune.finetune(config, str(tmp_path))
    assert "RESTORED step 12" in capsys.readouterr().out
    found = finetune.finetune(config, str(tmp_path))
    assert found["partitions"]["1"] == expected["partitions"]["1"]
    ours, theirs = (load_state(folder / "1", 24) for folder in (tmp_path, whole))
    assert ours.keys() == theirs.keys() and any("best" in key for key in ours)
    for key, array in theirs.items():
        np.testing.assert_array_equal(ours[key], array, err_msg=key)
    # A finetuning of all partitions uses the outcome of one that was run alone.
    assert finetune_folder.OUTCOME in {path.name for path in (tmp_path / "1").iterdir()}


def test_a_finished_finetuning_tells_its_results_again(
    undisturbed, pretrained, two_partitions, monkeypatch, capsys
):
    workdir, expected = undisturbed
    monkeypatch.setattr(partition_run.loop, "train", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(finetune.finetune_inputs.Predictor, "__call__", lambda *_: 1 / 0)
    found = finetune.finetune(video_config(pretrained, two_partitions), str(workdir))
    assert found["partitions"] == expected["partitions"]
    said = capsys.readouterr().out
    assert "top-1" in said and "100.0" in said and "best on test" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.learning_rate": 0.5}, r"config\.optimizer\.learning_rate: 0\.02 -> 0\.5; all"),
        ({"network": "student"}, r"config\.network: teacher -> student"),
    ],
)
def test_a_workdir_of_another_finetuning_is_refused(
    undisturbed, pretrained, two_partitions, changes, message
):
    workdir, _ = undisturbed
    with pytest.raises(ConfigError, match=rf"has a different finetuning: {message}"):
        finetune.finetune(video_config(pretrained, two_partitions, **changes), str(workdir))


def test_sound_of_several_classes_is_learned(pretrained, multi_label, tmp_path):
    config = audio_config(pretrained, multi_label, steps=60, **{"evaluation.every_epochs": 40.0})
    found = finetune.finetune(config, str(tmp_path))
    assert found["metric"] == "map" and found["scores"]["map"]["mean"] > 0.9
    assert not (tmp_path / "confusion.png").exists()
    losses = [line["total"] for line in logged_lines(tmp_path / "test")]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    # The results are those of the stored scores.
    plan = json.loads((tmp_path / "test" / "plan.json").read_text())
    outcome = finetune_folder.load_outcome(tmp_path / "test" / finetune_folder.OUTCOME, plan)
    assert outcome.scores.shape == (6, 3) and (outcome.scores > 0).all()
    overall = metrics.mean_average_precision(outcome.scores, outcome.targets)
    assert found["scores"]["map"]["mean"] == pytest.approx(overall)
    # Only the candidate chosen on the validation split was tested.
    assert found["best_on_test"] is None
    [tested] = [c for c in found["partitions"]["test"]["candidates"] if c["test"] is not None]
    assert tested["value"] == found["partitions"]["test"]["chosen"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 0.1}, r"config\.label_smoothing is 0\.1; allowed: 0 for multi-label"),
        ({"batch_size": 12}, r"config\.batch_size=12 does not split evenly over 8"),
        ({"evaluation.batch_size": 4}, r"config\.evaluation\.batch_size=4 does not split"),
        ({"checkpoint": "/nowhere"}, r"/nowhere: no such folder"),
    ],
)
def test_what_the_data_or_the_devices_do_not_allow(
    changes, message, pretrained, multi_label, tmp_path
):
    config = audio_config(pretrained, multi_label, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        finetune.finetune(config, str(tmp_path))
    assert not any(tmp_path.iterdir())


def test_nothing_to_choose_on_is_refused(pretrained, two_partitions, tmp_path):
    config = video_config(pretrained, two_partitions, **{"data.held_out": 0.0})
    refusal = r"config\.selection\.epoch is 'best'; allowed: 'last' without"
    with pytest.raises(ConfigError, match=refusal):
        finetune.finetune(config, str(tmp_path))
