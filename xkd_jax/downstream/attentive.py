"""The task `attentive`: attentive probes on the tokens of frozen encoders.

See configs/eval/attentive.py. A head for each learning rate and weight decay of a grid is trained
on the same tokens, one pass of the encoders for all. One head is chosen on held-out recordings, and
never on the test set. Each partition of the data is a separate run in its own folder, as in
finetuning, and the same command resumes an interrupted one.
"""

import functools
from typing import Any

import jax
import ml_collections
import numpy as np

from xkd_jax import sharding
from xkd_jax.downstream import attentive_heads, attentive_rules, backbones, labeled_data, metrics
from xkd_jax.downstream.attentive_heads import HeadsState
from xkd_jax.downstream.finetuning import finetune_inputs, partition_run
from xkd_jax.downstream.finetuning.finetune_step import HELD_OUT, NO_SCORE, TEST
from xkd_jax.downstream.finetuning.partition_run import Division, Length, Setting, Training
from xkd_jax.downstream.labeled_data import Recordings
from xkd_jax.downstream.selection import Candidate, Outcome
from xkd_jax.run import console, processes


def attentive(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Trains and tests attentive probes on every partition, and writes the results.

    Args:
        config: Config as in xkd_jax/config/attentive.py.
        workdir: Folder for `results.json`, the figures and a folder per partition.

    Returns:
        Content of `results.json`. None in all processes but the first, and if a signal stopped the
        run.

    Raises:
        ConfigError: The config is invalid, or the workdir has a different probe.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
        NonFiniteError: The loss or a gradient is not finite.
    """
    attentive_rules.check(config)
    mesh = sharding.make_mesh(config.parallel.fsdp)
    sharding.check_batch_size(config.batch_size, mesh)
    sharding.check_batch_size(config.evaluation.batch_size, mesh, "evaluation.batch_size")
    encoders = backbones.load(
        config.checkpoint,
        config.modalities,
        config.network,
        sharding.compute_dtype(config.compute_dtype),
        config.frame_size,
        config.seed if config.untrained else None,
    )
    views = finetune_inputs.make_views(config, encoders)
    data = labeled_data.open_labeled(config.data, views, picture="video" in config.modalities)
    attentive_rules.check_data(config, data)
    count = len(list(attentive_rules.pairs(config)))
    model = attentive_heads.Heads.on(encoders, config.pooler.blocks, len(data.class_names), count)
    setting = Setting(
        config=config,
        mesh=mesh,
        model=model,
        encoder={m: jax.tree.map(np.asarray, b.params) for m, b in encoders.items()},
        views=views,
        multi_label=data.multi_label,
        predictor=finetune_inputs.Predictor(model, config, views, data.multi_label, mesh),
        identity=backbones.weights_digest(encoders),
        description=next(iter(encoders.values())).description,
        chooses=count > 1,
    )
    outcomes = partition_run.run_all(setting, data, workdir, prepare)
    if outcomes is None:
        return None
    summary = None
    if processes.is_first():
        summary = partition_run.report(setting, data, outcomes, workdir, "attentive probe")
    processes.meet("results")
    return summary


def prepare(setting: Setting, division: Division, length: Length) -> Training:
    """Makes the training of a partition."""
    config, model = setting.config, setting.model
    numbers = attentive_heads.hyperparameters(
        config, list(attentive_rules.pairs(config)), length.total_steps, length.steps_per_epoch
    )
    return Training(
        init=functools.partial(attentive_heads.init_state, model, numbers, config.seed),
        init_args=(),
        step_fn=attentive_heads.make_train_step(model, config, setting.multi_label, setting.mesh),
        step_args=(numbers, setting.encoder),
        evaluator=Evaluator(setting, division),
    )


class Evaluator:
    """Scores all heads on held-out and test recordings, at the end of a run.

    Args:
        setting: What all partitions share.
        division: The partition's recordings by their use.
    """

    def __init__(self, setting: Setting, division: Division) -> None:
        self._setting = setting
        self._division = division
        self._metric = metrics.main_metric(setting.multi_label)
        self._tested: finetune_inputs.Predictions | None = None
        self._encoders: Any = None  # on the devices

    def __call__(self, state: HeadsState, step: int) -> tuple[HeadsState, dict[str, float]]:
        """Scores the heads of the last step. This is the hook `evaluate` of `loop.Hooks`.

        Args:
            state: State to score.
            step: Number of steps done.

        Returns:
            The state with the scores recorded, and the scores of the chosen head by names such as
            `test/top1`.
        """
        history = np.full(state.history.shape, NO_SCORE, np.float32)
        if self._division.held_out is not None:
            held_out = self._predict(state, self._division.held_out, "held-out")
            history[:, HELD_OUT] = self._scores(held_out)
        self._tested = self._predict(state, self._division.test, "test")
        history[:, TEST] = self._scores(self._tested)
        values, chosen = {}, history[history[:, HELD_OUT].argmax()]
        for column, name in ((HELD_OUT, "held_out"), (TEST, "test")):
            if chosen[column] != NO_SCORE:
                values[f"{name}/{self._metric.name}"] = float(chosen[column])
        text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        console.say(f"chosen out of {len(history)} heads: {text}")
        put = sharding.replicate(history, self._setting.mesh)
        return state.replace(history=put), values

    def outcome(self, state: HeadsState) -> Outcome:
        """Tests the chosen head of a finished run, of which this is the last state."""
        if self._tested is None:  # the run was finished before, but not tested
            self._tested = self._predict(state, self._division.test, "test")
        history = np.asarray(state.history).astype(float).tolist()
        grid = list(map(str, attentive_rules.pairs(self._setting.config)))
        chosen = int(np.argmax([row[HELD_OUT] for row in history]))
        candidates = [
            Candidate(pair, *(None if score == NO_SCORE else score for score in row))
            for pair, row in zip(grid, history, strict=True)
        ]
        return Outcome(
            varied="learning rate and weight decay",
            candidates=tuple(candidates),
            chosen=grid[chosen],
            scores=self._tested.scores[:, chosen],
            targets=self._tested.targets,
            counts=self._division.counts(),
        )

    def _scores(self, predictions: finetune_inputs.Predictions) -> list[float]:
        scores = np.moveaxis(predictions.scores, 1, 0)
        return [self._metric.overall(of_head, predictions.targets) for of_head in scores]

    def _predict(
        self, state: HeadsState, recordings: Recordings, title: str
    ) -> finetune_inputs.Predictions:
        if self._encoders is None:
            self._encoders = sharding.replicate(self._setting.encoder, self._setting.mesh)
        params = {"encoder": self._encoders, "head": state.params}
        return self._setting.predictor(params, recordings, title)
