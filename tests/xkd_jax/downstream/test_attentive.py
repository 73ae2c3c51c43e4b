"""Attentive probes: planted classes are found, shuffled ones are not, and nothing leaks."""

import dataclasses
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score

from configs.eval import attentive as attentive_config
from tests.input_pipeline.prepared_files import write_prepared
from tests.saved_runs import logged_lines
from tests.xkd_jax.downstream import labeled_clips
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import attentive, attentive_heads, attentive_rules, backbones
from xkd_jax.downstream.finetuning import finetune_folder
from xkd_jax.measure import step_shapes
from xkd_jax.method import optimizer
from xkd_jax.run import loop

CLASSES, HEADS = 3, 4


def config_for(run, data, **changes):
    config = attentive_config.get_config()
    config.checkpoint, config.data.path = run, str(data)
    config.compute_dtype = "float32"
    config.batch_size = config.evaluation.batch_size = 8
    config.steps, config.evaluation.clips, config.short_side = 16, 2, 32
    config.log.every_steps = 1
    config.grid.learning_rates, config.grid.weight_decays = (1e-6, 3e-3), (0.01, 0.1)
    config.augmentation.video.crop_scale = (0.5, 1.0)
    config.augmentation.video.rand_augment.operations = 0
    mild = {"time_mask_frames": 8, "frequency_mask_bands": 3, "time_warp": 5}
    config.augmentation.audio.update(mild)
    config.augmentation.audio.update({"crop_extent": (1.0, 1.0), "crop_canvas": (1.0, 1.0)})
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Video with sound of three classes, with a validation split."""
    splits = {
        split: [labeled_clips.record(f"{split}{n}", n % CLASSES) for n in range(count)]
        for split, count in (("train", 12), ("val", 6), ("test", 9))
    }
    return write_prepared(tmp_path_factory.mktemp("data") / "planted", splits)


@pytest.fixture(scope="module")
def observed(run, planted, tmp_path_factory):
    """A probe on both modalities: workdir, config and results; and its step's arguments."""
    workdir = tmp_path_factory.mktemp("probed")
    config = config_for(run, planted, modalities=("video", "audio"))
    with mock.patch.object(loop, "compile_step", wraps=loop.compile_step) as compiled:
        results = attentive.attentive(config, str(workdir))
    _, state, batch, mesh, step_args = compiled.call_args.args
    return (workdir, config, results), (forms((state, batch, step_args)), mesh)


@pytest.fixture(scope="module")
def probed(observed):
    return observed[0]


