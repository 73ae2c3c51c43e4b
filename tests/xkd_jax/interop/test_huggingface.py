"""Exports for PyTorch: real PyTorch and transformers give our features, without JAX."""

import json
import os
import pathlib
import pickle
import subprocess

import numpy as np
import pytest

import xkd_jax
from tests.saved_runs import save_run
from xkd_jax.encoders import pretrained
from xkd_jax.interop import export, model_card, vit_files, vit_weights
from xkd_jax.method.models import vit
from xkd_jax.method.models.xkd import MODALITIES

ROOT = pathlib.Path(__file__).parents[3]
# An encoder of each kind: modalities with blocks of their own, with shared ones, without CLS.
RUNS = {
    "plain": {},
    "shared": {"variant": "xkd_mats"},
    "half_shared": {"variant": "xkd_mas"},
    "no_cls": {"query": "mean"},
}
RNG = np.random.default_rng(0)


def frames(count, height=48, width=70):
    return RNG.integers(0, 256, (count, height, width, 3), np.uint8)


def waveform(samples):
    return RNG.uniform(-1, 1, samples).astype(np.float32)


# Recordings that are longer and shorter than a clip, at the encoder's rates and sizes and others.
CALLS = [
    {"videos": frames(8, 32, 32), "audio": waveform(16000), "sampling_rate": 16000},
    {
        "videos": [frames(60), frames(5, 33, 20)],
        "fps": [25, 12.5],
        "audio": [waveform(70001), waveform(9000)],
        "sampling_rate": [44100, 8000],
    },
    {
        "videos": np.stack([frames(30), frames(30)]),
        "fps": 10,
        "audio": waveform(50000),
        "sampling_rate": 16000,
        "frame_size": 48,
        "seconds": 1.5,
    },
]
# Sizes of MAE and VideoMAE models, and frames that they see.
PUBLISHED = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}
PIXELS = RNG.normal(size=(8, 3, 32, 32)).astype(np.float32)
REFUSED = {
    "nothing is given": {},
    "videos[0] is float32[8, 32, 32, 3]": {"videos": np.zeros((8, 32, 32, 3), np.float32)},
    "audio[0] is float32[2, 9]": {"audio": np.zeros((2, 9), np.float32), "sampling_rate": 16000},
    "sampling_rate is [None]": {"audio": waveform(9)},
    "multiples of the patch's 4x8x8": {"videos": frames(8), "frame_size": 36},
}


def ours(run, network, modality, call):
    """Returns the features by `load_encoder`."""
    sizes = {"seconds": call.get("seconds")}
    if modality == "audio":
        encoder = xkd_jax.load_encoder(run, modality, network, **sizes)
        return encoder.features(call["audio"], sample_rate=call["sampling_rate"])
    encoder = xkd_jax.load_encoder(
        run, modality, network, frame_size=call.get("frame_size"), **sizes
    )
    return encoder.features(call["videos"], frame_rate=call.get("fps", 8))


