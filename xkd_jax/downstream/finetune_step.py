"""The step of finetuning: augmentation -> loss -> gradients -> AdamW, as a pure function."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from xkd_jax import augment, optimizer
from xkd_jax.downstream import mixing, rand_augment, spec_augment
from xkd_jax.downstream.finetune_model import FinetuneModel, Params
from xkd_jax.randomness import Purpose, example_keys

Metrics = OrderedDict[str, jax.Array]
Batch = dict[str, jax.Array]

# Of a row of `FinetuneState.history`; and what stands for a score that there is not.
HELD_OUT, TEST = 0, 1
NO_SCORE = -1.0


@flax.struct.dataclass
class FinetuneState:
    """All that a run carries from step to step; one pytree of arrays.

    Attributes:
        step: () int32, steps done.
        params: Of `FinetuneModel`.
        opt_state: Of the optimizer.
        seed: () uint32, of every draw on the accelerator.
        history: (n, 2) float32, the score on held-out and on test recordings at each evaluation of
            the run; `NO_SCORE` where there is none, or not yet.
        best: The parameters of the evaluation with the best score on held-out recordings, the first
            of equal ones, zeros before the first; None where the last ones are wanted.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    seed: jax.Array
    history: jax.Array
    best: Params | None


@flax.struct.dataclass
class Hyperparameters:
    """Numbers of a run that its program takes as inputs, () float32 each.

    Attributes:
        optimizer: AdamW's, and the learning rate's course at the head.
        layer_decay: factor of a layer's steps from one layer to the one below.
    """

    optimizer: optimizer.Hyperparameters
    layer_decay: Any


def hyperparameters(
    config: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: float
) -> Hyperparameters:
    """The numbers of a run. Two runs that differ in these alone share a compiled program.

    Args:
        config: Config of a finetuning.
        total_steps: Steps of the run, the end of its schedule.
        steps_per_epoch: What turns epochs into steps.
    """
    adamw = config.optimizer
    numbers = Hyperparameters(
        optimizer=optimizer.Hyperparameters(
            learning_rate=adamw.learning_rate,
            final_learning_rate=adamw.final_learning_rate,
            warmup_steps=adamw.warmup_epochs * steps_per_epoch,
            total_steps=total_steps,
            b1=adamw.b1,
            b2=adamw.b2,
            eps=adamw.eps,
            weight_decay=adamw.weight_decay,
            clip_norm=math.inf,
        ),
        layer_decay=adamw.layer_decay,
    )
    return jax.tree.map(np.float32, numbers)


def init_state(
    model: FinetuneModel,
    numbers: Hyperparameters,
    seed: int,
    evaluations: int,
    keeps_best: bool,
    encoder: Params,
) -> FinetuneState:
    """The state before the first step.

    Args:
        model: To train.
        numbers: Numbers of the run.
        seed: Of the run.
        evaluations: Of the whole run.
        keeps_best: Whether to keep the parameters of the best one.
        encoder: The pretrained weights.
    """
    params = model.init(jax.random.key(seed), encoder)
    return FinetuneState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(numbers, model.encoder.depth).init(params),
        seed=jnp.asarray(seed, jnp.uint32),
        history=jnp.full((evaluations, 2), NO_SCORE),
        best=jax.tree.map(jnp.zeros_like, params) if keeps_best else None,
    )


def make_optimizer(numbers: Hyperparameters, depth: int) -> optax.GradientTransformation:
    """AdamW whose steps shrink layer by layer from the head of an encoder `depth` blocks deep."""
    return optax.chain(
        optimizer.adamw(numbers.optimizer, decays=optimizer.decay_mask_of_weights),
        optimizer.scale_by_depth(numbers.layer_decay, depth),
    )


