"""Several real processes form one run."""

import os
import signal
import subprocess
import time

import pytest

from tests.integration import runs
from xkd_jax.run import workdir

STEPS = 14


def start(folder, *flags, **options) -> subprocess.Popen:
    """Starts the program as two processes of one run."""
    data = f"--config.data.path={runs.clips()}"
    steps = f"--config.steps={STEPS}"
    return runs.start_several(2, data, steps, f"--workdir={folder}", *flags, **options)


def process_ids(folder) -> list[int]:
    """Returns the system's ids of a run's processes, in the order of their numbers."""
    lines = subprocess.run(
        ["pgrep", "-af", f"xkd_jax.main.*--workdir={folder} "], capture_output=True, text=True
    ).stdout.splitlines()
    lines = [line for line in lines if "launch/local_processes.sh" not in line]
    return [
        int(line.split()[0]) for line in sorted(lines, key=lambda line: line.rpartition("=")[2])
    ]


@pytest.mark.slow
def test_one_of_two_is_killed_and_the_run_ends_as_if_undisturbed(tmp_path):
    code, output = runs.ended(start(tmp_path / "undisturbed"))
    assert code == 0, output
    assert ", 2 processes; computing in" in output

    process = start(tmp_path / "disturbed", "--restarts=1")
    runs.wait_for_step(process, tmp_path / "disturbed", 5)
    os.kill(process_ids(tmp_path / "disturbed")[1], signal.SIGKILL)
    assert STEPS not in runs.saved_steps(tmp_path / "disturbed"), "too late to show anything"
    code, output = runs.ended(process)
    assert code == 0, output
    assert "restarting all (1 of 1)" in output
    assert "RESTORED step " in output
    runs.assert_same_state(tmp_path / "disturbed", tmp_path / "undisturbed", STEPS)


@pytest.mark.slow
def test_sigterm_saves_and_stops_both(tmp_path):
    process = start(tmp_path / "run", cold=True)
    runs.wait_for_step(process, tmp_path / "run", 5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "Stopped and saved at step" in output
    assert not process_ids(tmp_path / "run")


@pytest.mark.slow  # starts real processes, which wait for the other run
def test_what_one_refuses_ends_all_at_once(tmp_path):
    started = time.monotonic()
    with workdir.claimed(tmp_path):
        code, output = runs.ended(start(tmp_path))
    assert code == 1, output
    assert f"error: another run is using --workdir={tmp_path}" in output
    assert "Traceback" not in output
    assert time.monotonic() - started < 120
    log = (tmp_path / "logs" / "process-1.log").read_text()
    assert log.splitlines()[-1] == f"error: process 0: another run is using --workdir={tmp_path}"


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
    code, output = runs.call(f"--workdir={tmp_path}", "--process=1")
    assert code == 1
    assert "error: --coordinator, --processes missing" in output.splitlines()[-1]
