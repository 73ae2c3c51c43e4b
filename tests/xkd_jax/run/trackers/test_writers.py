"""Which writers a run gets: by its config, and by what is installed and reachable."""

import importlib.machinery
import io
import json
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import base
from tests.xkd_jax.run.trackers.recorder import Recorder
from xkd_jax.config import checks, pretraining
from xkd_jax.run import telemetry
from xkd_jax.run.figures import Figures
from xkd_jax.run.trackers import TrackerError, writers


@pytest.fixture
def service(monkeypatch):
    """Takes the place of wandb's module: what it was asked for, and the writers that it gave."""
    fake = types.SimpleNamespace(asked=[], opened=[], error=None)

    def open_run(workdir, run_id):
        fake.asked.append(run_id)
        if fake.error:
            raise fake.error
        fake.opened.append(Recorder())
        return fake.opened[-1]

    fake.open_run = open_run
    real = writers.importlib.import_module
    monkeypatch.setattr(
        writers.importlib, "import_module", lambda name: fake if "wandb" in name else real(name)
    )
    return fake


def log(workdir, *names, step=0):
    return telemetry.Telemetry(workdir, start_step=step, total_steps=9, writers=names)


def test_the_config_allows_what_can_be_opened():
    rule = checks.RULES["log.writers"]
    assert rule.holds(("tensorboard", *writers._SERVICES)) and not rule.holds(("aim",))
    with pytest.raises(checks.ConfigError, match=r"^config\.log\.writers is \('aim',\); allowed: "):
        config = base.get_config()
        config.log.writers = ("aim",)
        checks.check_step(config)
    assert "'tensorboard', 'wandb', 'mlflow'" in rule.allowed
    assert pretraining.get_config().log.writers == ("tensorboard",)


@pytest.mark.parametrize("is_a_folder", [False, True])
def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch, is_a_folder):
    spec = importlib.machinery.ModuleSpec("mlflow", None) if is_a_folder else None
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: spec)
    config = base.get_config()
    config.data.path = str(tmp_path)
    config.log.writers = ("mlflow",)
    message = r"^config\.log\.writers names mlflow, which is not installed: pip install mlflow$"
    with pytest.raises(checks.ConfigError, match=message):
        checks.check(config)


def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker(tmp_path, service):
    for step in (0, 4):
        with log(tmp_path, "wandb", step=step) as log_:
            log_.begin({"seed": 1})
            log_.figures(step + 4, Figures({}))
    assert service.asked == [None, "abc"]
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"wandb": "abc"}
    assert not (tmp_path / "tensorboard").exists()
    first, second = (writer.calls for writer in service.opened)
    assert [call[0] for call in first] == [
        "hparams",
        "texts",
        "images",
        "videos",
        "audios",
        "close",
    ]
    assert first[0] == ("hparams", {"seed": 1})
    name, step, texts = second[1]
    assert (name, step) == ("texts", 4)
    assert texts["run/code"].startswith("xkd_jax ")
    assert f"numpy {np.__version__}" in texts["run/packages"].splitlines()
    assert second[-1] == ("close", False)


def test_a_run_that_fails_is_marked_as_failed(tmp_path, service):
    with pytest.raises(ZeroDivisionError), log(tmp_path, "wandb"):
        1 / 0  # noqa: B018
    assert service.opened[0].calls == [("close", True)]


def test_a_tracker_that_cannot_start_ends_the_run_in_one_line(tmp_path, service):
    service.error = RuntimeError("no API key\nconfigured")
    message = r"^config\.log\.writers names wandb, which cannot start a run: no API key configured$"
    with pytest.raises(TrackerError, match=message):
        log(tmp_path, "wandb")


def test_a_tracker_that_is_gone_later_does_not(tmp_path, service, capsys):
    with log(tmp_path, "wandb"):
        pass
    service.error = ConnectionError("no network")
    with log(tmp_path, "tensorboard", "wandb", step=3) as log_:
        log_.begin({})
    assert capsys.readouterr().err == (
        "warning: wandb cannot go on with its run abc: no network. This run goes on without it, "
        "and metrics.jsonl has all of the log\n"
    )
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("content", ["", "[]", '{"wandb": 1}', '{"wandb": "a"'])
def test_a_damaged_file_of_names_is_refused(tmp_path, service, content):
    (tmp_path / "trackers.json").write_text(content)
    with pytest.raises(TrackerError, match=r"trackers\.json is damaged: "):
        log(tmp_path, "wandb")
    assert not service.asked


def test_only_the_first_process_writes(tmp_path, service, monkeypatch):
    monkeypatch.setattr(telemetry.processes, "is_first", lambda: False)
    with log(tmp_path / "run", "tensorboard", "wandb") as log_:
        log_.begin({})
        log_.figures(1, Figures({"a": np.zeros((2, 2, 3), np.uint8)}))
    assert not service.asked and not (tmp_path / "run").exists()


def test_tensorboard_gets_config_pictures_clips_and_sounds(tmp_path, capfd):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    clips = rng.integers(0, 256, (2, 3, 4, 6, 3), dtype=np.uint8)
    sounds = rng.uniform(-1, 1, (2, 800, 1)).astype(np.float32)
    with log(tmp_path, "tensorboard") as log_:
        log_.begin({"model": {"variant": "xkd"}, "scale": (0.2, 1.0), "none": ()})
        log_.figures(3, Figures({"i": image}, {"v": clips}, {"a": sounds}, 8.0, 16000))
    assert "oneDNN" not in capfd.readouterr().err  # an error of TensorFlow's encoder of sounds
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"_hparams_/session_start_info", "i", "v", "a"} < set(events.Tags()["tensors"])

    def values(name):
        [event] = events.Tensors(name)
        assert event.step == 3
        return tf.make_ndarray(event.tensor_proto)

    width, height, png = values("i")
    assert (width, height) == (b"6", b"4")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), image)
    width, height, *files = values("v")
    assert (width, height, len(files)) == (b"6", b"4", 2)
    for content, clip in zip(files, clips, strict=True):
        animation = Image.open(io.BytesIO(content))
        for number, frame in enumerate(clip):
            animation.seek(number)
            np.testing.assert_array_equal(np.asarray(animation.convert("RGB")), frame)
    for (content, _), sound in zip(values("a"), sounds, strict=True):
        read, rate = tf.audio.decode_wav(content)
        assert rate == 16000
        np.testing.assert_allclose(read, sound, atol=1e-4)
    assert events.SummaryMetadata("v").plugin_data.plugin_name == "images"
    assert events.SummaryMetadata("a").plugin_data.plugin_name == "audio"
    [text] = events.Tensors("run/packages")
    assert b"\n    numpy " in tf.make_ndarray(text.tensor_proto).item()
