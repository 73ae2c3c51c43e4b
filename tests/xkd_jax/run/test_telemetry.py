import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import full_disk
from tests.saved_runs import logged_lines
from xkd_jax.run import telemetry
from xkd_jax.run.figures import Figures

SPEED = {
    "speed/clips_per_second": 412.3,
    "speed/seconds_per_step": 0.5,
    "speed/data_wait": 0.031,
}


def test_progress_line():
    metrics = {"ae/video": 0.5, "kd": 2.0, "total": 3.21049, "gradient_norm": 9.0} | SPEED
    assert telemetry.progress_line(50, 200, metrics, 40.0) == (
        "step 50/200 (25.0%) epoch 1.25 | total 3.21 (ae/video 0.5, kd 2) "
        "| 412 clips/s, data wait 3%, ETA 0:01:15"
    )
    probed = SPEED | {"probe/video_teacher": 0.4143, "probe/audio_teacher": 0.08}
    line = telemetry.progress_line(50, 200, probed)
    assert "(25.0%) | probe video_teacher 41%, audio_teacher 8% | 412 clips/s" in line
    slow = SPEED | {"speed/seconds_per_step": 100.0}
    assert telemetry.progress_line(1, 1001, slow).endswith("ETA 27:46:40")


def test_window_averages_in_order_and_shares_out_the_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: now)
    window = telemetry.Interval(batch_size=8)
    for value in (1.0, 3.0):
        with window.waiting():
            now += 0.5
        with window.pause():
            now += 100
        with window.on_devices():
            now += 1.0
        now += 0.5
        window.add({"z": value, "a": 10 * value})
    assert len(window) == 2
    # Of two seconds, half a second waits for data, and half a second is neither wait nor device.
    assert window.away() == 0.5
    means = window.close()
    assert list(means.items()) == [
        ("z", 2.0),
        ("a", 20.0),
        ("speed/clips_per_second", 4.0),
        ("speed/seconds_per_step", 2.0),
        ("speed/data_wait", 0.25),
    ]
    assert len(window) == 0


def test_metrics_reach_the_file_and_tensorboard(tmp_path, capsys):
    metrics = {"total": 2.5, "a": 1.0} | SPEED
    with telemetry.Telemetry(tmp_path, start_step=0, total_steps=10, steps_per_epoch=4) as log:
        log.begin({"seed": 0})
        log.scalars(5, metrics)
    assert logged_lines(tmp_path) == [{"step": 5, "epoch": 1.25} | metrics]
    assert list(logged_lines(tmp_path)[0])[2:] == list(metrics)
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 0}
    assert "step 5/10 (50.0%) epoch 1.25 | total 2.5 |" in capsys.readouterr().out
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    described = {"_hparams_/session_start_info", "run/code", "run/packages"}
    assert set(events.Tags()["tensors"]) == set(metrics) | described


def test_images_reach_the_folder_and_tensorboard(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    with telemetry.Telemetry(tmp_path, start_step=0, total_steps=10) as log:
        log.figures(30, Figures({"reconstruction/video": image}))
    [path] = (tmp_path / "images").iterdir()
    assert path.name == "00000030_reconstruction_video.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["tensors"] == ["reconstruction/video"]


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b'{"step": 2, "lo',
        b'\x00\x00{"step": 1}\n',
        b"5\n",
        b"[5]\n",
        b"null\n",
        b'{"epoch": 1}\n',
        b'{"step": "2"}\n',
        b'{"step": Infinity}\n',
        b'{"step": -1}\n',
        b'{"step": 1, "total": ' + b"9" * 400 + b"}\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_resume_drops_later_and_torn_lines(tmp_path, torn, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + torn + b'\n{"step": 2}\n{"step": 3}\n' + torn)
    with telemetry.Telemetry(tmp_path, start_step=2, total_steps=10) as log:
        log.scalars(3, SPEED)
    assert [line["step"] for line in logged_lines(tmp_path)] == [1, 2, 3]
    assert "that cannot be read" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.jsonl", "images", "tensorboard"}


def test_a_pipe_in_place_of_the_log_is_refused(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is not a regular file"):
        telemetry.drop_lines_after(tmp_path / "metrics.jsonl", 3)


def test_the_loop_imports_without_tensorflow():
    code = (
        "import sys; sys.modules.update(tensorflow=None, clu=None)\n"
        "import xkd_jax.run.loop, xkd_jax.run.telemetry"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path):
    log = telemetry.Telemetry(tmp_path, start_step=0, total_steps=10)
    with full_disk.largest_file(0):
        with pytest.raises(OSError, match=r"metrics\.jsonl'$"):
            log.scalars(1, SPEED)
        with pytest.raises(OSError, match=f"{tmp_path / 'tensorboard'} cannot be written"):
            telemetry.Telemetry(tmp_path, start_step=0, total_steps=10)
        with pytest.raises(OSError, match=r"config\.json'$"):
            log.begin({"a": 1})
    log.scalars(1, SPEED)
    with log:
        pass
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1