def augmented(
    batch: Batch, config: ml_collections.ConfigDict, mesh: Mesh, seed: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the model is trained on of a batch.

    Args:
        batch: `views` (B, T, H, W, 3) uint8 or (B, F, W) float32, `targets` (B, C) bool, `replaced`
            (B,) bool, `example_id` and `epoch` (B,).
        config: Of the run.
        mesh: Of the run.
        seed: () uint32.

    Returns:
        views: (B, ...) float32, normalized and mixed.
        targets: (B, C) float32.
        weights: (B,) float32, 0 for examples that another recording stands in for, wholly or in the
            mixture; 1 for all others.
    """
    fields, views = config.augmentation, batch["views"]

    def keys(purpose: Purpose) -> jax.Array:
        return example_keys(seed, batch["epoch"], batch["example_id"], purpose)

    is_video = config.modality == "video"
    if is_video:
        # Of bytes, as long as they are a quarter of the size.
        where = jax.vmap(lambda key: jax.random.bernoulli(key, fields.flip_probability))
        views = augment.flip(views, where(keys(Purpose.FLIP)))
        draw = jax.vmap(lambda key: rand_augment.draw(key, fields.rand_augment))
        views = rand_augment.augment(draw(keys(Purpose.RAND_AUGMENT)), views, mesh)
    else:
        draw = jax.vmap(lambda key: spec_augment.draw(key, fields, views.shape[1:]))
        views = spec_augment.augment(draw(keys(Purpose.SPEC_AUGMENT)), views)

    targets = mixing.smooth(batch["targets"], config.label_smoothing)
    weights = 1.0 - batch["replaced"]
    if config.mixing.mixup or config.mixing.cutmix:
        axis = 2 if is_video else 1
        extents = views.shape[axis : axis + 2]
        draw = jax.vmap(lambda key: mixing.draw(key, config.mixing, extents))
        draws = draw(keys(Purpose.MIXING))
        views = mixing.mix(draws, views, axis)
        targets = mixing.mix_targets(draws, targets)
        weights *= jnp.where(draws.own < 1, weights[::-1], 1.0)
    return (augment.normalize(views) if is_video else views), targets, weights


def classification_loss(logits: jax.Array, targets: jax.Array, multi_label: bool) -> jax.Array:
    """Cross-entropy with targets `(B, C)`, or the mean of binary ones over the classes.

    Returns:
        (B,) float32, in nats.
    """
    if multi_label:
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=-1)
    return optax.softmax_cross_entropy(logits, targets)


def make_train_step(
    model: FinetuneModel,
    config: ml_collections.ConfigDict,
    multi_label: bool,
    mesh: Mesh,
) -> Callable[[FinetuneState, Batch, Hyperparameters], tuple[FinetuneState, Metrics]]:
    """The step `(state, batch, numbers) -> (state, metrics)`, for batches as in `augmented`."""

    def train_step(
        state: FinetuneState, batch: Batch, numbers: Hyperparameters
    ) -> tuple[FinetuneState, Metrics]:
        views, targets, weights = augmented(batch, config, mesh, state.seed)

        def keys(purpose: Purpose) -> jax.Array:
            return example_keys(state.seed, batch["epoch"], batch["example_id"], purpose)

        noise = model.noise({"features": keys(Purpose.DROPOUT), "paths": keys(Purpose.DROP_PATH)})

        def objective(params: Params) -> jax.Array:
            logits = model.logits(params, views, noise)
            losses = classification_loss(logits, targets, multi_label)
            return (weights * losses).sum() / jnp.maximum(weights.sum(), 1.0)

        total, gradients = jax.value_and_grad(objective)(state.params)
        tx = make_optimizer(numbers, model.encoder.depth)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics: Metrics = OrderedDict(total=total)
        for name, tree in (("gradient", gradients), ("update", updates), ("parameter", params)):
            for part in ("encoder", "head"):
                metrics[f"{name}_norm/{part}"] = optax.tree.norm(tree[part])
        metrics["schedule/learning_rate"] = numbers.optimizer.learning_rate_at(state.step)
        metrics["data/trained_on"] = weights.mean()
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

    return train_step


def keep_scores(state: FinetuneState, index: jax.Array, scores: jax.Array) -> FinetuneState:
    """Puts the scores of an evaluation down, and keeps the parameters where they are the best.

    Args:
        state: At the evaluation.
        index: () int, its number, from 0.
        scores: (2,) float32, a row of the history.
    """
    best = state.best
    if best is not None:
        is_better = scores[HELD_OUT] > state.history[:, HELD_OUT].max()
        best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), state.params, best)
    return state.replace(history=state.history.at[index].set(scores), best=best)
