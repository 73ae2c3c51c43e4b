"""Several real processes as one run."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import xla_flags
from tests.integration import runs

TINY = "--config=tests/integration/tiny_run.py"
STEPS = 24


def start(data, workdir, *flags) -> subprocess.Popen:
    """Starts the program as two processes."""
    command = ["bash", "launch/local_processes.sh", "2", TINY, f"--config.data.path={data}"]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", *flags],
        cwd=runs.ROOT,
        env=os.environ | {"XLA_FLAGS": xla_flags.ONE_DEVICE, "XKD_VENV": sys.prefix},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def process_ids(workdir) -> list[int]:
    """The processes of a run, by their numbers."""
    found = subprocess.run(
        ["pgrep", "-af", f"xkd_jax.main.*--workdir={workdir} "], capture_output=True, text=True
    ).stdout.splitlines()
    found = [line for line in found if "launch/local_processes.sh" not in line]
    return [
        int(line.split()[0]) for line in sorted(found, key=lambda line: line.rpartition("=")[2])
    ]


@pytest.mark.slow
def test_one_of_two_is_killed_and_the_run_ends_as_if_undisturbed(tmp_path):
    data = tmp_path / "data"
    undisturbed = start(data, tmp_path / "undisturbed")
    output, _ = undisturbed.communicate(timeout=500)
    assert undisturbed.returncode == 0, output
    assert "2 process(es)" in output

    process = start(data, tmp_path / "disturbed", "--restarts=1")
    runs.wait_for_step(process, tmp_path / "disturbed", 5)
    os.kill(process_ids(tmp_path / "disturbed")[1], signal.SIGKILL)
    assert STEPS not in runs.saved_steps(tmp_path / "disturbed"), "too late to show anything"
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert "starting all again (1 of 1)" in output
    assert "RESTORED step " in output

    expected = runs.load_state(tmp_path / "undisturbed", STEPS)
    state = runs.load_state(tmp_path / "disturbed", STEPS)
    assert set(state) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


@pytest.mark.slow
def test_sigterm_saves_and_stops_both(tmp_path):
    process = start(tmp_path / "data", tmp_path / "run")
    runs.wait_for_step(process, tmp_path / "run", 5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "Stopped and saved at step" in output
    assert not process_ids(tmp_path / "run")


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_stays_away_is_told_of_in_one_line(index, tmp_path):
    started = time.monotonic()
    code, output = runs.run(
        f"--workdir={tmp_path}",
        "--coordinator=127.0.0.1:29431",
        "--processes=2",
        f"--process={index}",
        "--join_seconds=1",
    )
    assert code == 1
    assert f"error: process {index} of 2 has not met the others at 127.0.0.1:29431" in output
    assert "Traceback" not in output
    assert time.monotonic() - started < 60


def test_flags_that_do_not_go_together(tmp_path):
    code, output = runs.run(f"--workdir={tmp_path}", "--process=1")
    assert code == 1
    assert "error: --coordinator, --processes missing" in output.splitlines()[-1]
