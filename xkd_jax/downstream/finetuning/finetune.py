"""The task `finetune`: finetuning of an encoder on labeled recordings.

See configs/eval/finetune_*.py. Each partition of the data is a separate run in its own folder, with
pretraining's training loop. The same command resumes an interrupted finetuning.
"""

import functools
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from input_pipeline.programs.wording import counted
from xkd_jax import sharding
from xkd_jax.config import checks
from xkd_jax.downstream import backbones, labeled_data, metrics, results
from xkd_jax.downstream.finetuning import (
    finetune_folder,
    finetune_inputs,
    finetune_model,
    finetune_rules,
    finetune_step,
)
from xkd_jax.downstream.finetuning.finetune_step import HELD_OUT, NO_SCORE, TEST, FinetuneState
from xkd_jax.downstream.labeled_data import Partition, Recordings
from xkd_jax.downstream.selection import Candidate, Outcome
from xkd_jax.method import schedules
from xkd_jax.run import console, data_log, loop, processes


class Setting(NamedTuple):
    """Everything that all partitions of a finetuning share.

    Attributes:
        config: Config as in xkd_jax/config/finetuning.py.
        mesh: Device mesh over all devices.
        model: Model to train.
        encoder: Pretrained parameters of the encoder, on the host.
        views: Section `views` from `finetune_inputs.make_views`.
        multi_label: Whether recordings may have any number of classes.
        predictor: Scores recordings with the model.
        identity: Digest of the pretrained weights.
        description: Description of them from `xkd_jax.encoders.descriptions.describe`.
    """

    config: ml_collections.ConfigDict
    mesh: Mesh
    model: finetune_model.FinetuneModel
    encoder: finetune_model.Params
    views: ml_collections.ConfigDict
    multi_label: bool
    predictor: finetune_inputs.Predictor
    identity: str
    description: Mapping[str, Any]


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
    outcomes = {}
    for partition in data.partitions:
        outcome = run_partition(setting, partition, pathlib.Path(workdir) / partition.name)
        if outcome is None:
            return None
        outcomes[partition.name] = outcome
    summary = report(setting, data, outcomes, workdir) if processes.is_first() else None
    processes.meet("results")
    return summary


def set_up(
    config: ml_collections.ConfigDict, mesh: Mesh
) -> tuple[Setting, labeled_data.LabeledData]:
    """Loads the encoder and opens the data.

    Raises:
        ConfigError: A field of the config is not allowed.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
    """
    encoders = backbones.load(
        config.checkpoint,
        (config.modality,),
        config.network,
        sharding.compute_dtype(config.compute_dtype),
        config.frame_size,
        config.seed if config.untrained else None,
    )
    views = finetune_inputs.make_views(config, encoders)
    data = labeled_data.open_labeled(config.data, views, picture=config.modality == "video")
    finetune_rules.check_data(config, data)
    encoder = encoders[config.modality]
    model, weights = finetune_model.from_pretrained(
        encoder,
        len(data.class_names),
        config.dropout,
        config.drop_path,
        config.parallel.remat,
        config.head.normalize,
    )
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
        description=encoder.description,
    )
    return setting, data


def run_partition(setting: Setting, partition: Partition, workdir: pathlib.Path) -> Outcome | None:
    """Finetunes and tests on one partition, from where an earlier run stopped.

    Args:
        setting: What all partitions share.
        partition: Partition of the data.
        workdir: Folder of the partition's run.

    Returns:
        Outcome of the test. None if a signal stopped the run.

    Raises:
        ConfigError: The folder has a different finetuning.
    """
    config, mesh = setting.config, setting.mesh
    plan = finetune_folder.plan(config, setting.identity, partition)
    finetune_folder.claim(workdir, plan)
    outcome_path = workdir / finetune_folder.OUTCOME
    if (outcome := finetune_folder.load_outcome(outcome_path, plan)) is not None:
        return outcome
    kept, held_out = split(config, partition)
    loader = finetune_inputs.make_loader(config, kept, setting.views)
    total_steps = schedules.total_steps(config.steps, config.epochs, loader.steps_per_epoch)
    every = round(config.evaluation.every_epochs * loader.steps_per_epoch)
    every = max(every, 1) if config.evaluation.every_epochs else 0
    evaluations = math.ceil(total_steps / every) if every else 1
    numbers = finetune_step.hyperparameters(config, total_steps, loader.steps_per_epoch)
    task = loop.Task(
        init=functools.partial(
            finetune_step.init_state,
            setting.model,
            numbers,
            config.seed,
            evaluations,
            config.selection.epoch == "best",
        ),
        init_args=(setting.encoder,),
        step_fn=finetune_step.make_train_step(setting.model, config, setting.multi_label, mesh),
        step_args=(numbers,),
        batches=finetune_inputs.training_batches(loader, kept, config.modality),
        total_steps=total_steps,
        steps_per_epoch=loader.steps_per_epoch,
        data_log=data_log.DataLog(loader.source, workdir),
    )
    evaluator = Evaluator(setting, every, held_out, partition.test)
    console.say(describe(setting, partition, kept, held_out, total_steps))
    try:
        hooks = loop.Hooks(evaluate=evaluator, evaluate_every=every)
        state = loop.train(task, config, workdir, mesh, hooks)
    except loop.FinishedError:  # trained, but not tested yet
        state = loop.last_state(task, config, workdir, mesh)
    if int(state.step) < total_steps:
        return None
    steps = [
        min((n + 1) * every, total_steps) if every else total_steps for n in range(evaluations)
    ]
    epochs = [round(step / loader.steps_per_epoch, 2) for step in steps]
    counts = {"train": len(kept), "held_out": len(held_out or ()), "test": len(partition.test)}
    outcome = evaluator.outcome(state, epochs, counts)
    if processes.is_first():
        finetune_folder.save_outcome(outcome_path, outcome, plan)
    return outcome


