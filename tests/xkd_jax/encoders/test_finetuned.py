"""Encoders of a finetuning, read as pretrained ones are; test_finetune.py reads those of a run."""

import json

import jax
import numpy as np
import pytest

import xkd_jax
from configs.eval import finetune_audio, finetune_joint, finetune_video
from tests.saved_runs import save_run
from xkd_jax.downstream.finetuning import finetune_model
from xkd_jax.downstream.finetuning.finetune_step import FinetuneState
from xkd_jax.encoders import pretrained
from xkd_jax.encoders.exports import DamagedError
from xkd_jax.run.checkpoint import Checkpoints

CONFIGS = {"video": finetune_video, "audio": finetune_audio, "joint": finetune_joint}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose modalities share blocks, which finetuned encoders do not."""
    folder = tmp_path_factory.mktemp("run")
    save_run(folder, "xkd_mats")
    return folder


def save_finetuning(workdir, run, kind="video", chooses=True, partition="1"):
    """Saves a finetuning of a student on 48 pixels, and returns what a user may want to read."""
    config = CONFIGS[kind].get_config()
    config.network = "student"
    modalities = ("video", "audio") if kind == "joint" else (kind,)
    if "video" in modalities:
        config.frame_size = 48
    encoders, rng = {}, np.random.default_rng(len(workdir.name))
    for m in modalities:
        loaded = xkd_jax.load_encoder(run, m, "student", frame_size=48 if m == "video" else None)
        _, params = finetune_model.from_pretrained(loaded, 5)
        encoders[m] = jax.tree.map(lambda x: np.asarray(x + rng.normal(size=x.shape), "f"), params)
    params = {"encoder": encoders if kind == "joint" else encoders[kind], "head": np.ones(5, "f")}
    unwanted = jax.tree.map(np.ones_like, params)
    state = FinetuneState(
        step=np.asarray(3, np.int32),
        params=unwanted if chooses else params,
        opt_state={"mu": unwanted},
        seed=np.asarray(0, np.uint32),
        history=np.ones((2, 2), np.float32),
        best=params if chooses else None,
    )
    settings = {"config": config.to_dict(), "every_steps": 1, "keep": 1}
    with Checkpoints(workdir / partition, **settings) as checkpoints:
        checkpoints.save(3, state)
    described = {
        name: {m: loaded.description[name][m] for m in modalities}
        for name in ("architecture", "preprocessing")
    }
    origin = {"path": str(run), "network": "student", **described}
    (workdir / "results.json").write_text(json.dumps({"checkpoint": origin}))
    return encoders


@pytest.mark.parametrize(("kind", "chooses"), [("video", True), ("audio", False), ("joint", True)])
def test_its_encoders_are_those_that_were_tested(run, tmp_path, kind, chooses):
    saved = save_finetuning(tmp_path, run, kind, chooses)
    for path in (tmp_path, tmp_path / "1", tmp_path / "1" / "checkpoints" / "3"):
        for m, params in saved.items():
            encoder = xkd_jax.load_encoder(path, m, "student")
            jax.tree.map(np.testing.assert_array_equal, encoder.params, params)
            assert encoder.sizes.view == ((8, 48, 48, 3) if m == "video" else (16, 64))
            assert encoder.module.grid == encoder.sizes.grid
            provenance = encoder.description["provenance"]
            assert provenance["source"] == "finetuning" and provenance["pretrained"] == str(run)
    assert pretrained.load(tmp_path)[1].keys() == {"params"}


def test_what_it_does_not_hold_is_refused(run, tmp_path):
    save_finetuning(tmp_path, run)
    for arguments, message in (
        (("video", "teacher"), "holds no teacher of video; it holds: student of video"),
        (("audio", "student"), "holds no student of audio; it holds: student of video"),
    ):
        with pytest.raises(ValueError, match=message):
            xkd_jax.load_encoder(tmp_path, *arguments)


def test_several_partitions_are_named(run, tmp_path):
    save_finetuning(tmp_path, run, partition="1")
    save_finetuning(tmp_path, run, partition="2")
    with pytest.raises(DamagedError, match=r"holds 2 finetuned partitions; give .*/2$"):
        xkd_jax.load_encoder(tmp_path, network="student")


def test_an_unfinished_finetuning_and_damage_are_one_line(run, tmp_path):
    save_finetuning(tmp_path, run)
    results = tmp_path / "results.json"
    content = json.loads(results.read_text())
    without_path = {"checkpoint": {**content["checkpoint"], "path": 1}}
    for damaged in ("{", "[]", "{}", json.dumps(without_path)):
        results.write_text(damaged)
        with pytest.raises(DamagedError, match=r"results\.json is damaged: .*") as error:
            xkd_jax.load_encoder(tmp_path, network="student")
        assert "\n" not in str(error.value)
    content["checkpoint"]["architecture"]["video"]["encoder"]["depth"] = "two"
    results.write_text(json.dumps(content))
    with pytest.raises(DamagedError, match="depth"):
        xkd_jax.load_encoder(tmp_path, network="student")
    results.unlink()
    with pytest.raises(DamagedError, match="of a finetuning that has not ended"):
        xkd_jax.load_encoder(tmp_path / "1", network="student")