def forms(tree):
    """Returns shapes and dtypes as on the devices, by path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path): (leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))
        for path, leaf in flat
    }


def test_the_step_that_is_compiled_ahead_is_that_of_the_run(observed, monkeypatch):
    (_, config, _), (of_the_run, mesh) = observed
    monkeypatch.setattr(step_shapes, "_CLASSES", CLASSES)
    step_shapes.check(config)
    step = step_shapes.make(config, mesh)
    assert forms((step.state, step.batch, step.step_args)) == of_the_run
    assert step.step_fn.__qualname__ == "make_train_step.<locals>.train_step"


def test_planted_classes_are_found(probed):
    workdir, config, results = probed
    assert results["scores"]["top1"]["mean"] == 1.0 and results["chance"] == pytest.approx(1 / 3)
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(results))
    assert {path.name for path in workdir.glob("*.png")} == {"confusion.png", "per_class.png"}
    assert set(results["checkpoint"]["architecture"]) == {"video", "audio"}
    assert results["protocol"]["grid"] == config.grid.to_dict()
    losses = logged_lines(workdir / "test")
    assert losses[-1]["loss/lowest"] < 0.6 < 0.9 < losses[-1]["loss/highest"]
    assert losses[-1]["test/top1"] == 1.0


def test_the_head_is_chosen_on_the_validation_split(probed):
    _, config, results = probed
    partition = results["partitions"]["test"]
    assert partition["varied"] == "learning rate and weight decay"
    assert partition["recordings"] == {"train": 12, "held_out": 6, "test": 9}
    candidates = partition["candidates"]
    assert [c["value"] for c in candidates] == list(map(str, attentive_rules.pairs(config)))
    held_out = [c["held_out"] for c in candidates]
    best = candidates[int(np.argmax(held_out))]
    assert partition["chosen"] == best["value"] and best["value"].startswith("0.003 and ")
    # A head that hardly learns has to be worse, or the choice would mean nothing.
    assert min(held_out) < max(held_out) == 1.0


def test_the_scores_are_scikit_learn_s(probed):
    workdir, _, results = probed
    plan = json.loads((workdir / "test" / "plan.json").read_text())
    outcome = finetune_folder.load_outcome(workdir / "test" / finetune_folder.OUTCOME, plan)
    labels, guesses = outcome.targets.argmax(axis=1), outcome.scores.argmax(axis=1)
    assert results["scores"]["top1"]["mean"] == accuracy_score(labels, guesses)
    np.testing.assert_allclose(outcome.scores.sum(axis=1), 1, rtol=1e-5)
    for name, place in zip(results["data"]["classes"], range(CLASSES), strict=True):
        alike = labels == place
        assert results["per_class"][name] == accuracy_score(labels[alike], guesses[alike])


def test_a_finished_probe_trains_and_tests_nothing_again(probed, monkeypatch, capsys):
    workdir, config, results = probed
    monkeypatch.setattr(attentive.partition_run.loop, "train", None)
    monkeypatch.setattr(attentive.Evaluator, "_predict", None)
    assert attentive.attentive(config, str(workdir)) == results
    assert (
        "learning rate and weight decay 0.003 and 0.01, 100.0 on held-out"
        in capsys.readouterr().out
    )
    config = config.copy_and_resolve_references()
    config.pooler.blocks = 2
    with pytest.raises(ConfigError, match=r"different finetuning: config\.pooler\.blocks: 1 -> 2"):
        attentive.attentive(config, str(workdir))


@pytest.mark.slow  # a whole run more
def test_stopped_before_the_test_it_ends_the_same(probed, run, planted, tmp_path, monkeypatch):
    """Also that a run is a function of its seed."""
    _, config, results = probed
    with monkeypatch.context() as patch:
        patch.setattr(attentive.Evaluator, "outcome", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            attentive.attentive(config, str(tmp_path))
    again = attentive.attentive(config, str(tmp_path))
    assert again["partitions"] == results["partitions"]


@pytest.mark.slow  # a whole run more
def test_shuffled_labels_are_at_chance_and_a_share_of_the_training_set_is_held_out(run, tmp_path):
    rng = np.random.default_rng(5)
    splits = {}
    for split, count in (("train", 15), ("test", 30)):
        labels = rng.permutation(np.arange(count) % CLASSES)
        splits[split] = [
            dataclasses.replace(
                labeled_clips.record(f"{split}{n}", n % CLASSES), labels=(int(label),)
            )
            for n, label in enumerate(labels)
        ]
    data = write_prepared(tmp_path / "data", splits)
    config = config_for(run, data, **{"data.held_out": 0.4, "modalities": ("video", "audio")})
    results = attentive.attentive(config, str(tmp_path / "out"))
    counts = results["partitions"]["test"]["recordings"]
    assert counts == {"train": 9, "held_out": 6, "test": 30}
    assert results["scores"]["top1"]["mean"] < 0.6  # 1/3 within three standard errors


@pytest.mark.slow  # a whole run more
def test_sound_of_several_classes_is_scored_by_mean_average_precision(run, tmp_path):
    data = labeled_clips.multi_label(tmp_path / "data")
    split = {"parallel.fsdp": 2}  # the heads' weights over pairs of devices
    config = config_for(run, data, modalities=("audio",), **{"pooler.blocks": 2}, **split)
    results = attentive.attentive(config, str(tmp_path / "out"))
    assert results["metric"] == "map" and results["scores"]["map"]["mean"] > results["chance"]
    plan = json.loads((tmp_path / "out/test/plan.json").read_text())
    outcome = finetune_folder.load_outcome(tmp_path / "out/test" / finetune_folder.OUTCOME, plan)
    expected = average_precision_score(outcome.targets, outcome.scores, average="macro")
    assert results["scores"]["map"]["mean"] == pytest.approx(expected)


def test_heads_side_by_side_learn_what_each_learns_alone(run):
    encoders = backbones.load(run, ("audio",), "teacher", np.dtype("float32"))
    heads = attentive_heads.Heads.on(encoders, 1, CLASSES, HEADS)
    params = jax.jit(heads.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    tokens = {"audio": rng.normal(size=(2, 5, 32)).astype(np.float32)}
    logits = jax.jit(heads.classify)(params, tokens)
    assert logits.shape == (HEADS, 2, CLASSES)
    classify = jax.jit(heads.classify)
    for n in range(HEADS):
        one = jax.tree.map(lambda x, n=n: jnp.stack([x[n]] * HEADS), params)
        alone = classify(one, tokens)
        np.testing.assert_allclose(alone, [logits[n]] * HEADS, rtol=1e-5, atol=1e-6)
    assert not np.allclose(logits[0], logits[1])  # each has its own initialization
    config = attentive_config.get_config()
    grid = list(attentive_rules.pairs(config))
    numbers = attentive_heads.hyperparameters(config, grid, 100, 10.0)
    assert len(grid) == 20 and numbers.learning_rate.shape == (20,)
    rates = jax.vmap(optimizer.Hyperparameters.learning_rate_at, in_axes=(0, None))(
        numbers, jnp.asarray(0)
    )
    np.testing.assert_allclose(rates, [pair.learning_rate for pair in grid], rtol=1e-6)


def test_tokens_in_another_order_are_pooled_alike(run):
    """The query attends to a set of tokens: positions are in the tokens themselves."""
    encoders = backbones.load(run, ("video", "audio"), "teacher", np.dtype("float32"))
    heads = attentive_heads.Heads.on(encoders, 1, CLASSES, 1)
    params = jax.jit(heads.init)(jax.random.key(0))
    classify = jax.jit(heads.classify)
    rng = np.random.default_rng(0)
    tokens = {m: rng.normal(size=(2, 5, 32)).astype(np.float32) for m in ("video", "audio")}
    turned = {m: x[:, ::-1] for m, x in tokens.items()}
    logits = classify(params, tokens)
    np.testing.assert_allclose(classify(params, turned), logits, rtol=1e-5, atol=1e-6)
    for m in tokens:  # each modality counts
        assert not np.allclose(classify(params, tokens | {m: -tokens[m]}), logits, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": ""}, "config.checkpoint is ''; allowed: the folder of a run"),
        ({"epochs": 0.0, "steps": 0}, "config.steps is 0; allowed: at least 1, or"),
        ({"pooler.blocks": 5}, "config.pooler.blocks is 5; allowed: a whole number from 1 to 4"),
        ({"grid.learning_rates": (0.1, 0.1)}, "config.grid.learning_rates is (0.1, 0.1); allowed:"),
        ({"grid.weight_decays": ()}, "config.grid.weight_decays is (); allowed: one value or more"),
        (
            {"modalities": ("audio",), "frame_size": 64},
            "config.frame_size is 64; allowed: 0 without video",
        ),
        (
            {"modalities": ("video", "audio"), "evaluation.crops": 3},
            "config.evaluation.crops is 3; allowed: 1 with audio",
        ),
    ],
)
def test_refusals(changes, message, tmp_path):
    with pytest.raises(ConfigError) as error:
        attentive_rules.check(config_for("RUN", tmp_path, **changes))
    assert message in str(error.value)


def test_there_has_to_be_something_to_choose_on(run, tmp_path):
    data = labeled_clips.two_partitions(tmp_path / "data")
    config = config_for(run, data, **{"data.held_out": 0.0})
    with pytest.raises(ConfigError, match=r"config\.data\.held_out is 0\.0; allowed: a share"):
        attentive.attentive(config, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