class Evaluator:
    """Scores held-out and test recordings, during the training loop and at its end.

    Args:
        setting: What all partitions share.
        every: Steps between evaluations. 0 for a single one at the end.
        held_out: Recordings to choose the epoch on, if any.
        test: Recordings to test on.
    """

    def __init__(
        self, setting: Setting, every: int, held_out: Recordings | None, test: Recordings
    ) -> None:
        self._setting = setting
        self._every = every
        self._parts = {HELD_OUT: held_out}
        self._test = test
        if setting.config.evaluation.watch_test:
            self._parts[TEST] = test
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
        index = math.ceil(step / self._every) - 1 if self._every else 0
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

    def outcome(
        self, state: FinetuneState, epochs: list[float], counts: Mapping[str, int]
    ) -> Outcome:
        """Tests the chosen parameters of a finished run.

        Args:
            state: Last state of the run.
            epochs: Epoch of each evaluation.
            counts: Numbers of recordings as in `Outcome.counts`.
        """
        history = np.asarray(state.history).astype(float)
        chosen = len(history) - 1 if state.best is None else int(history[:, HELD_OUT].argmax())
        if self._tested and self._tested[0] == chosen:
            _, predictions = self._tested
        else:
            params = state.params if state.best is None else state.best
            predictions = self._predict(params, self._test, "test")
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
            counts=dict(counts),
        )

    def _predict(
        self, params: finetune_model.Params, recordings: Recordings, title: str
    ) -> finetune_inputs.Predictions:
        return self._setting.predictor(params, recordings, title)


def split(
    config: ml_collections.ConfigDict, partition: Partition
) -> tuple[Recordings, Recordings | None]:
    """Divides a partition's training recordings into those to train on and those to choose on.

    Returns:
        Recordings to train on, and recordings to choose the epoch on, if any.

    Raises:
        ConfigError: An epoch is to be chosen, but no recording is held out.
    """
    if partition.validation is not None:
        return partition.train, partition.validation
    kept, held_out = labeled_data.held_out(partition.train, config.data.held_out, config.data.seed)
    if not len(held_out) and config.selection.epoch == "best":
        checks.refuse(
            config,
            "data.held_out",
            "a larger share: this one holds out none of "
            f"{counted(len(kept), 'recording')} to choose on",
        )
    return kept, held_out if len(held_out) else None


def describe(
    setting: Setting,
    partition: Partition,
    kept: Recordings,
    held_out: Recordings | None,
    total_steps: int,
) -> str:
    """Describes a run in two lines: the devices, and the steps, model and recordings."""
    config = setting.config
    size = sum(x.size for x in jax.tree.leaves(setting.encoder)) / 1e6
    silent = f" ({kept.without_sound} without sound)" if config.modality == "audio" else ""
    return (
        f"{processes.describe()}; computing in {setting.model.encoder.dtype.name}\n"
        f"partition {partition.name}: {counted(total_steps, 'step')} of "
        f"{counted(config.batch_size, 'clip')}; encoder of "
        f"{size:.1f}M parameters; {counted(len(kept), 'recording')} to train on{silent}, "
        f"{len(held_out or ())} to choose the epoch on, {len(partition.test)} to test on"
    )


def report(
    setting: Setting,
    data: labeled_data.LabeledData,
    outcomes: Mapping[str, Outcome],
    workdir: str,
) -> dict[str, Any]:
    """Writes and prints the results of all partitions."""
    config = setting.config
    description = setting.description
    return results.report(
        workdir,
        outcomes,
        config,
        data,
        title=f"{backbones.network_name(config)} of {config.modality}, finetuned",
        checkpoint={
            "path": config.checkpoint,
            "network": config.network,
            "untrained": config.untrained,
            "provenance": description["provenance"],
            "architecture": {config.modality: description["architecture"][config.modality]},
            "preprocessing": {config.modality: description["preprocessing"][config.modality]},
            "weights_sha256": setting.identity,
        },
        recordings={
            "dataset": config.data.dataset,
            "path": config.data.path,
            "fingerprint": data.fingerprint,
        },
        pretraining=description["config"],
    )
