"""The task `finetune`: finetuning of one encoder, or of both together, on labeled recordings.

See configs/eval/finetune_*.py. Each partition of the data is a separate run in its own folder, with
pretraining's training loop. The same command resumes an interrupted finetuning.
"""

import functools
import math
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from xkd_jax import sharding
from xkd_jax.config import finetuning
from xkd_jax.downstream import backbones, labeled_data, metrics
from xkd_jax.downstream.finetuning import (
    finetune_inputs,
    finetune_model,
    finetune_rules,
    finetune_step,
    joint_model,
    partition_run,
)
from xkd_jax.downstream.finetuning.finetune_step import HELD_OUT, NO_SCORE, TEST, FinetuneState
from xkd_jax.downstream.finetuning.partition_run import Division, Length, Setting, Training
from xkd_jax.downstream.labeled_data import Recordings
from xkd_jax.downstream.selection import Candidate, Outcome
from xkd_jax.run import console, processes


def finetune(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Finetunes and tests on every partition, and writes the results.

    Args:
        config: Config as in xkd_jax/config/finetuning.py.
        workdir: Folder for `results.json`, the figures and a folder per partition.

    Returns:
        Content of `results.json`. None in all processes but the first, and if a signal stopped the
        run.

    Raises:
        ConfigError: The config is invalid, or the workdir has a different finetuning.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
        NonFiniteError: The loss or a gradient is not finite.
    """
    finetune_rules.check(config)
    mesh = sharding.make_mesh(config.parallel.fsdp)
    sharding.check_batch_size(config.batch_size, mesh)
    sharding.check_batch_size(config.evaluation.batch_size, mesh, "evaluation.batch_size")
    setting, data = set_up(config, mesh)
    outcomes = partition_run.run_all(setting, data, workdir, prepare)
    if outcomes is None:
        return None
    summary = None
    if processes.is_first():
        summary = partition_run.report(setting, data, outcomes, workdir, "finetuned")
    processes.meet("results")
    return summary


def set_up(
    config: ml_collections.ConfigDict, mesh: Mesh
) -> tuple[Setting, labeled_data.LabeledData]:
    """Loads the encoders and opens the data.

    Raises:
        ConfigError: A field of the config is not allowed.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
    """
    modalities = finetuning.modalities(config)
    encoders = backbones.load(
        config.checkpoint,
        modalities,
        config.network,
        sharding.compute_dtype(config.compute_dtype),
        config.frame_size,
        config.seed if config.untrained else None,
    )
    views = finetune_inputs.make_views(config, encoders)
    data = labeled_data.open_labeled(config.data, views, picture="video" in modalities)
    finetune_rules.check_data(config, data)
    models, weights = {}, {}
    for m, encoder in encoders.items():
        models[m], weights[m] = finetune_model.from_pretrained(
            encoder,
            len(data.class_names),
            config.dropout,
            config.drop_path,
            config.parallel.remat,
            config.head.get("normalize", False),
        )
    if len(modalities) > 1:
        model = joint_model.JointModel.of(models, config.head.blocks)
    else:
        [model], [weights] = models.values(), weights.values()
    setting = Setting(
        config=config,
        mesh=mesh,
        model=model,
        # On the host, since the devices hold the copies in training.
        encoder=jax.tree.map(np.asarray, weights),
        views=views,
        multi_label=data.multi_label,
        predictor=finetune_inputs.Predictor(model, config, views, data.multi_label, mesh),
        identity=backbones.weights_digest(encoders),
        description=next(iter(encoders.values())).description,
        chooses=config.selection.epoch == "best",
    )
    return setting, data


def prepare(setting: Setting, division: Division, length: Length) -> Training:
    """Makes the training of a partition."""
    config, model = setting.config, setting.model
    numbers = finetune_step.hyperparameters(config, length.total_steps, length.steps_per_epoch)
    return Training(
        init=functools.partial(
            finetune_step.init_state,
            model,
            numbers,
            config.seed,
            len(length.evaluated),
            config.selection.epoch == "best",
        ),
        init_args=(setting.encoder,),
        step_fn=finetune_step.make_train_step(model, config, setting.multi_label, setting.mesh),
        step_args=(numbers,),
        evaluator=Evaluator(setting, division, length),
    )


class Evaluator:
    """Scores held-out and test recordings, during the training loop and at its end.

    Args:
        setting: What all partitions share.
        division: The partition's recordings by their use.
        length: How long the run is, and when it is evaluated.
    """

    def __init__(self, setting: Setting, division: Division, length: Length) -> None:
        self._setting = setting
        self._division = division
        self._length = length
        self._parts = {HELD_OUT: division.held_out}
        if setting.config.evaluation.watch_test:
            self._parts[TEST] = division.test
        self._metric = metrics.main_metric(setting.multi_label)
        # Index and test predictions of the evaluation that may be chosen, to save a second test.
        self._tested: tuple[int, finetune_inputs.Predictions] | None = None

    def __call__(self, state: FinetuneState, step: int) -> tuple[FinetuneState, dict[str, float]]:
        """Scores a state. This is the hook `evaluate` of `loop.Hooks`.

        Args:
            state: State to score. Its buffers are donated.
            step: Number of steps done.

        Returns:
            The state with the scores recorded, and the scores by names such as `test/top1`.
        """
        every = self._length.every
        index = math.ceil(step / every) - 1 if every else 0
        scores = np.full(2, NO_SCORE, np.float32)
        values = {}
        for column, name in ((HELD_OUT, "held-out"), (TEST, "test")):
            if self._parts.get(column) is None:
                continue
            predictions = self._predict(state.params, self._parts[column], f"{name} at step {step}")
            scores[column] = self._metric.overall(*predictions)
            values[f"{name.replace('-', '_')}/{self._metric.name}"] = float(scores[column])
            if column == TEST:
                tested = index, predictions
                is_better = scores[HELD_OUT] > np.asarray(state.history)[:, HELD_OUT].max()
                if state.best is None or is_better:
                    self._tested = tested
        if values:
            text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            console.say(f"after step {step}: {text}")
        shardings = sharding.state_shardings(state, self._setting.mesh)
        keep = jax.jit(finetune_step.keep_scores, donate_argnums=0, out_shardings=shardings)
        return keep(state, np.int32(index), scores), values

    def outcome(self, state: FinetuneState) -> Outcome:
        """Tests the chosen parameters of a finished run, of which this is the last state."""
        per_epoch = self._length.steps_per_epoch
        epochs = [round(step / per_epoch, 2) for step in self._length.evaluated]
        history = np.asarray(state.history).astype(float)
        chosen = len(history) - 1 if state.best is None else int(history[:, HELD_OUT].argmax())
        if self._tested and self._tested[0] == chosen:
            _, predictions = self._tested
        else:
            params = state.params if state.best is None else state.best
            predictions = self._predict(params, self._division.test, "test")
        history[chosen, TEST] = self._metric.overall(*predictions)
        candidates = [
            Candidate(epoch, *(None if score == NO_SCORE else score for score in row))
            for epoch, row in zip(epochs, history.tolist(), strict=True)
        ]
        return Outcome(
            varied="epoch",
            candidates=tuple(candidates),
            chosen=epochs[chosen],
            scores=predictions.scores,
            targets=predictions.targets,
            counts=self._division.counts(),
        )

    def _predict(
        self, params: finetune_model.Params, recordings: Recordings, title: str
    ) -> finetune_inputs.Predictions:
        return self._setting.predictor(params, recordings, title)
