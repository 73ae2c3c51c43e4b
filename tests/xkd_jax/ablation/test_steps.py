"""The training step of every row of the ablations, at tiny size.

Rows that differ only in numbers of the losses, such as weights and temperatures, share a program.
Rows that differ in other numbers have programs that differ only in shapes, which tracing checks. Of
these, one is run, and one for each kind of shape.
"""

import functools
import json

import jax
import numpy as np
import pytest

from configs import base
from tests.tiny import random_params, tiny_batch, tiny_config
from xkd_jax.config import checks
from xkd_jax.method import train_step
from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models import xkd
from xkd_jax.method.state import init_state
from xkd_jax.paper import rows

# One row for each kind of shape, see above.
SHAPED = ("xkd_audioset", "projector_layers_2", "local_4s_1s", "views_2_1", "mask_v0.90_a0.85")
# Rows whose weights of losses decide which parts get gradients.
WEIGHTED = ("recon_video", "recon_audio", "ae", "ae_kd", "ae_da", "no_reconstruction")


def make_config(name):
    """Returns a row on the tiny config, with clips long enough for the longest local views."""
    config = tiny_config()
    config.batch_size = 2
    config.views.video.global_frames = 16
    config.update_from_flattened_dict(rows.changed(config, rows.ROWS[name]))
    if name == "xkd_audioset":  # larger than the other encoder, but not as large as ViT-L
        config.model.video.encoder = base.transformer((48, 3, 4))
        config.model.video.decoder = base.transformer((24, 2, 2))
    checks.check_step(config)
    return config


def program(name):
    """Returns a key of a row's program: its config without the numbers that the step takes."""
    config = make_config(name).to_dict()
    config["xkd"] = {
        field: value
        for field, value in config["xkd"].items()
        if not isinstance(value, (float, dict)) and field not in ("reconstruct", "total")
    }
    return json.dumps(config, sort_keys=True)


def structure(name):
    """Returns a key of a row's program up to shapes: `program` without any numbers."""

    def without_numbers(value):
        if isinstance(value, dict):
            return {field: without_numbers(inner) for field, inner in value.items()}
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if is_number else value

    return json.dumps(without_numbers(json.loads(program(name))), sort_keys=True)


def firsts(key):
    """Returns a function that maps a row to the first row with the same key."""
    found = {}
    for name in rows.ROWS:
        found.setdefault(key(name), name)
    return lambda name: found[key(name)]


traced_as = firsts(program)
run_as = firsts(structure)


def numbers_of(name):
    config = make_config(name)
    return hyperparameters(config, config.steps, 10.0)


@functools.lru_cache(maxsize=1)  # the rows of a program come one after the other
def traced(name):
    """Returns the traced step of a row, and the abstract state that it takes."""
    config = make_config(name)
    model, numbers = xkd.build(config), numbers_of(name)
    state = jax.eval_shape(lambda: init_state(model, numbers, config.seed))
    step = jax.jit(train_step.make_train_step(model, config))
    return step.trace(state, tiny_batch(config), numbers), state


@functools.lru_cache(maxsize=1)
def compiled(name):
    step, _ = traced(name)
    return step.lower().compile()


def shape_and_type(leaf):
    return leaf.shape, leaf.dtype


RUN = {*map(run_as, rows.ROWS), *SHAPED, *WEIGHTED}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(rows.ROWS, key=traced_as))  # so that each is traced once
def test_every_row_has_a_step_and_those_of_other_programs_run(name):
    step, before = traced(traced_as(name))
    after, metrics = step.out_info
    assert jax.tree.map(shape_and_type, after) == jax.tree.map(shape_and_type, before)
    assert metrics["total"].shape == ()
    of_alignment = [term for term in metrics if term.startswith("alignment/")]
    assert len(of_alignment) == {"da2": 4}.get(name, 2)
    if name in RUN:
        check_that_it_runs_and_its_weights_reach_the_right_parts(name)


def first_state(name):
    config, state = make_config(name), traced(traced_as(name))[1]
    model = xkd.build(config)
    params = random_params(model)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    return zeros.replace(params=params, teacher=model.teacher_target(params))


def check_that_it_runs_and_its_weights_reach_the_right_parts(name):
    config = make_config(name)
    state = first_state(name)
    after, metrics = compiled(traced_as(name))(state, tiny_batch(config), numbers_of(name))
    metrics = {key: float(value) for key, value in metrics.items()}
    assert all(map(np.isfinite, metrics.values()))
    assert int(after.step) == 1

    def learns(part):
        return metrics[f"gradient_norm/{part}"] > 0

    only = {"recon_video": ["video"], "recon_audio": ["audio"]}.get(name, ["video", "audio"])
    shared = ["encoder"] if config.model.variant == "xkd" else []
    for m in ("video", "audio"):
        for part in (*shared, "decoder"):
            is_weighted = m in only and (part == "encoder" or name != "no_reconstruction")
            assert learns(f"{m}/{part}") == is_weighted, (m, part)
        assert learns(f"{m}/projector") == (name not in ("ae", "recon_video", "recon_audio"))
    assert all(metrics[f"reconstruction/{m}"] > 0 for m in ("video", "audio"))
    centers = [np.abs(np.asarray(center)).max() for center in after.centers.values()]
    assert all(center > 0 for center in centers) == (name != "no_centering")
