"""The benchmark prints one JSON line for any data set, and one line for any mistake."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import base
from input_pipeline import benchmark
from input_pipeline.programs import config_fields
from tests.input_pipeline.prepared_files import clock_record, write_prepared

REPOSITORY = pathlib.Path(__file__).parents[2]

_SMALL = (
    "--config.views.video.global_frames=16",
    "--config.views.video.global_size=32",
    "--config.views.video.local_size=16",
    "--config.views.audio.global_frames=224",
    "--config.batch_size=4",
)


def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "input_pipeline.benchmark", *flags],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def prepared(tmp_path):
    records = [clock_record(f"{number}.mp4", 3.0) for number in range(3)]
    folder = write_prepared(tmp_path / "data", {"train": records})
    return ["--config.data.dataset=prepared", f"--config.data.path={folder}"]


@pytest.fixture
def generated(tmp_path):
    few = ["--config.data.generated.train=2", "--config.data.generated.test=0"]
    return ["--config.data.dataset=generated", f"--config.data.path={tmp_path / 'data'}", *few]


def check_figures(result, dataset, recordings):
    assert result["dataset"] == dataset
    assert result["recordings"] == recordings
    assert (result["threads"], result["clips"]) == (2, 30)
    low, high = result["clips_per_second_range"]
    assert 0 < low <= result["clips_per_second"] <= high
    assert result["per_core"] == pytest.approx(result["clips_per_second"] / 2, abs=0.01)
    assert result["per_cpu_second"] > 0
    assert list(result["ms_per_clip"]) == ["read", "decode", "views", "log_mel"]
    assert all(value > 0 for value in result["ms_per_clip"].values())
    assert result["peak_rss_mb"] > 100 > abs(result["rss_growth_mb"])
    assert result["cpu"] and result["cores"] >= 1


@pytest.mark.slow
def test_it_prints_one_line_of_figures(prepared):
    finished = run("--config=configs/base.py", *_SMALL, *prepared, "--clips=30", "--threads=2")
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    check_figures(json.loads(line), "prepared", 3)


@pytest.mark.parametrize(("data", "recordings"), [("prepared", 3), ("generated", 2)])
def test_figures_of_any_data_set(data, recordings, request, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "_STAGE_SECONDS", 0.05)
    config = base.get_config()
    for flag in (*_SMALL, *request.getfixturevalue(data)):
        name, value = flag.removeprefix("--config.").split("=")
        config.update_from_flattened_dict({name: type(config_fields.value_of(config, name))(value)})
    result = benchmark.benchmark(config, clips=30, threads=2)
    check_figures(json.loads(json.dumps(result)), data, recordings)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config"),
        (["--config=configs/no.py"], "no such file"),
        (["--config=configs/base.py", "--config.data.no_such=1"], "no_such"),
        (["--config=configs/base.py", "--clips=0"], "--clips=0"),
        (["--config=configs/base.py"], "config.data.path is ''"),
    ],
)
def test_what_is_wrong_is_one_line(flags, message):
    finished = run(*flags)
    assert finished.returncode == 1
    assert finished.stdout == ""
    last = finished.stderr.splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in finished.stderr
