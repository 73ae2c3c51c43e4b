"""Pretraining: puts the data, the model and the step together and hands them to the loop."""

import functools
import operator
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xkd_jax import (
    checkpoint,
    collapse,
    config_check,
    data_log,
    schedules,
    sharding,
    train,
    train_step,
)
from xkd_jax.interop import pretrained
from xkd_jax.models import xkd
from xkd_jax.report import reconstructions

# Examples drawn in the pictures of reconstructions.
PICTURED = 4


def pretrain(config: ml_collections.ConfigDict, workdir: str) -> train_step.TrainState:
    """Pretrains XKD as the config says, going on from the workdir's newest checkpoint.

    Args:
        config: See configs/base.py.
        workdir: Folder of the run, made where it does not exist.

    Returns:
        The last state.

    Raises:
        ConfigError: For an impossible config.
        ValueError, FileNotFoundError: For unusable data, a workdir that holds another model's
            checkpoint, and a run that has reached its end.
        NonFiniteError: Where the loss or a gradient is not a finite number.
    """
    config_check.check(config)
    mesh = sharding.make_mesh(config.parallel.fsdp)
    sharding.check_batch_size(config.batch_size, mesh, accumulate=config.parallel.accumulate)
    loader = make_loader(config)
    total_steps = schedules.total_steps(config.steps, config.epochs, loader.steps_per_epoch)

    model = xkd.build(config, compute_dtype(config))
    numbers = train_step.hyperparameters(config, total_steps, loader.steps_per_epoch)
    if jax.process_index() == 0:
        print(describe(model, config, total_steps), flush=True)
    given = given_weights(config, model, workdir)
    return train.train(
        init=lambda trees: train_step.init_state(model, numbers, config.seed).replace(**trees),
        init_args=(given,),
        step_fn=train_step.make_train_step(model, config),
        step_args=(numbers,),
        batches=loader.batches,
        total_steps=total_steps,
        config=config,
        saving=config.checkpoint,
        workdir=workdir,
        mesh=mesh,
        figures=make_figures(model, config, mesh),
        evaluate=make_probe(config, model, mesh),
        evaluate_every=config.probe.every_steps,
        steps_per_epoch=loader.steps_per_epoch,
        data_log=data_log.DataLog(loader.source, pathlib.Path(workdir)),
        look=collapse.Watch().look,
    )


def make_loader(config: ml_collections.ConfigDict):
    """This process's loader of the data that the config names."""
    # Here and not above, since this is what brings TensorFlow in.
    from input_pipeline import datasets, loader

    return loader.Loader(
        datasets.open_dataset(config.data, config.views),
        config.views,
        batch_size=config.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
    )


def batch_shapes(config: ml_collections.ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """What the loader gives, (B, ...), over all processes."""
    rows, video, audio = config.batch_size, config.views.video, config.views.audio
    full = (video.global_frames, video.global_size, video.global_size, 3)
    local = (video.local_count, video.local_frames, video.local_size, video.local_size, 3)
    shapes = {
        "video_global": (full, np.uint8),
        "video_local": (local, np.uint8),
        "audio_global": ((audio.mel_bands, audio.global_frames), np.float32),
        "audio_local": ((audio.local_count, audio.mel_bands, audio.local_frames), np.float32),
        "has_audio": ((), np.bool_),
        "example_id": ((), np.int64),
        "epoch": ((), np.int32),
    }
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), dtype) for name, (shape, dtype) in shapes.items()
    }


