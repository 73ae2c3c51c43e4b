"""The program, called within the test's process."""

import contextlib
import logging as python_logging
import os
import signal
import sys
import threading

import jax
import pytest
from absl import flags, logging

from input_pipeline.programs import signals
from tests.integration import runs
from xkd_jax import pretrain_run
from xkd_jax.run import loop, step_metrics, workdir


@pytest.fixture
def seen(monkeypatch):
    """Returns the list of requested pretrainings, (config, workdir) each; none is run."""
    asked = []
    monkeypatch.setattr(pretrain_run, "pretrain", lambda *arguments: asked.append(arguments))
    return asked


def process_state():
    return (
        {number: signal.getsignal(number) for number in signal.valid_signals()},
        logging.get_verbosity(),
        [
            list(log.filters)
            for log in (logging.get_absl_logger(), python_logging.getLogger("asyncio"))
        ],
        sys.unraisablehook,
        sys.argv,
        dict(os.environ),
        sorted(flags.FLAGS),
        jax.config.jax_compilation_cache_dir,
    )


def test_a_call_leaves_nothing_behind(seen, tmp_path):
    before = process_state()
    for flag in ("--config.seed=5", "--config.seed=x", "--help"):
        runs.call(flag, f"--workdir={tmp_path}")
    assert process_state() == before


def test_flags_are_of_one_call(seen, tmp_path):
    code, output = runs.call("--config.seed=5", f"--workdir={tmp_path / 'one'}")
    assert code == 0, output
    code, _ = runs.call("--config.batch_size=24", f"--workdir={tmp_path / 'two'}")
    assert code == 0
    (one, first), (two, second) = seen
    assert (one.seed, one.batch_size, first) == (5, 4, f"{tmp_path / 'one'}")
    assert (two.seed, two.batch_size, second) == (3, 24, f"{tmp_path / 'two'}")
    assert output.splitlines() == [
        f"Task pretrain of {runs.TINY}; the whole config goes to {tmp_path}/one/config.json",
        "Changed by flags:",
        "  config.seed = 5",
    ]
    code, output = runs.call()
    assert code == 1 and "--workdir=FOLDER is missing" in output


def test_tilde_is_the_home_folder(seen, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runs.call("--workdir=~/run", "--config.data.sources=('~/A', 'B')")[0] == 0
    [(config, workdir)] = seen
    assert workdir == str(tmp_path / "run")
    assert config.data.sources == (str(tmp_path / "A"), "B")


def test_a_run_that_a_program_has_started_waits_until_the_one_before_has_saved(
    seen, tmp_path, monkeypatch
):
    """As where the same command is given again after an ablation was killed."""
    flag = f"--workdir={tmp_path}"
    with contextlib.ExitStack() as before:
        before.enter_context(workdir.claimed(tmp_path))
        code, output = runs.call(flag)
        assert code == 1 and f"another run is using {flag}" in output
        threading.Timer(0.3, before.close).start()
        monkeypatch.setenv(signals.STARTED_BY_A_PROGRAM, "1")
        assert runs.call(flag)[0] == 0
    assert len(seen) == 1


def test_exit_codes_and_messages(monkeypatch, tmp_path):
    def raising(error):
        def pretrain(config, workdir):
            raise error

        return pretrain

    for error, code, told in (
        (loop.FinishedError("at its end"), 3, "error: at its end"),
        (step_metrics.NonFiniteError("Step 3"), 1, "error: Step 3"),
        (ValueError("of a\nlibrary"), 1, "error: of a library (XKD_TRACEBACK=1 shows where)"),
    ):
        monkeypatch.setattr(pretrain_run, "pretrain", raising(error))
        found, output = runs.call(f"--workdir={tmp_path}")
        assert (found, output.splitlines()[-1]) == (code, told)


def test_a_config_file_without_a_config_does_not_get_the_one_read_before(seen, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("x = 1")
    assert runs.call(f"--workdir={tmp_path / 'run'}")[0] == 0
    code, output = runs.call(f"--workdir={tmp_path / 'run'}", config=str(file))
    assert code == 1 and output.endswith("own.py: has no function get_config\n")
