"""Pretraining: puts the data, the model and the step together and hands them to the loop."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xkd_jax import config_check, schedules, sharding, train, train_step
from xkd_jax.models import xkd
from xkd_jax.report import reconstructions

# Examples drawn in the pictures of reconstructions.
PICTURED = 4


def pretrain(config: ml_collections.ConfigDict, workdir: str) -> train_step.TrainState:
    """Pretrains XKD as the config says, going on from the workdir's newest checkpoint.

    Args:
      config: see configs/base.py.
      workdir: folder of the run, made where it does not exist.

    Returns:
      The last state.

    Raises:
      ConfigError: for an impossible config.
      ValueError, FileNotFoundError: for unusable data, a workdir that holds another model's
        checkpoint, and a run that has reached its end.
      NonFiniteError: where the loss or a gradient is not a finite number.
    """
    config_check.check(config)
    mesh = sharding.make_mesh(config.parallel.fsdp)
    sharding.check_batch_size(config.batch_size, mesh)
    loader = make_loader(config)
    total_steps = schedules.total_steps(config.steps, config.epochs, loader.steps_per_epoch)

    model = xkd.build(config, compute_dtype(config))
    tx, learning_rate = train_step.make_optimizer(config, total_steps, loader.steps_per_epoch)
    step = train_step.make_train_step(
        model, config, tx, learning_rate, total_steps, loader.steps_per_epoch
    )
    if jax.process_index() == 0:
        print(describe(model, config, total_steps), flush=True)
    return train.train(
        init=lambda: train_step.init_state(model, tx, config.seed),
        step_fn=step,
        batches=loader.batches,
        total_steps=total_steps,
        config=config,
        saving=config.checkpoint,
        workdir=workdir,
        mesh=mesh,
        figures=make_figures(model, config, mesh),
        steps_per_epoch=loader.steps_per_epoch,
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


def compute_dtype(config: ml_collections.ConfigDict) -> jnp.dtype:
    """The dtype of matrix products: bfloat16 where the hardware is made for it."""
    if config.compute_dtype == "auto":
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
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
