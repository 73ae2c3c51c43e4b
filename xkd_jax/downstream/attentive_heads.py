"""The heads of an attentive probe: stacked, and trained side by side on the same tokens.

A head is an attentive pooler and a linear layer. All arrays of the heads' parameters have an
additional first axis of G heads. Each head has its own learning rate and weight decay, and its own
initialization. The encoders are frozen: they are computed once for all heads, and their weights are
no part of the state.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from xkd_jax.downstream.attentive_rules import Pair
from xkd_jax.downstream.backbones import Backbones
from xkd_jax.downstream.finetuning.finetune_model import linear
from xkd_jax.downstream.finetuning.finetune_step import (
    NO_SCORE,
    Batch,
    Metrics,
    augmented_views,
    classification_loss,
    normalized,
)
from xkd_jax.method import optimizer
from xkd_jax.method.models import attentive_pooler
from xkd_jax.method.models.vit import Encoder, encode

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Heads:
    """Frozen encoders with G heads: hyperparameters, and pure functions of the parameters.

    Attributes:
        encoders: Encoder module and size of a patch by modality.
        pooler: The pooler of each head.
        classes: C, the number of classes.
        count: G, the number of heads.
    """

    encoders: Mapping[str, tuple[Encoder, tuple[int, ...]]]
    pooler: attentive_pooler.AttentivePooler
    classes: int
    count: int

    @classmethod
    def on(cls, backbones: Backbones, blocks: int, classes: int, count: int) -> "Heads":
        """Makes the heads for some encoders.

        Args:
            backbones: Encoders by modality.
            blocks: Number of blocks of each pooler.
            classes: Number of classes.
            count: Number of heads.
        """
        encoders = {m: (b.module.clone(row=None), b.patch) for m, b in backbones.items()}
        return cls.over(encoders, blocks, classes, count)

    @classmethod
    def over(
        cls,
        encoders: Mapping[str, tuple[Encoder, tuple[int, ...]]],
        blocks: int,
        classes: int,
        count: int,
    ) -> "Heads":
        """Makes the heads for the modules of encoders and the sizes of their patches; see `on`."""
        widest = max((module for module, _ in encoders.values()), key=lambda module: module.width)
        pooler = attentive_pooler.AttentivePooler(
            widest.width, blocks, widest.heads, dtype=widest.dtype
        )
        return cls(encoders, pooler, classes, count)

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the computation."""
        return self.pooler.dtype

    def init(self, key: jax.Array) -> Params:
        """Initializes the parameters of all heads, (G, ...) each."""
        widths = {m: module.width for m, (module, _) in self.encoders.items()}
        keys = jax.random.split(key, self.count)
        return jax.vmap(
            lambda key: attentive_pooler.init_head(self.pooler, widths, self.classes, key)
        )(keys)

    def tokens(self, encoders: Params, views: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Encodes normalized views (B, ...) by modality as patch tokens (B, N, D), without CLS."""
        return {
            m: encode(module, encoders[m], views[m], patch).tokens[:, 1:]
            for m, (module, patch) in self.encoders.items()
        }

    def classify(self, heads: Params, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Classifies tokens with all heads.

        Args:
            heads: Parameters as from `init`.
            tokens: As from `tokens`.

        Returns:
            (G, B, C) float32.
        """

        def of_one(head: Params) -> jax.Array:
            return linear(head, attentive_pooler.pool(self.pooler, head["pooler"], tokens))

        return jax.vmap(of_one)(heads)

    def logits(self, params: Params, views: Mapping[str, jax.Array]) -> jax.Array:
        """Classifies normalized views, as (B, G, C) float32.

        Args:
            params: {"encoder": parameters of the encoders by modality, "head": as from `init`}.
            views: (B, ...) float by modality.
        """
        tokens = self.tokens(params["encoder"], views)
        return jnp.moveaxis(self.classify(params["head"], tokens), 0, 1)


@flax.struct.dataclass
class HeadsState:
    """State of an attentive probe that changes from step to step, a pytree of arrays.

    Attributes:
        step: () int32. Number of steps done.
        params: Parameters of the heads.
        opt_state: States of their optimizers, (G, ...) each.
        seed: () uint32. Seed of all random draws on the accelerator.
        history: (G, 2) float32. Scores of each head on held-out and on test recordings at the end
            of the run. `NO_SCORE` where there is no such set, and before the scoring.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    seed: jax.Array
    history: jax.Array


def hyperparameters(
    config: ml_collections.ConfigDict,
    grid: Sequence[Pair],
    total_steps: int,
    steps_per_epoch: float,
) -> optimizer.Hyperparameters:
    """Makes the hyperparameters of all heads, each (G,) float32.

    Args:
        config: Config of the attentive probe.
        grid: The pairs of the G heads.
        total_steps: Number of steps of the run, at which the schedule ends.
        steps_per_epoch: Number of steps per epoch.
    """
    adamw = config.optimizer
    each = [
        optimizer.Hyperparameters(
            learning_rate=pair.learning_rate,
            final_learning_rate=0.0,
            warmup_steps=adamw.warmup_epochs * steps_per_epoch,
            total_steps=total_steps,
            b1=adamw.b1,
            b2=adamw.b2,
            eps=adamw.eps,
            weight_decay=pair.weight_decay,
            clip_norm=np.inf,
        )
        for pair in grid
    ]
    return jax.tree.map(lambda *values: np.array(values, np.float32), *each)


def init_state(model: Heads, numbers: optimizer.Hyperparameters, seed: int) -> HeadsState:
    """Makes the state before the first step.

    Args:
        model: The heads to train.
        numbers: Hyperparameters of all heads.
        seed: Seed of the run.
    """
    params = model.init(jax.random.key(seed))
    return HeadsState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=jax.vmap(lambda n, p: optimizer.adamw(n).init(p))(numbers, params),
        seed=jnp.asarray(seed, jnp.uint32),
        history=jnp.full((model.count, 2), NO_SCORE),
    )


def make_train_step(
    model: Heads, config: ml_collections.ConfigDict, multi_label: bool, mesh: Mesh
) -> Callable[..., tuple[HeadsState, Metrics]]:
    """Makes the training step.

    Args:
        model: The heads to train.
        config: Config of the attentive probe.
        multi_label: Whether recordings may have any number of classes.
        mesh: Device mesh of the run.

    Returns:
        Pure function `(state, batch, numbers, encoders) -> (state, metrics)`, for batches as in
        `finetune_step.augmented`.
    """

    def train_step(
        state: HeadsState, batch: Batch, numbers: optimizer.Hyperparameters, encoders: Params
    ) -> tuple[HeadsState, Metrics]:
        views = normalized(augmented_views(batch, config, mesh, state.seed))
        tokens = jax.lax.stop_gradient(model.tokens(encoders, views))
        targets, weights = batch["targets"].astype(jnp.float32), 1.0 - batch["replaced"]

        def objective(heads: Params) -> tuple[jax.Array, jax.Array]:
            logits = model.classify(heads, tokens)
            losses = classification_loss(logits, targets[None], multi_label)
            of_heads = (weights * losses).sum(axis=-1) / jnp.maximum(weights.sum(), 1.0)
            # No head depends on another one, so the gradient of the sum has that of each.
            return of_heads.sum(), of_heads

        gradients, losses = jax.grad(objective, has_aux=True)(state.params)

        def update(
            numbers: optimizer.Hyperparameters, gradients: Params, opt_state: Any, params: Params
        ) -> tuple[Params, Any]:
            updates, opt_state = optimizer.adamw(numbers).update(gradients, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        params, opt_state = jax.vmap(update)(numbers, gradients, state.opt_state, state.params)
        metrics: Metrics = OrderedDict(total=losses.mean())
        metrics["loss/lowest"], metrics["loss/highest"] = losses.min(), losses.max()
        metrics["gradient_norm/heads"] = optax.tree.norm(gradients)
        metrics["parameter_norm/heads"] = optax.tree.norm(params)
        metrics["data/trained_on"] = weights.mean()
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

    return train_step
