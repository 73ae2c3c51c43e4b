"""The training step of a config as shapes, to trace or compile without data or devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from xkd_jax import pretrain, sharding
from xkd_jax.config import checks, finetuning, pretraining
from xkd_jax.downstream.finetuning import (
    finetune_model,
    finetune_rules,
    finetune_step,
    joint_model,
)
from xkd_jax.encoders import descriptions, form, preprocessing, pretrained
from xkd_jax.measure import flops
from xkd_jax.method import train_step
from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models import xkd
from xkd_jax.method.models.patches import patch_values, token_grid
from xkd_jax.method.models.vit import init_params
from xkd_jax.method.state import init_state

# The lengths of schedules do not change the cost of a step.
_TOTAL_STEPS, _STEPS_PER_EPOCH = 1_000_000, 1000.0
# Assumed number of classes, because labeled data are not opened. A class is a row of the head.
_CLASSES = 400


class StepShapes(NamedTuple):
    """A step and its arguments.

    Attributes:
        step_fn: Function `(state, batch, numbers) -> (state, metrics)`.
        state: A pytree of `jax.ShapeDtypeStruct`.
        batch: A dict of `jax.ShapeDtypeStruct`, the batch of all devices.
        numbers: Hyperparameters, which are inputs of the program.
        flops_per_clip: Operations of the matrix products, by part; see `flops`.
    """

    step_fn: Callable
    state: Any
    batch: dict[str, jax.ShapeDtypeStruct]
    numbers: Any
    flops_per_clip: dict[str, float]


def check(config: ml_collections.ConfigDict) -> None:
    """Checks the fields of a config that the step depends on, but neither data nor paths.

    Args:
        config: Config of pretraining or finetuning.

    Raises:
        ConfigError: A field is wrong. The message names it, its value and what is allowed.
    """
    if config.task not in _TASKS:
        allowed = " or ".join(map(repr, _TASKS))
        checks.refuse(config, "task", f"{allowed} with --compile_for")
    if config.task == "pretrain":
        checks.check_step(config)
    else:
        checks.check_fields(config, finetune_rules.rules(config))


def make(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> StepShapes:
    """Builds the step that a run of a config compiles.

    Args:
        config: Config of pretraining or finetuning. If a finetuning has no `checkpoint`, its
            encoder is the default one. Weights are not read.
        mesh: Device mesh of the run; the devices need not be here.

    Returns:
        The step and the shapes of its arguments.

    Raises:
        FileNotFoundError, ValueError: The checkpoint does not exist or is not usable.
    """
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for the platform of these devices
        return _TASKS[config.task](config, mesh)


def _pretraining(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> StepShapes:
    model = xkd.build(config, sharding.compute_dtype(config.compute_dtype))
    numbers = hyperparameters(config, _TOTAL_STEPS, _STEPS_PER_EPOCH)
    init = functools.partial(init_state, model, numbers, config.seed)
    return StepShapes(
        step_fn=train_step.make_train_step(model, config),
        state=jax.eval_shape(init),
        batch=pretrain.batch_shapes(config),
        numbers=numbers,
        flops_per_clip=flops.per_clip(model, config.views),
    )


def _finetuning(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> StepShapes:
    description = _describe(config.checkpoint)
    views, parts = {}, {}
    for m in finetuning.modalities(config):
        views[m], parts[m] = _finetuned(config, description, m)
    weights = {
        m: jax.eval_shape(
            functools.partial(init_params, part.encoder, part.patch), jax.random.key(0)
        )
        for m, part in parts.items()
    }
    if len(parts) > 1:
        model = joint_model.JointModel.of(parts, config.head.blocks)
    else:
        [model], [weights] = parts.values(), weights.values()
    numbers = finetune_step.hyperparameters(config, _TOTAL_STEPS, _STEPS_PER_EPOCH)
    init = functools.partial(
        finetune_step.init_state, model, numbers, config.seed, 1, config.selection.epoch == "best"
    )
    rows = {
        "targets": ((_CLASSES,), np.bool_),
        "replaced": ((), np.bool_),
        "example_id": ((), np.int64),
        "epoch": ((), np.int32),
    }

    def of_batch(extents: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.batch_size, *extents), dtype)

    batch = {name: of_batch(*row) for name, row in rows.items()}
    batch["views"] = {m: of_batch(*view) for m, view in views.items()}
    counted = [
        flops.finetuning_per_clip(part.encoder, patch_values(part.patch), _CLASSES)
        for part in parts.values()
    ]
    return StepShapes(
        step_fn=finetune_step.make_train_step(model, config, False, mesh),
        state=jax.eval_shape(init, weights),
        batch=batch,
        numbers=numbers,
        flops_per_clip={name: sum(part[name] for part in counted) for name in counted[0]},
    )


def _finetuned(
    config: ml_collections.ConfigDict, description: Mapping[str, Any], modality: str
) -> tuple[tuple[tuple[int, ...], Any], finetune_model.FinetuneModel]:
    """Returns shape and dtype of a view of one modality, and the model of its encoder."""
    patch = tuple(description["architecture"][modality]["patch"])
    is_video = modality == "video"
    size = config.frame_size or None if is_video else None
    view = preprocessing.resized(description["preprocessing"][modality], patch, size)
    shape = preprocessing.view_shape(view, modality)
    model = finetune_model.FinetuneModel(
        encoder=form.make_module(
            description, modality, sharding.compute_dtype(config.compute_dtype).name
        ).clone(
            grid=token_grid(shape, patch),
            row=None,
            remat=config.parallel.remat,
        ),
        patch=patch,
        modality=modality,
        classes=_CLASSES,
        dropout=config.dropout,
        drop_path=config.drop_path,
        normalize=config.head.get("normalize", False),
    )
    return (shape, np.uint8 if is_video else np.float32), model


def _describe(checkpoint: str) -> dict[str, Any]:
    """Returns the description of a checkpoint's encoders, or of the default ones."""
    if checkpoint:
        return pretrained.load(checkpoint, lambda path: False).description
    networks = {"teacher": {m: {"encoder": {}} for m in xkd.MODALITIES}}
    return descriptions.describe(pretraining.get_config().to_dict(), networks, {})


_TASKS = {"pretrain": _pretraining, "finetune": _finetuning}