def given_weights(
    config: ml_collections.ConfigDict, model: xkd.XKD, workdir: str
) -> dict[str, Any]:
    """What a new run starts with in place of fresh weights: all that `config.init_from` holds.

    Returns:
        Fields of the state: params, teacher and centers. None without `config.init_from`, and where
        the workdir has a checkpoint to go on from.

    Raises:
        ConfigError: `config.model` is not that of the weights.
        MismatchError: A weight is missing, or of another shape.
        FileNotFoundError, DamagedError: There are none, or none that can be read.
    """
    path = config.init_from
    if not path or checkpoint.latest_step(workdir) is not None:
        return {}
    description, trees = pretrained.load(path, pretrained.everything)
    if description["config"]:  # which encoders alone come without
        _check_same_model(config, description["config"]["model"])
    params = jax.eval_shape(model.init, jax.random.key(0))
    expected = {
        "params": params,
        "teacher": jax.eval_shape(model.teacher_target, params),
        "centers": train_step.initial_centers(model),
    }
    advice = (
        "config.init_from takes a run, an export made with --everything, or a converted "
        "training checkpoint, of the same architecture and sizes of views."
    )
    checkpoint.check_fits(trees, expected, path, advice)
    if jax.process_index() == 0:
        count = sum(leaf.size for leaf in jax.tree.leaves(trees)) / 1e6
        origin = ", ".join(f"{name} {value}" for name, value in description["provenance"].items())
        print(
            f"STARTED FROM {path} ({origin}): {count:.1f}M weights of students, teachers, decoders,"
            " projectors and centers; step 0 and a fresh optimizer",
            flush=True,
        )
    return trees


def _check_same_model(config: ml_collections.ConfigDict, theirs: dict[str, Any]) -> None:
    """Refuses weights of another model; heads and norms do not show in the shapes."""
    theirs = ml_collections.ConfigDict(theirs)
    for field in config_check.fields_of(config.model):
        value = functools.reduce(operator.getitem, field.split("."), theirs)
        ours = functools.reduce(operator.getitem, field.split("."), config.model)
        if isinstance(ours, tuple):
            value = tuple(value)  # a list, as it comes back from a file
        if ours != value and not field.endswith(".mask_ratio"):
            config_check.refuse(config, f"model.{field}", f"{value!r}, as in config.init_from")


def make_probe(config: ml_collections.ConfigDict, model: xkd.XKD, mesh: Mesh):
    """What the loop calls every `config.probe.every_steps`, or None."""
    if not config.probe.every_steps:
        return None
    # Here and not above: it brings scikit-learn in, which training alone does not need.
    from xkd_jax.downstream import online

    return online.make(config, model, mesh)


def compute_dtype(config: ml_collections.ConfigDict) -> jnp.dtype:
    """The dtype of matrix products: bfloat16 where the hardware is made for it."""
    if config.compute_dtype == "auto":
        return jnp.dtype(jnp.float32 if sharding.platform() == "cpu" else jnp.bfloat16)
    return jnp.dtype(config.compute_dtype)


def describe(model: xkd.XKD, config: ml_collections.ConfigDict, total_steps: int) -> str:
    """Several lines: devices, parameter counts by part, and what will be trained."""
    counts = xkd.count_parameters(jax.eval_shape(model.init, jax.random.key(0)))
    lines = [
        f"{jax.device_count()} {jax.devices()[0].device_kind} device(s), "
        f"{jax.process_count()} process(es); computing in {compute_dtype(config).name}",
        f"{model.variant}, {sum(counts.values()) / 1e6:.1f}M trained parameters:",
        *(f"  {part:<18} {count / 1e6:8.2f}M" for part, count in counts.items()),
        f"{total_steps} steps of {config.batch_size} clips",
    ]
    return "\n".join(lines)


def make_figures(model: xkd.XKD, config: ml_collections.ConfigDict, mesh: Mesh):
    """The loop's pictures: `(state, batch) -> {name: (H, W, 3) uint8}`."""

    # Every process gets the pictures whole, wherever the pictured examples are.
    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def reconstruct(state, batch):
        batch = jax.tree.map(lambda x: x[:PICTURED], batch)
        views = train_step.make_views(model, config.views, batch, state.seed)
        views = {m: v._replace(local=v.local[:, :0]) for m, v in views.items()}
        students = model.study(state.params, views)
        return {m: (views[m].full, s.predictions, s.mask.dropped) for m, s in students.items()}

    def figures(state, batch):
        outputs = jax.tree.map(np.asarray, reconstruct(state, batch))
        return {
            "reconstruction/video": reconstructions.video_picture(
                *outputs["video"], model.video.patch, config.views.video.frame_rate
            ),
            "reconstruction/audio": reconstructions.audio_picture(
                *outputs["audio"], model.audio.patch, config.views.audio
            ),
        }

    return figures
