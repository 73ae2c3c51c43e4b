"""Starting the real program as a user does, in a process of its own."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
from orbax.checkpoint import v1 as ocp

from tests import xla_flags

ROOT = pathlib.Path(__file__).parents[2]


def start(*flags: str, config: str = "tests/integration/tiny_run.py") -> subprocess.Popen:
    """Starts `python -m xkd_jax.main` on one CPU device."""
    command = [sys.executable, "-m", "xkd_jax.main", f"--config={config}", *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": xla_flags.ONE_DEVICE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*flags: str, **kwargs) -> tuple[int, str]:
    """Exit code and output of a whole run."""
    process = start(*flags, **kwargs)
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def wait_for_step(process: subprocess.Popen, workdir: pathlib.Path, step: int) -> None:
    """Waits until a run has saved a step at or after this one."""
    end = time.monotonic() + 300
    while not any(saved >= step for saved in saved_steps(workdir)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


def saved_steps(workdir: pathlib.Path) -> list[int]:
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return sorted(int(name) for name in names if name.isdigit())


def load_state(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its path."""
    import jax

    path = workdir / "checkpoints" / str(step)
    saved = ocp.checkpointables_metadata(path).metadata["state"]
    # To the host's memory, whatever devices the run was on.
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), saved)
    tree = ocp.load_checkpointables(path, {"state": abstract})["state"]
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
