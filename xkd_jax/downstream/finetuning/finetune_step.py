"""The training step of finetuning: augmentation -> loss -> gradients -> AdamW."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from xkd_jax.config import finetuning
from xkd_jax.downstream.finetuning import mixing, rand_augment, spec_augment
from xkd_jax.downstream.finetuning.finetune_model import FinetuneModel, Params
from xkd_jax.downstream.finetuning.joint_model import JointModel
from xkd_jax.method import augment, optimizer
from xkd_jax.method.randomness import Purpose, example_keys
from xkd_jax.sharding import BATCH_AXES

Metrics = OrderedDict[str, jax.Array]
Batch = dict[str, Any]
Trained = FinetuneModel | JointModel

HELD_OUT, TEST = 0, 1  # columns of `FinetuneState.history`
NO_SCORE = -1.0  # stands for a missing score


@flax.struct.dataclass
class FinetuneState:
    """State of a finetuning that changes from step to step, a pytree of arrays.

    Attributes:
        step: () int32. Number of steps done.
        params: Parameters of the `FinetuneModel`.
        opt_state: State of the optimizer.
        seed: () uint32. Seed of all random draws on the accelerator.
        history: (n, 2) float32. Scores on held-out and on test recordings at each of n evaluations.
            `NO_SCORE` where there is no such set, and before the scoring.
        best: Parameters at the evaluation with the best held-out score, the first of equal ones.
            Zeros before the first evaluation. None if the last parameters are wanted.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    seed: jax.Array
    history: jax.Array
    best: Params | None


@flax.struct.dataclass
class Hyperparameters:
    """Hyperparameters that the compiled step takes as inputs, each () float32.

    Attributes:
        optimizer: Hyperparameters of AdamW, and the learning rate schedule of the head.
        layer_decay: Factor of the learning rate from one layer to the one below.
    """

    optimizer: optimizer.Hyperparameters
    layer_decay: Any


def hyperparameters(
    config: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: float
) -> Hyperparameters:
    """Makes the hyperparameters of a run. Runs that differ only in these share a compiled step.

    Args:
        config: Config of the finetuning.
        total_steps: Number of steps of the run, at which the schedule ends.
        steps_per_epoch: Number of steps per epoch.
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
    model: Trained,
    numbers: Hyperparameters,
    seed: int,
    evaluations: int,
    keeps_best: bool,
    encoder: Params,
) -> FinetuneState:
    """Makes the state before the first step.

    Args:
        model: Model to train.
        numbers: Hyperparameters of the run.
        seed: Seed of the run.
        evaluations: Number of evaluations in the run.
        keeps_best: Whether to keep the parameters of the best evaluation.
        encoder: Pretrained parameters of the encoder, or of both by modality.
    """
    params = model.init(jax.random.key(seed), encoder)
    return FinetuneState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(numbers, model.depths).init(params),
        seed=jnp.asarray(seed, jnp.uint32),
        history=jnp.full((evaluations, 2), NO_SCORE),
        best=jax.tree.map(jnp.zeros_like, params) if keeps_best else None,
    )


def make_optimizer(
    numbers: Hyperparameters, depths: int | Mapping[str, int]
) -> optax.GradientTransformation:
    """Makes AdamW with layer-wise learning rate decay.

    Args:
        numbers: Hyperparameters of the run.
        depths: Number of blocks of the encoder, or of both encoders by modality.
    """
    if isinstance(depths, int):
        scales = [optimizer.scale_by_depth(numbers.layer_decay, depths)]
    else:
        scales = [
            optax.masked(optimizer.scale_by_depth(numbers.layer_decay, depth), _encoder_of(m))
            for m, depth in depths.items()
        ]
    return optax.chain(
        optimizer.adamw(numbers.optimizer, decays=optimizer.decay_mask_of_weights), *scales
    )


def _encoder_of(modality: str) -> Callable[[Params], Params]:
    """Returns a function that marks the parameters of one encoder out of two."""
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: [entry.key for entry in path[:2]] == ["encoder", modality], params
    )


def augmented_views(
    batch: Batch, config: ml_collections.ConfigDict, mesh: Mesh, seed: jax.Array
) -> dict[str, jax.Array]:
    """Augments the views of a batch, each modality with its own augmentation.

    Args:
        batch: `views` by modality, (B, T, H, W, 3) uint8 and (B, F, W) float32; `example_id` (B,)
            int and `epoch` (B,) int.
        config: Config of the finetuning or of the attentive probe.
        mesh: Device mesh of the run.
        seed: () uint32. Seed of the run.

    Returns:
        Views of the same shapes and dtypes; frames are not normalized yet.
    """

    def keys(purpose: Purpose) -> jax.Array:
        return example_keys(seed, batch["epoch"], batch["example_id"], purpose)

    views = dict(batch["views"])
    if "video" in views:
        fields = finetuning.augmentation(config, "video")
        settings = fields.rand_augment
        # Flipping uint8 moves a quarter of the bytes of float32.
        flips = jax.vmap(lambda key: jax.random.bernoulli(key, fields.flip_probability))
        video = augment.flip(views["video"], flips(keys(Purpose.FLIP)))
        draws = jax.vmap(lambda key: rand_augment.draw(key, settings))(keys(Purpose.RAND_AUGMENT))
        views["video"] = rand_augment.augment(draws, video, mesh, settings.increasing)
    if "audio" in views:
        section, audio = finetuning.augmentation(config, "audio"), views["audio"]
        draw = jax.vmap(lambda key: spec_augment.draw(key, section, audio.shape[1:]))
        draws = draw(keys(Purpose.SPEC_AUGMENT))
        views["audio"] = spec_augment.augment(draws, audio, section.crop_canvas)
    return views


def normalized(views: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Normalizes the frames of views by modality; log-mels are normalized already."""
    return {m: augment.normalize(x) if m == "video" else x for m, x in views.items()}


