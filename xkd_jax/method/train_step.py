"""The training step: views -> gradients -> AdamW -> EMA -> centers, as a pure function."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections
import optax

from xkd_jax.method import averages, optimizer
from xkd_jax.method.gradients import Derivatives, differentiate, mean_over_microbatches
from xkd_jax.method.hyperparameters import Hyperparameters, ema_momenta, teacher_temperatures
from xkd_jax.method.models.xkd import MODALITIES, XKD, Params
from xkd_jax.method.objective import Metrics
from xkd_jax.method.state import TrainState
from xkd_jax.method.views import make_views


def make_train_step(
    model: XKD, config: ml_collections.ConfigDict
) -> Callable[[TrainState, dict[str, Any], Hyperparameters], tuple[TrainState, Metrics]]:
    """Builds the training step.

    Args:
        model: The model.
        config: Config of the run, see xkd_jax/config/pretraining.py.

    Returns:
        A pure function `(state, batch, numbers) -> (state, metrics)`. `batch` has the arrays of
        `pretrain_run.batch_shapes` (see docs/design.md). `metrics` are () float32 each, causes
        before effects.
    """

    def train_step(
        state: TrainState, batch: dict[str, Any], numbers: Hyperparameters
    ) -> tuple[TrainState, Metrics]:
        shape = config.xkd.teacher_temperature.shape
        temperatures = teacher_temperatures(numbers, state.step, shape)
        momenta = ema_momenta(numbers, state.step)

        def of_part(part: dict[str, Any]) -> Derivatives:
            views = make_views(model, config.views, part, state.seed)
            return differentiate(model, config.xkd, state, views, temperatures, numbers)

        gradients, terms, monitors, outputs = mean_over_microbatches(
            of_part, batch, config.parallel.accumulate
        )
        adamw = optimizer.for_pretraining(numbers.optimizer)
        updates, opt_state = adamw.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        centers = state.centers
        if config.xkd.centering:
            centers = averages.move_centers(centers, outputs, numbers.center_momentum)
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            teacher=averages.follow(model.teacher_target(params), state.teacher, momenta),
            centers=centers,
            opt_state=opt_state,
            seed=state.seed,
        )

        # The loop reports the first metric that is not finite, so causes come before effects.
        metrics = OrderedDict(terms)
        metrics |= part_norms("gradient_norm", gradients)
        metrics |= part_norms("update_norm", updates)
        metrics |= part_norms("parameter_norm", params)
        metrics |= monitors
        for m in MODALITIES:
            metrics[f"center_norm/{m}"] = jnp.sqrt(jnp.square(state.centers[m]).mean())
        metrics["schedule/learning_rate"] = numbers.optimizer.learning_rate_at(state.step)
        for m in MODALITIES:
            metrics[f"schedule/ema_{m}"] = momenta[m]
            metrics[f"schedule/teacher_temperature_{m}"] = temperatures[m]
        metrics["data/with_picture"] = batch["has_video"].mean(dtype=jnp.float32)
        metrics["data/with_sound"] = batch["has_audio"].mean(dtype=jnp.float32)
        return new_state, metrics

    return train_step


def part_norms(prefix: str, params: Params) -> Metrics:
    """Computes the Euclidean norm of each part, named such as `gradient_norm/video/encoder`."""
    return OrderedDict(
        (f"{prefix}/{owner}/{part}", optax.tree.norm(tree))
        for owner in params
        for part, tree in params[owner].items()
    )
