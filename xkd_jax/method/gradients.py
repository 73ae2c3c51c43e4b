"""Gradients of the objective for a batch, whole or in parts that are taken one after another."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from xkd_jax.method import losses
from xkd_jax.method.hyperparameters import Hyperparameters
from xkd_jax.method.models.xkd import XKD, Params, Views
from xkd_jax.method.objective import Metrics, loss_terms
from xkd_jax.method.state import TrainState


class Derivatives(NamedTuple):
    """What a step needs to know of a batch, or of a part of it. All arrays are float32.

    Attributes:
        gradients: Gradients of the total loss, in the structure of the students' parameters.
        terms: Terms of the objective, see `loss_terms`.
        monitors: Monitors of collapse, see `loss_terms`.
        outputs: Mean projection of each teacher, (J,), by modality, over the examples that have
            both modalities; the center itself if there are none.
    """

    gradients: Params
    terms: Metrics
    monitors: Metrics
    outputs: dict[str, jax.Array]


def differentiate(
    model: XKD,
    xkd: ml_collections.ConfigDict,
    state: TrainState,
    views: dict[str, Views],
    temperatures: dict[str, jax.Array],
    numbers: Hyperparameters,
) -> Derivatives:
    """Runs teachers and students on views, and differentiates the total loss.

    Args:
        model: The model.
        xkd: `config.xkd`.
        state: State before the step.
        views: Views of each modality.
        temperatures: Temperature of each teacher, () float32, by modality.
        numbers: Hyperparameters of the run.

    Returns:
        The gradients, with the terms that they are of.
    """
    teacher = model.teach(state.teacher, views)
    present = {m: v.present for m, v in views.items()}

    def objective(params: Params) -> tuple[jax.Array, tuple[Metrics, Metrics]]:
        student = model.study(params, views)
        terms, monitors = loss_terms(
            student, teacher, present, state.centers, temperatures, numbers, xkd
        )
        return terms["total"], (terms, monitors)

    gradients, (terms, monitors) = jax.grad(objective, has_aux=True)(state.params)
    paired = present["video"] * present["audio"]
    outputs = {
        m: jnp.where(paired.any(), losses.mean_output(t.projections, paired), state.centers[m])
        for m, t in teacher.items()
    }
    return Derivatives(gradients, terms, monitors, outputs)


def mean_over_microbatches(function: Callable[[Any], Any], batch: Any, count: int) -> Any:
    """Applies a function to one part of a batch after another, and averages the results.

    Args:
        function: Maps a batch to a pytree of float arrays.
        batch: Pytree of arrays (B, ...); `count` divides B. Part i has the rows i, i + count and so
            on, so every device already holds its share of every part.
        count: Number of parts; 1 applies the function to the whole batch.

    Returns:
        The mean of the function's results over the parts.
    """
    if count == 1:
        return function(batch)
    size = len(jax.tree.leaves(batch)[0]) // count
    mean = optax.microbatching.AccumulationType.MEAN
    return optax.microbatching.microbatch(function, 0, size, mean)(batch)
