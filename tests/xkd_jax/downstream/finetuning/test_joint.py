"""Joint finetuning of both encoders: its model and step against their parts, and whole runs."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from configs.eval import finetune_joint
from tests.input_pipeline.prepared_files import write_prepared
from tests.integration.runs import load_state
from tests.xkd_jax.downstream import labeled_clips
from xkd_jax import sharding
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import backbones
from xkd_jax.downstream.finetuning import (
    finetune,
    finetune_folder,
    finetune_model,
    finetune_rules,
    finetune_step,
    joint_model,
)

CLASSES = 3
MODALITIES = ("video", "audio")


def config_for(run, data, **changes):
    """Weak augmentation of both modalities, at the size of pretraining."""
    config = finetune_joint.get_config()
    config.checkpoint, config.data.path = str(run), str(data)
    config.frame_size, config.short_side, config.steps = 32, 32, 24
    config.batch_size = config.evaluation.batch_size = 8
    config.evaluation.clips, config.evaluation.every_epochs = 1, 0.0
    config.compute_dtype, config.log.every_steps = "float32", 1
    config.dropout, config.label_smoothing, config.mixing.probability = 0.1, 0.0, 0.1
    config.drop_path = 0.1
    config.optimizer.update(
        {"learning_rate": 5e-3, "layer_decay": 0.9, "warmup_epochs": 0.0, "weight_decay": 0.01}
    )
    config.augmentation.video.crop_scale = (0.5, 1.0)
    config.augmentation.video.rand_augment.operations = 0
    mild = {"time_mask_frames": 8, "frequency_mask_bands": 3, "time_warp": 5}
    config.augmentation.audio.update(mild)
    config.augmentation.audio.update({"crop_extent": (1.0, 1.0), "crop_canvas": (1.0, 1.0)})
    config.update_from_flattened_dict(changes)
    return config


def write(folder, shuffled=False):
    """Writes video with sound of three classes; shuffled, its labels have nothing to do with it."""
    rng, splits = np.random.default_rng(5), {}
    for split, count in (("train", 12), ("val", 6), ("test", 24)):
        labels = np.arange(count) % CLASSES
        labels = rng.permutation(labels) if shuffled else labels
        splits[split] = [
            dataclasses.replace(
                labeled_clips.record(f"{split}{n}", n % CLASSES), labels=(int(label),)
            )
            for n, label in enumerate(labels)
        ]
    return write_prepared(folder, splits)


@pytest.fixture(scope="module")
def finetuned(run, tmp_path_factory):
    """Workdir and results of a joint finetuning."""
    folder = tmp_path_factory.mktemp("joint")
    config = config_for(run, write(folder / "data"))
    return folder / "out", config, finetune.finetune(config, str(folder / "out"))


def test_planted_classes_are_found(finetuned):
    workdir, _, results = finetuned
    assert results["scores"]["top1"]["mean"] > 0.9
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(results))
    assert {path.name for path in workdir.glob("*.png")} == {"confusion.png", "per_class.png"}
    assert set(results["checkpoint"]["architecture"]) == set(MODALITIES)
    assert "teacher of video and audio, finetuned" in results["title"]
    assert results["partitions"]["test"]["recordings"] == {"train": 12, "held_out": 6, "test": 24}
    plan = json.loads((workdir / "test" / "plan.json").read_text())
    outcome = finetune_folder.load_outcome(workdir / "test" / finetune_folder.OUTCOME, plan)
    expected = accuracy_score(outcome.targets.argmax(axis=1), outcome.scores.argmax(axis=1))
    assert results["scores"]["top1"]["mean"] == expected


def test_both_encoders_and_the_head_are_trained(finetuned, run):
    workdir, config, _ = finetuned
    state, start = load_state(workdir / "test", config.steps), load_state(pathlib.Path(run), 7)
    for m in MODALITIES:
        for name in ("['transformer']['blocks']['qkv']['kernel']", "['patch_embedding']['kernel']"):
            before = start[f"['teacher']['{m}']['encoder']{name}"]
            after = state[f"['params']['encoder']['{m}']{name}"]
            assert not np.allclose(before, after, atol=1e-4), (m, name)
        assert np.abs(state[f"['params']['head']['pooler']['{m}_mark']"]).max() > 0


def test_a_finished_finetuning_trains_nothing_again(finetuned, monkeypatch):
    workdir, config, results = finetuned
    monkeypatch.setattr(finetune.partition_run.loop, "train", None)
    monkeypatch.setattr(finetune.finetune_inputs.Predictor, "__call__", None)
    assert finetune.finetune(config, str(workdir)) == results


@pytest.mark.slow  # a whole run more
def test_shuffled_labels_are_at_chance(run, tmp_path):
    config = config_for(run, write(tmp_path / "data", shuffled=True))
    results = finetune.finetune(config, str(tmp_path / "out"))
    assert results["scores"]["top1"]["mean"] < 0.63  # 1/3 within three standard errors


@pytest.fixture(scope="module")
def model(run):
    encoders = backbones.load(run, MODALITIES, "teacher", np.dtype("float32"))
    made = {
        m: finetune_model.from_pretrained(encoder, CLASSES, 0.25, 0.4)
        for m, encoder in encoders.items()
    }
    joint = joint_model.JointModel.of({m: part for m, (part, _) in made.items()}, 1)
    weights = {m: x for m, (_, x) in made.items()}
    return joint, jax.jit(joint.init)(jax.random.key(0), weights)


def views(count=2):
    rng = np.random.default_rng(0)
    return {
        "video": rng.normal(size=(count, 8, 32, 32, 3)).astype(np.float32),
        "audio": rng.normal(size=(count, 16, 64)).astype(np.float32),
    }


def test_each_modality_counts_and_noise_is_each_example_s_and_modality_s_own(model):
    joint, params = model
    logits = jax.jit(joint.logits)
    seen = views()
    plain = logits(params, seen)
    assert plain.shape == (2, CLASSES)
    for m in MODALITIES:
        changed = logits(params, seen | {m: seen[m][::-1]})
        assert not np.allclose(changed, plain, atol=1e-4)
    keys = jax.random.split(jax.random.key(1), 2)
    noise = joint.noise({"features": keys, "paths": keys, "audio_paths": keys[::-1]})
    assert noise.features.shape == (2, 32) and noise.paths["video"].shape == (2, 2, 2)
    np.testing.assert_array_equal(noise.paths["video"], noise.paths["audio"][::-1])
    assert not np.allclose(logits(params, seen, noise), plain, atol=1e-4)
    nothing = jax.tree.map(jnp.ones_like, noise)  # drops nothing, and scales up what it keeps
    rate = dataclasses.replace(joint.video, dropout=0.0, drop_path=0.0)
    still = dataclasses.replace(
        joint, video=rate, audio=dataclasses.replace(joint.audio, dropout=0.0, drop_path=0.0)
    )
    kept = jax.jit(still.logits)(params, seen, nothing)
    np.testing.assert_allclose(kept, plain, rtol=1e-4, atol=1e-5)


def test_learning_rates_decay_by_the_depth_of_each_encoder(model):
    joint, params = model
    config = finetune_joint.get_config()
    config.optimizer.update({"warmup_epochs": 0.0, "weight_decay": 0.0, "layer_decay": 0.5})
    numbers = finetune_step.hyperparameters(config, 100, 10.0)
    tx = finetune_step.make_optimizer(numbers, joint.depths)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(tx.update)(ones, jax.jit(tx.init)(params), params)
    rate = config.optimizer.learning_rate
    for m in MODALITIES:
        encoder = updates["encoder"][m]
        blocks = encoder["transformer"]["blocks"]["out"]["kernel"]
        for block, factor in enumerate((0.25, 0.5)):
            np.testing.assert_allclose(blocks[block], -rate * factor, rtol=1e-3)
        np.testing.assert_allclose(encoder["cls_token"], -rate * 0.125, rtol=1e-3)
        np.testing.assert_allclose(encoder["norm"]["scale"], -rate, rtol=1e-3)
    for leaf in jax.tree.leaves(updates["head"]):
        np.testing.assert_allclose(leaf, -rate, rtol=1e-3)


def test_both_modalities_are_mixed_with_the_same_partner(model):
    config = finetune_joint.get_config()
    config.mixing.update({"mixup": 1.0, "cutmix": 0.0})
    config.augmentation.video.flip_probability = 0.0
    config.augmentation.video.rand_augment.operations = 0
    config.augmentation.audio.update({"time_masks": 0, "frequency_masks": 0, "time_warp": 0})
    config.augmentation.audio.update({"crop_extent": (1.0, 1.0), "crop_canvas": (1.0, 1.0)})
    config.label_smoothing = 0.0
    count = 8
    # Example n has the value n everywhere, in both modalities.
    values = np.arange(count)
    batch = {
        "views": {
            "video": np.tile(values[:, None, None, None, None], (1, 1, 4, 4, 3)).astype(np.uint8),
            "audio": np.tile(values[:, None, None], (1, 16, 64)).astype(np.float32),
        },
        "targets": np.eye(count, dtype=bool),
        "replaced": values == 2,
        "example_id": values,
        "epoch": np.zeros(count, np.int32),
    }
    mesh = sharding.make_mesh()
    batch = sharding.put_batch(batch, mesh)
    program = jax.jit(
        lambda batch: finetune_step.augmented(batch, config, mesh, jnp.uint32(0))
    ).lower(batch)
    program = program.compile()
    # Partners are exchanged, but no loop of random draws waits for other devices.
    assert "collective-permute" in program.as_text() and "all-reduce" not in program.as_text()
    mixed, targets, weights = program(batch)
    np.testing.assert_allclose(mixed["audio"][:, 0, 0], targets @ values, atol=1e-3)
    pixels = (mixed["video"] * finetune_step.augment.STD + finetune_step.augment.MEAN) * 255
    np.testing.assert_allclose(pixels[:, 0, 0, 0, 0], targets @ values, atol=1e-3)
    np.testing.assert_array_equal(weights, ~np.isin(values, (2, 5)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation.crops": 3}, "config.evaluation.crops is 3; allowed: 1 for audio"),
        ({"short_side": 0}, "config.short_side is 0; allowed: at least 1 for video"),
        ({"head.blocks": 0}, "config.head.blocks is 0; allowed: a whole number from 1 to 4"),
        ({"modality": "video"}, "config.modality is 'video'; allowed: 'joint', or another config"),
        ({"augmentation.audio.gain": 2.0}, "config.augmentation.audio.gain is 2.0; allowed: a num"),
    ],
)
def test_refusals(changes, message, tmp_path):
    with pytest.raises(ConfigError) as error:
        finetune_rules.check(config_for("RUN", tmp_path, **changes))
    assert message in str(error.value)
