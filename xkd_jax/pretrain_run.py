"""Pretraining: builds the data loader, the model and the step, and runs the training loop."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from input_pipeline import data_folders
from input_pipeline.programs import wording
from xkd_jax import initial_weights, sharding
from xkd_jax.config import checks
from xkd_jax.method import schedules, train_step
from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models import xkd
from xkd_jax.method.state import TrainState, init_state
from xkd_jax.method.views import make_views
from xkd_jax.report import playback, watch
from xkd_jax.run import console, data_log, loop, processes
from xkd_jax.run.figures import Figures

if TYPE_CHECKING:
    from input_pipeline.loader import Loader
    from input_pipeline.prepared.sets import PreparedSets
    from input_pipeline.sources import ClipSource

# Number of examples in the pictures of reconstructions.
PICTURED = 4


class Pretrained(NamedTuple):
    """What a pretraining has come to.

    Attributes:
        state: The last state.
        has_ended: Whether it is the state at the last step; False if a signal stopped the run.
    """

    state: TrainState
    has_ended: bool


def pretrain(config: ml_collections.ConfigDict, workdir: str) -> Pretrained:
    """Pretrains XKD, from the newest checkpoint in the workdir or from the beginning.

    Args:
        config: Config of the run, see xkd_jax/config/pretraining.py.
        workdir: Folder of the run; it is created if it does not exist.

    Returns:
        The last state, and whether the run has ended.

    Raises:
        ConfigError: The config is impossible.
        ValueError, FileNotFoundError: The data are unusable, the workdir holds the checkpoint of
            another model, or the run has already reached its end.
        NonFiniteError: The loss or a gradient is not a finite number.
    """
    checks.check(config)
    mesh = sharding.make_mesh(config.parallel.fsdp)
    sharding.check_batch_size(config.batch_size, mesh, accumulate=config.parallel.accumulate)
    loader = make_loader(config)
    total_steps = schedules.total_steps(config.steps, config.epochs, loader.steps_per_epoch)

    model = xkd.build(config, sharding.compute_dtype(config.compute_dtype))
    numbers = hyperparameters(config, total_steps, loader.steps_per_epoch)
    shares = data_folders.shares(config.data, loader.order.sizes)
    console.say(describe(model, config, numbers.weights, total_steps, shares))
    weights = initial_weights.load(config, model, workdir)
    task = loop.Task(
        init=lambda trees: initial_weights.place(init_state(model, numbers, config.seed), trees),
        init_args=(weights,),
        step_fn=train_step.make_train_step(model, config),
        step_args=(numbers,),
        batches=loader.batches,
        total_steps=total_steps,
        steps_per_epoch=loader.steps_per_epoch,
        data_log=data_log.DataLog(
            loader.source,
            pathlib.Path(workdir),
            loader.processor_seconds,
            loader.example_count,
            {share.folder: float(share.of_examples) for share in shares},
        ),
    )
    hooks = loop.Hooks(
        figures=make_figures(model, config, mesh),
        figures_every=config.log.images_every_steps,
        evaluate=make_probe(config, model, mesh),
        evaluate_every=config.probe.every_steps,
        look=watch.Watch(workdir, config).look,
        rehearses=True,
    )
    state = loop.train(task, config, workdir, mesh, hooks)
    return Pretrained(state, has_ended=int(state.step) == total_steps)


def make_loader(config: ml_collections.ConfigDict) -> "Loader":
    """Builds this process's loader of the data that the config names."""
    # Imported here because it imports TensorFlow.
    from input_pipeline import datasets, example_order, loader

    source = datasets.open_dataset(config.data, config.views, picture=False)
    examples = [*choose_examples(config, source).values()]
    weights = data_folders.weights(config.data, [*map(len, examples)])
    return loader.Loader(
        source,
        config.views,
        batch_size=config.batch_size,
        seed=config.seed,
        **processes.place(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        order=example_order.MixedOrder(examples, weights),
    )


def choose_examples(
    config: ml_collections.ConfigDict, source: "ClipSource | PreparedSets"
) -> dict[str, np.ndarray]:
    """Chooses the recordings to train on by `config.data.require`. Says how many are left out.

    Args:
        config: Config of the run.
        source: Source of the clips, or the prepared sets behind it.

    Returns:
        Indices of the recordings of each set, (n,) int64, by the name of its folder.

    Raises:
        ConfigError: Picture and sound are required, and no recording of a set has both.
    """
    everything, sets = np.arange(len(source)), data_folders.members(config.data, source)
    usable = source.has_video & source.has_audio | (config.data.require == "any")
    chosen = {}
    for folder, ids in sets.items():
        members = everything[ids.start : ids.stop]
        chosen[folder] = members[usable[members]]
        if not len(chosen[folder]):
            place = f" in {folder}" if len(sets) > 1 else ""
            allowed = f"'any': of {len(ids)} recordings{place}, {_lacking(source, members)}"
            checks.refuse(config, "data.require", allowed)
    if not usable.all():
        console.say(
            f"{np.sum(~usable)} of {len(source)} recordings are left out: "
            f"{_lacking(source, everything)} (config.data.require='any' trains on them too)"
        )
    return chosen


def _lacking(source: "ClipSource | PreparedSets", ids: np.ndarray) -> str:
    """Says how many of some recordings have no sound, and how many no picture."""
    lacking = {"without sound": ~source.has_audio[ids], "without a picture": ~source.has_video[ids]}
    return wording.in_words({name: rows.sum() for name, rows in lacking.items() if rows.any()})


def batch_shapes(config: ml_collections.ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of a batch, (B, ...), over all processes."""
    rows, video, audio = config.batch_size, config.views.video, config.views.audio
    full = (video.global_frames, video.global_size, video.global_size, 3)
    local = (video.local_count, video.local_frames, video.local_size, video.local_size, 3)
    shapes = {
        "video_global": (full, np.uint8),
        "video_local": (local, np.uint8),
        "audio_global": ((audio.mel_bands, audio.global_frames), np.float32),
        "audio_local": ((audio.local_count, audio.mel_bands, audio.local_frames), np.float32),
        "has_video": ((), np.bool_),
        "has_audio": ((), np.bool_),
        "example_id": ((), np.int64),
        "epoch": ((), np.int32),
    }
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), dtype) for name, (shape, dtype) in shapes.items()
    }


def make_probe(
    config: ml_collections.ConfigDict, model: xkd.XKD, mesh: Mesh
) -> Callable[[Any, int], tuple[Any, dict[str, float]]] | None:
    """Builds the evaluation that runs every `config.probe.every_steps`; None if that is 0."""
    if not config.probe.every_steps:
        return None
    # Imported here because it imports scikit-learn, which training alone does not need.
    from xkd_jax.downstream import online

    return online.make(config, model, mesh)


def describe(
    model: xkd.XKD,
    config: ml_collections.ConfigDict,
    weights: Mapping[str, float],
    total_steps: int,
    shares: Sequence[data_folders.Share],
) -> str:
    """Describes a run in several lines: devices, parameters, the total loss, steps, a mixture."""
    dtype = sharding.compute_dtype(config.compute_dtype)
    counts = xkd.count_parameters(jax.eval_shape(model.init, jax.random.key(0)))
    lines = [
        f"{processes.describe()}; computing in {dtype.name}",
        f"{model.variant}, {sum(counts.values()) / 1e6:.1f}M trained parameters:",
        *(f"  {part:<18} {count / 1e6:8.2f}M" for part, count in counts.items()),
        f"total loss = {_total(weights)}",
        f"{total_steps} steps of {config.batch_size} clips",
    ]
    if len(shares) > 1:
        examples = total_steps * config.batch_size
        lines += [f"  {share.folder}: {share.in_words(examples)}" for share in shares]
    return "\n".join(lines)


def _total(weights: Mapping[str, float]) -> str:
    """Writes the total loss as a sum; alignment and distillation have two terms of one weight."""
    terms = {
        "reconstruction/video": weights["video"],
        "reconstruction/audio": weights["audio"],
        "alignment/*": weights["alignment"],
        "distillation/*": weights["distillation"],
    }
    return " + ".join(f"{weight:.3g} {term}" for term, weight in terms.items() if weight)


def make_figures(
    model: xkd.XKD, config: ml_collections.ConfigDict, mesh: Mesh
) -> Callable[[TrainState, Any], Figures]:
    """Builds a function `(state, batch) -> Figures` that shows reconstructions.

    A modality that none of the first examples has is not shown. The processes that write no log
    get no figures.
    """

    # Every process gets all outputs, wherever their examples are.
    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def reconstruct(
        state: TrainState, batch: dict[str, jax.Array]
    ) -> tuple[dict[str, tuple[jax.Array, ...]], dict[str, jax.Array]]:
        batch = jax.tree.map(lambda x: x[:PICTURED], batch)
        views = make_views(model, config.views, batch, state.seed)
        views = {m: v._replace(local=v.local[:, :0]) for m, v in views.items()}
        students = model.study(state.params, views)
        drawn = {m: (views[m].full, s.predictions, s.mask.dropped) for m, s in students.items()}
        return drawn, {m: v.present for m, v in views.items()}

    def figures(state: TrainState, batch: Any) -> Figures:
        outputs, present = reconstruct(state, batch)
        if not processes.is_first():
            return Figures({})
        outputs, present = jax.tree.map(np.asarray, (outputs, present))
        return playback.figures(
            {m: output for m, output in outputs.items() if present[m].any()},
            {"video": model.video.patch, "audio": model.audio.patch},
            config.views,
            plays=bool(config.log.writers),
        )

    return figures
