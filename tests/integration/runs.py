"""Starts the real programs as a user does, each in a process of its own.

A process is forked from one that has imported everything already (see tests/warm_start.py),
unless it is `cold`. For each kind of run, at least one test starts a cold process.
"""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
from orbax.checkpoint import v1 as ocp

from input_pipeline.datasets import generated
from tests import session, warm_start, xla_flags
from tests.saved_runs import saved_steps
from xkd_jax import main

ROOT = pathlib.Path(__file__).parents[2]
TINY = "tests/integration/tiny_run.py"
STEPS = 24  # config.steps of TINY


def start_module(
    name: str, *flags: str, cold: bool = False, xla: str = xla_flags.ONE_DEVICE, **options
) -> subprocess.Popen:
    """Starts `python -m NAME`."""
    python = sys.executable if cold else warm_start.environment() / "bin" / "python"
    return _start([python, "-m", name, *flags], {"XLA_FLAGS": xla}, **options)


def start(*flags: str, config: str = TINY, **options) -> subprocess.Popen:
    """Starts `python -m xkd_jax.main` on one CPU device."""
    return start_module("xkd_jax.main", f"--config={config}", *flags, **options)


def start_several(
    processes: int,
    *flags: str,
    config: str = TINY,
    cold: bool = False,
    xla: str = xla_flags.ONE_DEVICE,
) -> subprocess.Popen:
    """Starts `python -m xkd_jax.main` as several processes."""
    venv = sys.prefix if cold else warm_start.environment()
    command = ["bash", "launch/local_processes.sh", str(processes), f"--config={config}", *flags]
    return _start(command, {"XLA_FLAGS": xla, "XKD_VENV": str(venv)})


def _start(command: list, environment: dict[str, str], stderr=subprocess.STDOUT):
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for a run; returns its exit code and output."""
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def run(*flags: str, **options) -> tuple[int, str]:
    """Runs the program in one process; returns its exit code and output."""
    return ended(start(*flags, **options))


def call(*flags: str, config: str = TINY) -> tuple[int, str]:
    """Runs the program within this process, on its eight CPU devices; as `run` otherwise."""
    with (
        io.StringIO() as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        return main.call(f"--config={config}", *flags), output.getvalue()


def clips(train: int = 12, test: int = 2) -> pathlib.Path:
    """Returns a read-only folder of generated recordings, by default as many as TINY uses."""
    return session.shared(
        f"clips_{train}_{test}", lambda folder: generated.generate(folder, train, test, seed=0)
    )


def undisturbed() -> pathlib.Path:
    """Returns the read-only workdir of an uninterrupted run of TINY on `clips()` and one thread."""

    def make(folder: pathlib.Path) -> None:
        flags = [f"--config.data.path={clips()}", "--config.data.threads=1"]
        code, output = run(*flags, f"--workdir={folder}")
        assert code == 0, output

    return session.shared("undisturbed", make)


def wait_for_step(process: subprocess.Popen, workdir: pathlib.Path, step: int) -> None:
    """Waits until a run has saved step `step` or a later one."""
    end = time.monotonic() + 300
    while not any(saved >= step for saved in saved_steps(workdir)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


def load_state(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Loads every array of a checkpoint, by its path in the state."""
    import jax

    path = workdir / "checkpoints" / str(step)
    saved = ocp.checkpointables_metadata(path).metadata["state"]
    # Load into the host's memory, whatever the devices of the run.
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), saved)
    tree = ocp.load_checkpointables(path, {"state": abstract})["state"]
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_state(workdir: pathlib.Path, expected: pathlib.Path, step: int = STEPS) -> None:
    """Asserts that two runs have the same arrays at a step, bit for bit."""
    expected_state, state = load_state(expected, step), load_state(workdir, step)
    assert set(state) == set(expected_state)
    for name, array in expected_state.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)
