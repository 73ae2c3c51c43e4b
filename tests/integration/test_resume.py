"""A run that is killed and resumed ends like an undisturbed one, bit for bit."""

import json
import random
import signal
import time

import pytest

from tests.integration import runs

STEPS = runs.STEPS


@pytest.fixture
def data():
    return f"--config.data.path={runs.clips()}"


@pytest.fixture
def undisturbed():
    return runs.undisturbed()


def assert_same_end(workdir, undisturbed):
    names = runs.load_state(undisturbed, STEPS)
    assert any("teacher" in name for name in names) and any("opt_state" in n for n in names)
    assert any("centers" in name for name in names)
    runs.assert_same_state(workdir, undisturbed)


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["total"] for line in map(json.loads, lines)}


def fastest_step(workdir):
    """Returns the fewest seconds that a step took, a lower bound on those of other runs."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return min(json.loads(line)["speed/seconds_per_step"] for line in lines)


@pytest.mark.slow  # two more runs; tests/xkd_jax/run/test_loop.py always kills a toy run
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_a_random_instant(seed, data, undisturbed, tmp_path):
    flags = (data, f"--workdir={tmp_path}")
    process = runs.start(*flags)
    runs.wait_for_step(process, tmp_path, 5)
    time.sleep(random.Random(seed).uniform(0, 10 * fastest_step(undisturbed)))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert STEPS not in runs.saved_steps(tmp_path), "killed too late to show anything"

    # For seed 0, the second run is a cold process; it must end in the same bits.
    code, output = runs.run(*flags, "--config.data.threads=2", cold=seed == 0)
    assert code == 0, output
    assert "RESTORED step " in output
    assert_same_end(tmp_path, undisturbed)
    assert [*losses(tmp_path)] == sorted(losses(tmp_path)), "no step is logged twice"
    assert losses(tmp_path)[STEPS] == losses(undisturbed)[STEPS]


@pytest.mark.slow
def test_terminated(data, undisturbed, tmp_path):
    flags = (data, f"--workdir={tmp_path}")
    process = runs.start(*flags, cold=True)
    runs.wait_for_step(process, tmp_path, 5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "To go on, run the same command again." in output
    assert STEPS not in runs.saved_steps(tmp_path), "stopped too late to show anything"

    code, output = runs.run(*flags)
    assert code == 0, output
    assert_same_end(tmp_path, undisturbed)


@pytest.mark.slow  # needs the run that the others here are compared with
def test_a_finished_run_refuses_to_train(data, undisturbed):
    code, output = runs.run(data, f"--workdir={undisturbed}")
    assert code == 3
    assert f"config.steps={STEPS} ends at step {STEPS}" in output.splitlines()[-1]
    assert "Traceback" not in output


@pytest.mark.slow  # needs the run that the others here are compared with
def test_another_models_checkpoint_is_refused(data, undisturbed):
    code, output = runs.run(
        data,
        f"--workdir={undisturbed}",
        "--config.steps=30",
        "--config.model.video.decoder.width=24",
    )
    assert code == 1
    last = output.splitlines()[-1]
    assert last.startswith("error: ") and "decoder" in last and "24" in last
    assert "Traceback" not in output
