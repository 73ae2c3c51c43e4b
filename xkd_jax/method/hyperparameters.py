"""Numbers that the training step takes as inputs, from the config, and their schedules."""

import functools
import math
from typing import Any

import flax.struct
import jax
import ml_collections
import numpy as np

from xkd_jax.method import optimizer, schedules
from xkd_jax.method.models.xkd import MODALITIES

# The release averages the two terms of each kind and divides their weighted sum by the sum of its
# weights: of reconstruction, alignment and distillation.
_RELEASE_WEIGHTS = (5, 1, 1)


@flax.struct.dataclass
class Hyperparameters:
    """Numbers that the compiled step takes as inputs; see `hyperparameters`.

    Settings that change shapes or operations are not here: the model and the config hold them.
    All numbers are () float32, except `mmd_gammas`, which is (G,) float32.

    Attributes:
        optimizer: Numbers of AdamW and of the learning rate schedule.
        weights: Weights in the total loss: of each modality's reconstruction ("video", "audio"), of
            "alignment" and of "distillation".
        mmd_gammas: Widths of the MMD kernels.
        student_temperature: Softmax temperature of both students.
        teacher_temperature: Softmax temperatures of each teacher, {"start", "end"} by modality.
        temperature_warmup_steps: Steps in which the teacher temperatures go from start to end.
        steps_per_epoch: Steps per epoch.
        center_momentum: Momentum of the centers.
        ema: Momentum of each teacher over the run, {"start", "end"} by modality.
    """

    optimizer: optimizer.Hyperparameters
    weights: dict[str, Any]
    mmd_gammas: Any
    student_temperature: Any
    teacher_temperature: dict[str, dict[str, Any]]
    temperature_warmup_steps: Any
    steps_per_epoch: Any
    center_momentum: Any
    ema: dict[str, dict[str, Any]]


def hyperparameters(
    config: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: float
) -> Hyperparameters:
    """Collects the numbers of a run. Runs that differ only in these share a compiled program.

    Args:
        config: Config of the run, see xkd_jax/config/pretraining.py.
        total_steps: Number of steps of the run, where its schedules end.
        steps_per_epoch: Steps per epoch, which converts the config's epochs to steps.

    Returns:
        The hyperparameters, as float32 NumPy numbers.
    """
    xkd, adamw = config.xkd, config.optimizer
    scale = 1 / (2 * sum(_RELEASE_WEIGHTS)) if xkd.total == "release" else 1.0
    temperature = xkd.teacher_temperature
    numbers = Hyperparameters(
        optimizer=optimizer.Hyperparameters(
            learning_rate=adamw.learning_rate,
            final_learning_rate=0.0,
            warmup_steps=adamw.warmup_steps or adamw.warmup_epochs * steps_per_epoch,
            total_steps=total_steps,
            b1=adamw.b1,
            b2=adamw.b2,
            eps=adamw.eps,
            weight_decay=adamw.weight_decay,
            clip_norm=adamw.clip_norm or math.inf,
        ),
        weights={
            **{m: scale * xkd.lambda_ae * (m in xkd.reconstruct) for m in MODALITIES},
            "alignment": scale * xkd.lambda_da,
            "distillation": scale * xkd.lambda_kd,
        },
        mmd_gammas=xkd.mmd_gammas,
        student_temperature=xkd.student_temperature,
        teacher_temperature={
            m: {end: temperature[f"{m}_{end}"] for end in ("start", "end")} for m in MODALITIES
        },
        temperature_warmup_steps=temperature.warmup_epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        center_momentum=xkd.center_momentum,
        ema={m: {"start": xkd[f"ema_{m}"], "end": xkd.ema_end} for m in MODALITIES},
    )
    return jax.tree.map(np.float32, numbers, is_leaf=lambda x: isinstance(x, tuple))


def teacher_temperatures(
    numbers: Hyperparameters, step: jax.typing.ArrayLike, shape: str
) -> dict[str, jax.Array]:
    """Computes the temperature of each teacher at a step.

    Args:
        numbers: Hyperparameters of the run.
        step: () int, the step.
        shape: `cosine` or `linear`, see `config.xkd.teacher_temperature.shape`.

    Returns:
        () float32 by modality.
    """
    schedule = schedules.cosine
    if shape == "linear":
        schedule = functools.partial(
            schedules.epochwise_linear, steps_per_epoch=numbers.steps_per_epoch
        )
    return {
        m: schedule(step, **ends, steps=numbers.temperature_warmup_steps)
        for m, ends in numbers.teacher_temperature.items()
    }


def ema_momenta(numbers: Hyperparameters, step: jax.typing.ArrayLike) -> dict[str, jax.Array]:
    """Computes the momentum of each teacher at a step, () float32 by modality."""
    return {
        m: schedules.cosine(step, **ends, steps=numbers.optimizer.total_steps)
        for m, ends in numbers.ema.items()
    }
