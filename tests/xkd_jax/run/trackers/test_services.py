"""Runs in two parts with the real libraries of W&B and MLflow, without a network."""

import json
import wave

import av
import numpy as np
import pytest
from PIL import Image

from tests import saved_runs
from tests.xkd_jax import toy
from tests.xkd_jax.run.trackers import offline_wandb
from xkd_jax.run.figures import Figures
from xkd_jax.run.trackers import TrackerError

_REASON = "needs requirements-trackers.txt, as .ci/run installs it"
pytest.importorskip("wandb", reason=_REASON)
mlflow = pytest.importorskip("mlflow", reason=_REASON)

STEPS = 10
STOP = 6


def video():
    """Two videos of smooth colors that move, as compression likes them."""
    n, t, y, x = np.mgrid[:2, :4, :32, :48]
    phases = np.stack([x + 3 * t + 9 * n, y + 2 * t, x + y - t], axis=-1)
    return np.rint(127.5 + 100 * np.sin(phases / 9)).astype(np.uint8)


IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
SOUNDS = np.random.default_rng(1).uniform(-1, 1, (2, 800, 1)).astype(np.float32)
SHOWN = Figures({"shown/image": IMAGE}, {"clips": video()}, {"sound": SOUNDS}, 8.0, 16000)


def train(workdir, steps, *writers):
    changes = {"log.writers": writers, "log.every_steps": 2, "steps": steps}
    config = toy.get_config(**changes)
    toy.run(workdir, steps, config=config, figures=lambda state, batch: SHOWN, figures_every=4)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Returns the folder of a run with both, that was stopped once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)
        folder = tmp_path_factory.mktemp("runs") / "my run"
        for steps in (STOP, STEPS):
            train(folder, steps, "wandb", "mlflow")
    return folder


@pytest.fixture(scope="module")
def lines(workdir):
    return saved_runs.logged_lines(workdir)


def same_image(path):
    np.testing.assert_array_equal(np.asarray(Image.open(path)), IMAGE)


def same_video(path, clip):
    with av.open(path) as container:
        assert container.streams.video[0].average_rate == 8
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.abs(read.astype(int) - clip).mean() < 4


def same_sound(path, sound):
    with wave.open(str(path)) as file:
        assert file.getframerate() == 16000
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    np.testing.assert_allclose(read, sound[:, 0], atol=1e-3)


def test_wandb_has_one_run_with_all_metrics(workdir, lines):
    run_id = json.loads((workdir / "trackers.json").read_text())["wandb"]
    folders = sorted(workdir.glob("wandb/offline-run-*"))
    assert len(folders) == 2 and all(folder.name.endswith(run_id) for folder in folders)
    logged = {}
    for row in (row for folder in folders for row in offline_wandb.history(folder)):
        logged.setdefault(row["_step"], {}).update(row)
    assert {line["step"] for line in lines} == {n for n, row in logged.items() if "total" in row}
    for line in lines:
        for name in ("total", "gradient_norm", "speed/data_wait"):
            assert logged[line["step"]][name] == line[name]
    config = offline_wandb.config(folders[1])
    assert (config["steps"], config["log"]["every_steps"]) == (STEPS, 2)
    assert config["views"]["video"]["color_jitter"] == [0.4, 0.4, 0.4, 0.2]


def test_wandb_has_what_was_shown(workdir):
    folder = max(workdir.glob("wandb/offline-run-*"))
    shown = {row["_step"]: row for row in offline_wandb.history(folder) if "clips/count" in row}
    assert set(shown) == {8, 10}
    files = folder / "files"
    same_image(files / shown[8]["shown/image/path"])
    for file, clip in zip(shown[8]["clips/videos"], video(), strict=True):
        same_video(files / file["path"], clip)
    for file, sound in zip(shown[8]["sound/audio"], SOUNDS, strict=True):
        same_sound(files / file["path"], sound)
    [row] = [row for row in offline_wandb.history(folder) if "run/packages/path" in row]
    assert f"numpy {np.__version__}\n" in (files / row["run/packages/path"]).read_text()


@pytest.fixture(scope="module")
def tracked(workdir):
    """Returns MLflow's client, and the run as it knows it."""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workdir / 'mlflow.db'}")
    run_id = json.loads((workdir / "trackers.json").read_text())["mlflow"]
    experiment = client.get_experiment_by_name("xkd_jax")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == run_id
    return client, run


def test_mlflow_has_one_run_with_all_metrics(tracked, lines):
    client, run = tracked
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my run")
    for name in ("total", "gradient_norm", "speed/data_wait"):
        points = client.get_metric_history(run.info.run_id, name)
        assert [(p.step, p.value) for p in points] == [(line["step"], line[name]) for line in lines]
    params = run.data.params
    assert (params["steps"], params["log.every_steps"]) == (str(STOP), "2")
    assert run.data.tags["resumed.steps"] == str(STEPS)
    assert params["views.video.color_jitter"] == "(0.4, 0.4, 0.4, 0.2)"


def test_mlflow_has_what_was_shown(tracked, workdir):
    _, run = tracked
    folder = workdir / "mlflow" / run.info.run_id / "artifacts"
    same_image(folder / "shown" / "image" / "00000008.png")
    for number in range(2):
        same_video(str(folder / "clips" / f"00000008_{number}.mp4"), video()[number])
        same_sound(folder / "sound" / f"00000008_{number}.wav", SOUNDS[number])
    assert f"numpy {np.__version__}\n" in (folder / "run/packages/00000006.txt").read_text()
    assert (folder / "run/code/00000000.txt").read_text().startswith("xkd_jax ")


@pytest.fixture
def no_server(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_new_run_needs_the_server(tmp_path, no_server):
    with pytest.raises(TrackerError, match=r"^config\.log\.writers names mlflow, which cannot .*"):
        train(tmp_path, 2, "mlflow")


def test_a_resumed_run_goes_on_without_it(tmp_path, no_server, capsys):
    tmp_path.joinpath("trackers.json").write_text('{"mlflow": "abc"}')
    train(tmp_path, 2, "mlflow")
    assert "warning: mlflow cannot go on with its run abc: " in capsys.readouterr().err
    assert len(saved_runs.logged_lines(tmp_path)) == 1


def test_a_server_that_goes_away_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    """The database is lost in the middle."""

    def figures(state, batch):
        (tmp_path / "mlflow.db").write_bytes(b"no database")
        return Figures({})

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = toy.get_config(**{"log.writers": ("mlflow",), "log.every_steps": 1, "steps": 6})
    toy.run(tmp_path, 6, config=config, figures=figures, figures_every=2)
    said = capsys.readouterr().err.splitlines()
    assert not [line for line in said if "Traceback" in line]
    first, last = [line for line in said if "mlflow" in line]
    assert first.startswith("warning: mlflow does not take a part of the log: ")
    assert last.startswith("warning: mlflow lacks a part of the log of run ")
    assert len(saved_runs.logged_lines(tmp_path)) == 6
