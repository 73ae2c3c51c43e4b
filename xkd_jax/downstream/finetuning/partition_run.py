"""Training and test on one partition of the data: a run of its own, which resumes where it stopped.

Finetuning and the attentive probe differ in what they train. They share the rest: plan and outcome
in the partition's folder, the division of the training recordings, batches, the training loop.
"""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import ml_collections
from jax.sharding import Mesh

from input_pipeline.programs.wording import counted
from xkd_jax.config import checks, finetuning
from xkd_jax.downstream import backbones, labeled_data, results
from xkd_jax.downstream.finetuning import finetune_folder, finetune_inputs
from xkd_jax.downstream.labeled_data import LabeledData, Partition, Recordings
from xkd_jax.downstream.selection import Outcome
from xkd_jax.method import schedules
from xkd_jax.run import console, data_log, loop, processes


class Setting(NamedTuple):
    """Everything that all partitions share.

    Attributes:
        config: Config as in xkd_jax/config/finetuning.py or xkd_jax/config/attentive.py.
        mesh: Device mesh over all devices.
        model: Model to train.
        encoder: Pretrained parameters of the encoder, or of the encoders by modality, on the host.
        views: Section `views` from `finetune_inputs.make_views`.
        multi_label: Whether recordings may have any number of classes.
        predictor: Scores recordings with the model.
        identity: Digest of the pretrained weights.
        description: Description of them from `xkd_jax.encoders.descriptions.describe`.
        chooses: Whether something is chosen on held-out recordings.
    """

    config: ml_collections.ConfigDict
    mesh: Mesh
    model: Any
    encoder: Any
    views: ml_collections.ConfigDict
    multi_label: bool
    predictor: finetune_inputs.Predictor
    identity: str
    description: Mapping[str, Any]
    chooses: bool


class Division(NamedTuple):
    """A partition's recordings by their use.

    Attributes:
        kept: Recordings to train on.
        held_out: Recordings to choose on, if any.
        test: Recordings to test on.
    """

    kept: Recordings
    held_out: Recordings | None
    test: Recordings

    def counts(self) -> dict[str, int]:
        """Counts the recordings as `Outcome.counts`."""
        held_out = len(self.held_out or ())
        return {"train": len(self.kept), "held_out": held_out, "test": len(self.test)}


class Length(NamedTuple):
    """How long a run is.

    Attributes:
        total_steps: Number of steps.
        steps_per_epoch: Steps per epoch.
        every: Steps between two evaluations. 0 for a single one at the end.
    """

    total_steps: int
    steps_per_epoch: float
    every: int

    @property
    def evaluated(self) -> list[int]:
        """The steps after which the state is evaluated."""
        if not self.every:
            return [self.total_steps]
        count = math.ceil(self.total_steps / self.every)
        return [min((n + 1) * self.every, self.total_steps) for n in range(count)]


class Evaluator(Protocol):
    """Scores the state of a run."""

    def __call__(self, state: Any, step: int) -> tuple[Any, dict[str, float]]:
        """Scores a state after a step. This is the hook `evaluate` of `loop.Hooks`."""

    def outcome(self, state: Any) -> Outcome:
        """Returns the outcome of a finished run."""


class Training(NamedTuple):
    """What is trained. The first four are as in `loop.Task`.

    Attributes:
        init: Builds the initial state.
        init_args: Arguments of `init`.
        step_fn: The training step.
        step_args: More arguments of it.
        evaluator: Scores states.
    """

    init: Callable[..., Any]
    init_args: tuple[Any, ...]
    step_fn: Callable[..., Any]
    step_args: tuple[Any, ...]
    evaluator: Evaluator


Prepare = Callable[[Setting, Division, Length], Training]


def run_all(
    setting: Setting, data: LabeledData, workdir: str, prepare: Prepare
) -> dict[str, Outcome] | None:
    """Runs every partition in a folder of its own, one after the other.

    Args:
        setting: What all partitions share.
        data: The labeled data.
        workdir: Folder of the partitions' folders.
        prepare: Makes what is trained.

    Returns:
        Outcomes by name of the partition. None if a signal stopped a run.
    """
    outcomes = {}
    for partition in data.partitions:
        outcome = run(setting, partition, pathlib.Path(workdir) / partition.name, prepare)
        if outcome is None:
            return None
        outcomes[partition.name] = outcome
    return outcomes


