"""Runs as they lie on disk, without having been trained."""

import json
import pathlib
from typing import Any

import jax
import numpy as np

from tests.tiny import random_params, tiny_config
from xkd_jax.method.models import xkd
from xkd_jax.method.state import TrainState
from xkd_jax.run.checkpoint import Checkpoints


def save_run(workdir: pathlib.Path, variant: str = "xkd", step: int = 7, query: str = "cls"):
    """Saves a tiny model of random weights, students and teachers each their own.

    Returns:
        The config, the model and the state, of NumPy arrays.
    """
    config = tiny_config(variant)
    config.xkd.query = query
    model = xkd.build(config)
    params = random_params(model)
    rng = np.random.default_rng(1)
    teacher = jax.tree.map(
        lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32),
        jax.eval_shape(model.teacher_target, params),
    )
    centers = {m: rng.normal(size=64).astype(np.float32) for m in xkd.MODALITIES}
    state = TrainState(
        step=np.asarray(step, np.int32),
        params=params,
        teacher=teacher,
        centers=centers,
        opt_state={"mu": params},
        seed=np.asarray(0, np.uint32),
    )
    with Checkpoints(workdir, config=config.to_dict(), every_steps=1, keep=3) as checkpoints:
        checkpoints.save(step, state)
    return config, model, state


def logged_lines(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's metrics."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Returns the steps of a run's checkpoints, in order."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return sorted(int(name) for name in names if name.isdigit())