@pytest.fixture(scope="module")
def python():
    path = os.environ.get("XKD_TORCH_PYTHON")
    if not path:
        pytest.skip(
            "needs XKD_TORCH_PYTHON, an environment of requirements-torch.txt, as in .ci/run"
        )
    return os.path.abspath(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in RUNS.items():
        save_run(folder / name, **settings)
        flags = [f"--checkpoint={folder / name}", f"--output={folder / f'{name}_hf'}"]
        export.main([*flags, "--format=huggingface"])
    return folder


@pytest.fixture(scope="module")
def answers(runs, python, tmp_path_factory):
    """Returns what PyTorch answers, in one process for all tests."""
    folder = tmp_path_factory.mktemp("elsewhere")
    encoders = [(runs / f"{name}_hf", n) for name in RUNS for n in ("teacher", "student")]
    card = {"folder": runs / "plain_hf", "frames": frames(60), "waveform": waveform(70001)}
    job = {"encoders": encoders, "calls": CALLS, "card": card, "clone": str(ROOT)}
    job |= {"refused": [*REFUSED.values()], "folder": folder}
    job["published_vits"] = (PUBLISHED, PIXELS)
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    script = pathlib.Path(__file__).with_name("in_pytorch.py")
    done = subprocess.run(
        [python, "-I", script, folder / "job.pickle"],
        cwd=folder,
        env=environment | {"HOME": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return job, pickle.loads((folder / "job.answers").read_bytes())


@pytest.mark.parametrize("network", ["teacher", "student"])
@pytest.mark.parametrize("name", RUNS)
def test_features_are_ours(answers, runs, name, network):
    found = answers[1]["encoders"][runs / f"{name}_hf", network]
    for call, output in zip(CALLS, found, strict=True):
        for m in MODALITIES:
            expected = ours(runs / name, network, m, call)
            assert np.abs(expected).max() > 0.05
            np.testing.assert_allclose(output[f"{m}_features"], expected, atol=1e-5)


def test_tokens_are_ours(answers, runs):
    output = answers[1]["encoders"][runs / "plain_hf", "teacher"][0]
    expected = xkd_jax.load_encoder(runs / "plain").tokens(CALLS[0]["videos"], frame_rate=8)
    np.testing.assert_allclose(output["video_tokens"], expected, atol=1e-5)


def test_the_code_of_the_model_card_runs(answers, runs):
    job, found = answers
    call = {"videos": job["card"]["frames"], "fps": 25}
    call |= {"audio": job["card"]["waveform"], "sampling_rate": 44100}
    expected = {m: ours(runs / "plain", "teacher", m, call) for m in MODALITIES}
    for m in MODALITIES:
        np.testing.assert_allclose(found["card"][m], expected[m], atol=1e-5)
    # onnxruntime, with another number of recordings than the program was written from.
    assert len(found["onnx"]) == 3
    np.testing.assert_allclose(found["onnx"], np.repeat(expected["video"], 3, axis=0), atol=1e-5)


def test_torch_hub_and_a_saved_copy_give_the_same(answers, runs):
    found = answers[1]
    first = found["encoders"][runs / "plain_hf", "teacher"][0]
    for copy in (found["hub"], found["again"][0]):
        np.testing.assert_array_equal(copy["video_features"], first["video_features"])
        np.testing.assert_array_equal(copy["audio_features"], first["audio_features"])


def test_what_cannot_be_encoded_is_named(answers):
    for expected, message in zip(REFUSED, answers[1]["refusals"], strict=True):
        assert expected in message and "allowed: " in message and "\n" not in message


def test_the_card_says_where_the_weights_come_from_and_what_they_score(tmp_path):
    save_run(tmp_path / "runs/mine")
    provenance = pretrained.load(tmp_path / "runs/mine", lambda _: False).description["provenance"]
    for name, step in (("ucf101", 7), ("of_another_step", 8)):
        results = {
            "title": f"svm on video of the teacher, {name}",
            "metric": "top1",
            "scores": {"top1": {"mean": 0.876, "spread": None}},
            "checkpoint": {"provenance": provenance | {"step": step}},
        }
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "results.json").write_text(json.dumps(results))
    flags = [f"--checkpoint={tmp_path / 'runs/mine'}", "--format=huggingface"]
    export.main([*flags, f"--output={tmp_path / 'hf'}"])
    card = (tmp_path / "hf/README.md").read_text()
    assert "| svm on video of the teacher, ucf101 | top1 87.6 % |" in card
    assert "another_step" not in card
    assert "| path | mine/checkpoints/7 |" in card and str(tmp_path) not in card
    assert "| step | 7 |" in card and "| batch size | 8 |" in card
    # The folder tells others nothing of this machine.
    for file in (tmp_path / "hf").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    written = json.loads((tmp_path / "hf/config.json").read_text())["provenance"]
    assert written == provenance | {"path": "mine/checkpoints/7"}


def test_published_vits_give_the_same_tokens_here(answers):
    """What transformers saves is read by `init_from`, with its own names and its own numbers."""
    image, video = answers[1]["published_vits"]
    folder = answers[0]["folder"]
    frames = PIXELS.transpose(0, 2, 3, 1)
    cases = (
        ("mae", (1, 4, 4), (4, 8, 8), np.repeat(frames[:1], 4, axis=0), image),
        ("videomae", (4, 4, 4), (2, 8, 8), frames, video),
    )
    for name, grid, patch, views, expected in cases:
        has_cls = name == "mae"
        encoder = vit.Encoder(grid=grid, width=32, depth=2, heads=4, cls=has_cls)
        params = vit_weights.convert(vit_files.read(folder / name), encoder, patch)
        tokens = vit.encode(encoder, params, views[None], patch).tokens[0]
        # Their LayerNorms add 1e-12 to the variance, ours 1e-5.
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(tokens if has_cls else tokens[1:], expected, atol=2e-3)


def test_the_card_names_the_sets_of_a_mixture():
    data = {"dataset": "prepared", "path": "", "sources": ["/data/K400", "/data/AS"]}
    assert model_card.training_data(data) == "prepared K400, AS"
    weighted = data | {"weights": [2, 1]}
    assert model_card.training_data(weighted) == "prepared K400, AS, weighted 2 : 1"
    alone = {"dataset": "folder", "path": "/data/mine"}
    assert model_card.training_data(alone) == "folder mine"