def augmented(
    batch: Batch, config: ml_collections.ConfigDict, mesh: Mesh, seed: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Augments, mixes and normalizes a batch.

    Two modalities of an example are mixed with the same partner in the same way. Boxes are drawn
    for each; the target counts the mean of what the modalities have left of the example's own.

    Args:
        batch: As for `augmented_views`, with `targets` (B, C) bool and `replaced` (B,) bool.
        config: Config of the finetuning.
        mesh: Device mesh of the run.
        seed: () uint32. Seed of the run.

    Returns:
        views: (B, ...) float32 by modality. Normalized views.
        targets: (B, C) float32. Smoothed and mixed targets.
        weights: (B,) float32. 0 for examples with a replaced recording, their own or that of their
            partner in mixing; 1 for all others.
    """
    views = augmented_views(batch, config, mesh, seed)
    targets = mixing.smooth(batch["targets"], config.label_smoothing)
    weights = 1.0 - batch["replaced"]
    if config.mixing.mixup or config.mixing.cutmix:
        keys = example_keys(seed, batch["epoch"], batch["example_id"], Purpose.MIXING)
        owns = []
        for m, examples in views.items():
            axis = 2 if m == "video" else 1
            extents = examples.shape[axis : axis + 2]
            draws = _mixing_draws(keys, config, extents, mesh)
            views[m] = mixing.mix(draws, examples, axis)
            owns.append(draws.own)
        own = sum(owns) / len(owns)
        targets = mixing.mix_targets(own, targets)
        weights *= jnp.where(own < 1, weights[::-1], 1.0)
    return normalized(views), targets, weights


def _mixing_draws(
    keys: jax.Array, config: ml_collections.ConfigDict, extents: tuple[int, int], mesh: Mesh
) -> mixing.Draws:
    """Draws how to mix each example of a batch.

    Each device draws for its own examples. In one program for all, the loop that draws Gamma
    variables by rejection would end each round with a reduction over all devices, and devices of a
    CPU that run it beside another exchange wait for each other forever.
    """
    draw = jax.vmap(lambda key: mixing.draw(key, config.mixing, extents))
    over_batch = P(BATCH_AXES)
    return jax.shard_map(draw, mesh=mesh, in_specs=over_batch, out_specs=over_batch)(keys)


def classification_loss(logits: jax.Array, targets: jax.Array, multi_label: bool) -> jax.Array:
    """Computes the cross-entropy, or the mean binary cross-entropy over classes for multi-label.

    Args:
        logits: (B, C) float32.
        targets: (B, C) float32. Probabilities of the classes.
        multi_label: Whether classes are independent of each other.

    Returns:
        (B,) float32 in nats.
    """
    if multi_label:
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=-1)
    return optax.softmax_cross_entropy(logits, targets)


def make_train_step(
    model: Trained,
    config: ml_collections.ConfigDict,
    multi_label: bool,
    mesh: Mesh,
) -> Callable[[FinetuneState, Batch, Hyperparameters], tuple[FinetuneState, Metrics]]:
    """Makes the training step.

    Args:
        model: Model to train.
        config: Config of the finetuning.
        multi_label: Whether recordings may have any number of classes.
        mesh: Device mesh of the run.

    Returns:
        Pure function `(state, batch, numbers) -> (state, metrics)` for batches as in `augmented`.
    """

    def train_step(
        state: FinetuneState, batch: Batch, numbers: Hyperparameters
    ) -> tuple[FinetuneState, Metrics]:
        views, targets, weights = augmented(batch, config, mesh, state.seed)

        def keys(purpose: Purpose) -> jax.Array:
            return example_keys(state.seed, batch["epoch"], batch["example_id"], purpose)

        noise = model.noise(
            {
                "features": keys(Purpose.DROPOUT),
                "paths": keys(Purpose.DROP_PATH),
                "audio_paths": keys(Purpose.AUDIO_DROP_PATH),
            }
        )

        def objective(params: Params) -> jax.Array:
            logits = model.logits(params, views, noise)
            losses = classification_loss(logits, targets, multi_label)
            return (weights * losses).sum() / jnp.maximum(weights.sum(), 1.0)

        total, gradients = jax.value_and_grad(objective)(state.params)
        tx = make_optimizer(numbers, model.depths)
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
    """Records the scores of an evaluation, and keeps the parameters if they are the best so far.

    Args:
        state: State at the evaluation.
        index: () int. Index of the evaluation, from 0.
        scores: (2,) float32. Row of the history.

    Returns:
        The state with the scores in its history, and with `best` updated.
    """
    best = state.best
    if best is not None:
        is_better = scores[HELD_OUT] > state.history[:, HELD_OUT].max()
        best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), state.params, best)
    return state.replace(history=state.history.at[index].set(scores), best=best)
