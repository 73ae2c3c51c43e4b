"""The training step of a config as shapes, to trace or compile without data or devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from xkd_jax import pretrain_run, sharding
from xkd_jax.config import checks, finetuning, pretraining
from xkd_jax.downstream import attentive_heads, attentive_rules
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
from xkd_jax.method.models.vit import Encoder, init_params
from xkd_jax.method.state import init_state

# The lengths of schedules do not change the cost of a step.
_TOTAL_STEPS, _STEPS_PER_EPOCH = 1_000_000, 1000.0
# Assumed number of classes, because labeled data are not opened. A class is a row of the head.
_CLASSES = 400


class StepShapes(NamedTuple):
    """A step and its arguments.

    Attributes:
        step_fn: Function `(state, batch, *step_args) -> (state, metrics)`.
        state: A pytree of `jax.ShapeDtypeStruct`.
        batch: A dict of `jax.ShapeDtypeStruct`, the batch of all devices.
        step_args: Other inputs of the program, which every device holds: hyperparameters, and the
            weights of frozen encoders.
        flops_per_clip: Operations of the matrix products, by part; see `flops`.
    """

    step_fn: Callable
    state: Any
    batch: dict[str, jax.ShapeDtypeStruct]
    step_args: tuple[Any, ...]
    flops_per_clip: dict[str, float]


def check(config: ml_collections.ConfigDict) -> None:
    """Checks the fields of a config that the step depends on, but neither data nor paths.

    Args:
        config: Config of pretraining, finetuning or an attentive probe.

    Raises:
        ConfigError: A field is wrong. The message names it, its value and what is allowed.
    """
    if config.task not in _TASKS:
        *others, last = map(repr, _TASKS)
        checks.refuse(config, "task", f"{', '.join(others)} or {last} with --compile_for")
    if config.task == "pretrain":
        checks.check_step(config)
    elif config.task == "attentive":
        checks.check_fields(config, attentive_rules.RULES)
    else:
        checks.check_fields(config, finetune_rules.rules(config))


def make(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> StepShapes:
    """Builds the step that a run of a config compiles.

    Args:
        config: Config of pretraining, finetuning or an attentive probe. If one of the latter has no
            `checkpoint`, its encoder is the default one. Weights are not read.
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
        batch=pretrain_run.batch_shapes(config),
        step_args=(numbers,),
        flops_per_clip=flops.per_clip(model, config.views),
    )


def _finetuning(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> StepShapes:
    description = _describe(config.checkpoint)
    views, parts = {}, {}
    for m in finetuning.modalities(config):
        views[m], parts[m] = _finetuned(config, description, m)
    weights = {m: _weights(part.encoder, part.patch) for m, part in parts.items()}
    if len(parts) > 1:
        model = joint_model.JointModel.of(parts, config.head.blocks)
    else:
        [model], [weights] = parts.values(), weights.values()
    numbers = finetune_step.hyperparameters(config, _TOTAL_STEPS, _STEPS_PER_EPOCH)
    init = functools.partial(
        finetune_step.init_state, model, numbers, config.seed, 1, config.selection.epoch == "best"
    )
    counted = [
        flops.finetuning_per_clip(part.encoder, patch_values(part.patch), _CLASSES)
        for part in parts.values()
    ]
    return StepShapes(
        step_fn=finetune_step.make_train_step(model, config, False, mesh),
        state=jax.eval_shape(init, weights),
        batch=_labeled_batch(config, views),
        step_args=(numbers,),
        flops_per_clip={name: sum(part[name] for part in counted) for name in counted[0]},
    )


def _finetuned(
    config: ml_collections.ConfigDict, description: Mapping[str, Any], modality: str
) -> tuple[tuple[tuple[int, ...], Any], finetune_model.FinetuneModel]:
    """Returns shape and dtype of a view of one modality, and the model of its encoder."""
    encoder, patch, view = _encoder(config, description, modality)
    model = finetune_model.FinetuneModel(
        encoder=encoder.clone(
            grid=token_grid(view[0], patch),
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
    return view, model


def _attentive(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> StepShapes:
    description = _describe(config.checkpoint)
    encoders, views = {}, {}
    for m in config.modalities:
        encoder, patch, views[m] = _encoder(config, description, m)
        encoders[m] = (encoder.clone(row=None), patch)
    grid = list(attentive_rules.pairs(config))
    model = attentive_heads.Heads.over(encoders, config.pooler.blocks, _CLASSES, len(grid))
    numbers = attentive_heads.hyperparameters(config, grid, _TOTAL_STEPS, _STEPS_PER_EPOCH)
    init = functools.partial(attentive_heads.init_state, model, numbers, config.seed)
    tokens = {m: token_grid(shape, encoders[m][1]) for m, (shape, _) in views.items()}
    return StepShapes(
        step_fn=attentive_heads.make_train_step(model, config, False, mesh),
        state=jax.eval_shape(init),
        batch=_labeled_batch(config, views),
        step_args=(numbers, {m: _weights(*parts) for m, parts in encoders.items()}),
        flops_per_clip=flops.attentive_per_clip(model, tokens),
    )


def _encoder(
    config: ml_collections.ConfigDict, description: Mapping[str, Any], modality: str
) -> tuple[Encoder, tuple[int, ...], tuple[tuple[int, ...], Any]]:
    """Returns the encoder of one modality, its patch, and shape and dtype of a view for it."""
    patch = tuple(description["architecture"][modality]["patch"])
    is_video = modality == "video"
    size = config.frame_size or None if is_video else None
    view = preprocessing.resized(description["preprocessing"][modality], patch, size)
    dtype = sharding.compute_dtype(config.compute_dtype).name
    encoder = form.make_module(description, modality, dtype)
    shape = preprocessing.view_shape(view, modality)
    return encoder, patch, (shape, np.uint8 if is_video else np.float32)


def _weights(encoder: Encoder, patch: tuple[int, ...]) -> Any:
    """Returns the shapes of an encoder's weights."""
    return jax.eval_shape(functools.partial(init_params, encoder, patch), jax.random.key(0))


def _labeled_batch(
    config: ml_collections.ConfigDict, views: Mapping[str, tuple[tuple[int, ...], Any]]
) -> dict[str, Any]:
    """Returns the shapes of a batch of labeled clips, given shape and dtype of a view of each."""
    rows = {
        "targets": ((_CLASSES,), np.bool_),
        "replaced": ((), np.bool_),
        "example_id": ((), np.int64),
        "epoch": ((), np.int32),
    }

    def of_batch(extents: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.batch_size, *extents), dtype)

    batch: dict[str, Any] = {name: of_batch(*row) for name, row in rows.items()}
    return batch | {"views": {m: of_batch(*view) for m, view in views.items()}}


def _describe(checkpoint: str) -> dict[str, Any]:
    """Returns the description of a checkpoint's encoders, or of the default ones."""
    if checkpoint:
        return pretrained.load(checkpoint, lambda path: False).description
    networks = {"teacher": {m: {"encoder": {}} for m in xkd.MODALITIES}}
    return descriptions.describe(pretraining.get_config().to_dict(), networks, {})


_TASKS = {"pretrain": _pretraining, "finetune": _finetuning, "attentive": _attentive}