def run(
    setting: Setting, partition: Partition, workdir: pathlib.Path, prepare: Prepare
) -> Outcome | None:
    """Trains and tests on one partition, from where an earlier run stopped.

    Args:
        setting: What all partitions share.
        partition: Partition of the data.
        workdir: Folder of the partition's run.
        prepare: Makes what is trained.

    Returns:
        Outcome of the test. None if a signal stopped the run.

    Raises:
        ConfigError: The folder has a different run.
    """
    config, mesh = setting.config, setting.mesh
    plan = finetune_folder.plan(config, setting.identity, partition)
    finetune_folder.claim(workdir, plan)
    outcome_path = workdir / finetune_folder.OUTCOME
    if (outcome := finetune_folder.load_outcome(outcome_path, plan)) is not None:
        return outcome
    division = divide(config, partition, setting.chooses)
    loader = finetune_inputs.make_loader(config, division.kept, setting.views)
    total_steps = schedules.total_steps(config.steps, config.epochs, loader.steps_per_epoch)
    every_epochs = config.evaluation.get("every_epochs", 0)
    every = max(round(every_epochs * loader.steps_per_epoch), 1) if every_epochs else 0
    training = prepare(setting, division, Length(total_steps, loader.steps_per_epoch, every))
    task = loop.Task(
        init=training.init,
        init_args=training.init_args,
        step_fn=training.step_fn,
        step_args=training.step_args,
        batches=finetune_inputs.training_batches(
            loader, division.kept, finetuning.modalities(config)
        ),
        total_steps=total_steps,
        steps_per_epoch=loader.steps_per_epoch,
        data_log=data_log.DataLog(loader.source, workdir),
    )
    console.say(describe(setting, partition, division, total_steps))
    try:
        hooks = loop.Hooks(evaluate=training.evaluator, evaluate_every=every)
        state = loop.train(task, config, workdir, mesh, hooks)
    except loop.FinishedError:  # trained, but not tested yet
        state = loop.last_state(task, config, workdir, mesh)
    if int(state.step) < total_steps:
        return None
    outcome = training.evaluator.outcome(state)
    if processes.is_first():
        finetune_folder.save_outcome(outcome_path, outcome, plan)
    return outcome


def divide(config: ml_collections.ConfigDict, partition: Partition, chooses: bool) -> Division:
    """Divides a partition's training recordings into those to train on and those to choose on.

    Args:
        config: Config of the run.
        partition: Partition of the data.
        chooses: As in `Setting`.

    Raises:
        ConfigError: There is a choice to make, but no recording is held out.
    """
    if partition.validation is not None:
        return Division(partition.train, partition.validation, partition.test)
    kept, held_out = labeled_data.held_out(partition.train, config.data.held_out, config.data.seed)
    if not len(held_out) and chooses:
        checks.refuse(
            config,
            "data.held_out",
            "a larger share: this one holds out none of "
            f"{counted(len(kept), 'recording')} to choose on",
        )
    return Division(kept, held_out if len(held_out) else None, partition.test)


def describe(setting: Setting, partition: Partition, division: Division, total_steps: int) -> str:
    """Describes a run in two lines: the devices, and the steps, model and recordings."""
    config, counts = setting.config, division.counts()
    size = sum(x.size for x in jax.tree.leaves(setting.encoder)) / 1e6
    hears = "audio" in finetuning.modalities(config)
    silent = f" ({division.kept.without_sound} without sound)" if hears else ""
    return (
        f"{processes.describe()}; computing in {setting.model.dtype.name}\n"
        f"partition {partition.name}: {counted(total_steps, 'step')} of "
        f"{counted(config.batch_size, 'clip')}; encoder of "
        f"{size:.1f}M parameters; {counted(counts['train'], 'recording')} to train on{silent}, "
        f"{counts['held_out']} to choose on, {counts['test']} to test on"
    )


def report(
    setting: Setting,
    data: LabeledData,
    outcomes: Mapping[str, Outcome],
    workdir: str,
    how: str,
) -> dict[str, Any]:
    """Writes and prints the results of all partitions.

    Args:
        setting: What all partitions share.
        data: The labeled data.
        outcomes: Outcomes by name of the partition.
        workdir: Folder to write to.
        how: What was done with the network, such as "finetuned".
    """
    config, description = setting.config, setting.description
    modalities = finetuning.modalities(config)
    return results.report(
        workdir,
        outcomes,
        config,
        data,
        title=f"{backbones.network_name(config)} of {' and '.join(modalities)}, {how}",
        checkpoint={
            "path": config.checkpoint,
            "network": config.network,
            "untrained": config.untrained,
            "provenance": description["provenance"],
            "architecture": {m: description["architecture"][m] for m in modalities},
            "preprocessing": {m: description["preprocessing"][m] for m in modalities},
            "weights_sha256": setting.identity,
        },
        recordings={
            "dataset": config.data.dataset,
            "path": config.data.path,
            "fingerprint": data.fingerprint,
        },
        pretraining=description["config"],
    )
