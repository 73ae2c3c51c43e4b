"""Measures the speed of the training step, and how much of the machine it uses.

    python -m xkd_jax.benchmark --config=configs/k400.py --config.batch_size=4

prints one line of JSON. The step runs on a batch of noise that is already on the device;
input_pipeline.benchmark measures the data loader.

- `milliseconds_per_step`: median, and the 10th and 90th percentile; `clips_per_second`: from the
  median, over all devices.
- `gflops_per_clip`: operations of the matrix products, by part (xkd_jax/measure/flops.py). The
  compiler's own count is useless here: it counts a scan over layers as one layer.
- `share_of_matmul_rate`: operations per second, relative to those of one large matrix product of
  the same dtype. The latter are `matmul_tflops` per device, measured before and after the steps.
- `peak_memory_gb`: of a device; on a CPU, of the process. `temporaries_gb`: memory that the
  compiled step needs besides its arguments, `arguments_gb`.
- `compile_seconds`; `first_step_seconds`: from the start of the program to the end of the first
  step.

Flags:
  --config=FILE, --config.FIELD=VALUE   as for xkd_jax.main; data are not read
  --steps=N       number of steps to measure (10)
  --breakdown     also measures each part by itself, in milliseconds
  --profile=DIR   writes a trace of three steps, for tensorboard --logdir DIR or Perfetto
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import functools
import json
import pathlib
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import flags

from input_pipeline.programs import config_flag, program
from xkd_jax import pretrain_run, sharding
from xkd_jax.config import checks
from xkd_jax.measure import flops
from xkd_jax.method import averages, objective, optimizer, train_step
from xkd_jax.method.hyperparameters import Hyperparameters, hyperparameters
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.method.state import TrainState, init_state
from xkd_jax.method.views import make_views
from xkd_jax.run import command_line, loop

# Side of the large matrix product by platform; one takes half a second or less.
_MATMUL_SIDE = {"cpu": 4096, "gpu": 8192, "tpu": 8192}
_STEPS_PER_EPOCH = 1000.0  # any value; schedules cost the same


def benchmark(
    config: ml_collections.ConfigDict,
    steps: int,
    breakdown: bool = False,
    profile: str | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """Compiles and runs the step of a config.

    Args:
        config: Config of pretraining, see xkd_jax/config/pretraining.py; `config.data` is ignored.
        steps: Number of steps to measure.
        breakdown: Whether to measure each part by itself as well.
        profile: Folder for a trace, or None.
        started: Start of the program by `time.time`; now by default.

    Returns:
        The measurements that the module describes, ready for JSON.

    Raises:
        ValueError: The config is impossible.
    """
    started = started or time.time()
    checks.check_step(config)
    mesh = sharding.make_mesh(config.parallel.fsdp)
    sharding.check_batch_size(config.batch_size, mesh, accumulate=config.parallel.accumulate)
    dtype = sharding.compute_dtype(config.compute_dtype)
    model = xkd.build(config, dtype)
    total_steps = 1_000_000
    numbers = hyperparameters(config, total_steps, _STEPS_PER_EPOCH)
    step_fn = train_step.make_train_step(model, config)
    init = functools.partial(init_state, model, numbers, config.seed)
    shapes = jax.eval_shape(init)
    shardings = sharding.state_shardings(shapes, mesh)
    init = jax.jit(init, out_shardings=shardings).lower().compile()
    batch = sharding.put_batch(noise(config), mesh)
    numbers = sharding.replicate(numbers, mesh)

    before = time.perf_counter()
    # Compiles before the state exists, so that the peak does not include both.
    placed = sharding.with_shardings(shapes, shardings)
    step = loop.compile_step(step_fn, placed, batch, mesh, (numbers,))
    compile_seconds = time.perf_counter() - before
    memory = step.memory_analysis()
    state = init()
    state, metrics = step(state, batch, numbers)
    jax.block_until_ready(metrics)
    first_step_seconds = time.time() - started

    rates = [matmul_rate(dtype)]
    seconds = []
    for _ in range(steps):
        before = time.perf_counter()
        state, metrics = step(state, batch, numbers)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - before)
    rates.append(matmul_rate(dtype))
    if profile:
        with jax.profiler.trace(profile):
            for _ in range(3):
                state, metrics = step(state, batch, numbers)
            jax.block_until_ready(metrics)

    median = statistics.median(seconds)
    counts = flops.per_clip(model, config.views)
    rate = sum(counts.values()) * config.batch_size / median
    result = {
        "device": f"{jax.device_count()} x {_device_name()}",
        "dtype": dtype.name,
        "batch_size": config.batch_size,
        "clips_per_second": _rounded(config.batch_size / median),
        "milliseconds_per_step": {
            "median": _rounded(1e3 * median),
            "p10": _rounded(1e3 * float(np.quantile(seconds, 0.1))),
            "p90": _rounded(1e3 * float(np.quantile(seconds, 0.9))),
        },
        "gflops_per_clip": {
            **{part: _rounded(count / 1e9) for part, count in counts.items()},
            "total": _rounded(sum(counts.values()) / 1e9),
        },
        "matmul_tflops": _rounded(statistics.mean(rates) / 1e12),
        "share_of_matmul_rate": _rounded(rate / jax.device_count() / statistics.mean(rates)),
        "peak_memory_gb": _rounded(peak_memory() / 1e9),
        "arguments_gb": _rounded(memory.argument_size_in_bytes / 1e9),
        "temporaries_gb": _rounded(memory.temp_size_in_bytes / 1e9),
        "compile_seconds": _rounded(compile_seconds),
        "first_step_seconds": _rounded(first_step_seconds),
    }
    if breakdown:
        result["milliseconds_by_part"] = measure_parts(model, config, numbers, state, batch)
    return result


def noise(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """Makes this process's share of a batch of noise, with the shapes of the loader's batches."""
    rng = np.random.default_rng(0)
    rows = config.batch_size // jax.process_count()

    def draw(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if dtype == np.uint8:
            return rng.integers(0, 256, shape, np.uint8)
        return rng.standard_normal(shape, np.float32)

    batch = {
        name: draw((rows, *x.shape[1:]), x.dtype)
        for name, x in pretrain_run.batch_shapes(config).items()
        if x.ndim > 1
    }
    return {
        **batch,
        "has_video": np.ones(rows, bool),
        "has_audio": np.ones(rows, bool),
        "example_id": np.arange(rows, dtype=np.int64) + jax.process_index() * rows,
        "epoch": np.zeros(rows, np.int32),
    }


def matmul_rate(dtype: jnp.dtype) -> float:
    """Measures the operations per second of one large matrix product, the best of five.

    The matrix is random: a GPU draws less power for equal numbers, and runs faster.
    """
    side = _MATMUL_SIDE[jax.default_backend()]
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(jnp.dot)
    return 2.0 * side**3 / min(_timed(product, matrix, matrix) for _ in range(5))


def measure_parts(
    model: xkd.XKD,
    config: ml_collections.ConfigDict,
    numbers: Hyperparameters,
    state: TrainState,
    batch: dict[str, jax.Array],
) -> dict[str, float]:
    """Measures the parts of a step, each compiled by itself.

    The sum is not the time of the step, in which the compiler shares work between parts, or runs
    them at once.

    Args:
        model: The model.
        config: Config of pretraining.
        numbers: Hyperparameters of the run.
        state: State of the run, on the devices.
        batch: A batch, on the devices.

    Returns:
        Milliseconds by part, the median of five.
    """
    views = jax.jit(lambda b, seed: make_views(model, config.views, b, seed))(batch, state.seed)
    teacher = jax.jit(model.teach)(state.teacher, views)
    student = jax.jit(model.study)(state.params, views)
    temperatures = {m: jnp.asarray(0.1) for m in MODALITIES}

    def encode(params: xkd.Params, views: dict[str, xkd.Views]) -> jax.Array:
        outputs = model.study(params, views)  # the compiler removes unused outputs
        return sum(
            jnp.sum(s.latent.astype(jnp.float32)) + jnp.sum(s.local_tokens.astype(jnp.float32))
            for s in outputs.values()
        )

    def decode(params: xkd.Params, latents: dict[str, jax.Array]) -> jax.Array:
        return sum(
            jnp.sum(getattr(model, m).decode(params[m], latents[m], student[m].mask))
            for m in MODALITIES
        )

    def heads(params: xkd.Params, features: dict[str, jax.Array]) -> jax.Array:
        outputs = {
            m: student[m]._replace(projections=getattr(model, m).project(params[m], features[m]))
            for m in MODALITIES
        }
        terms, _ = objective.loss_terms(
            outputs, teacher, present, state.centers, temperatures, numbers, config.xkd
        )
        return terms["total"]

    def update(params: xkd.Params, teacher: xkd.Params, opt_state: Any) -> Any:
        tx = optimizer.for_pretraining(numbers.optimizer)
        updates, opt_state = tx.update(params, opt_state, params)  # any gradient will do
        params = optax.apply_updates(params, updates)
        momenta = {m: jnp.asarray(0.997) for m in MODALITIES}
        return params, averages.follow(model.teacher_target(params), teacher, momenta), opt_state

    present = {m: views[m].present for m in MODALITIES}
    latents = {m: student[m].latent for m in MODALITIES}
    features = {
        m: jnp.zeros((*student[m].projections.shape[:2], getattr(model, m).encoder.width))
        for m in MODALITIES
    }
    parts: dict[str, tuple[Callable, tuple[Any, ...]]] = {
        "views": (
            lambda b, seed: make_views(model, config.views, b, seed),
            (batch, state.seed),
        ),
        "teachers": (model.teach, (state.teacher, views)),
        "student_encoders": (jax.grad(encode), (state.params, views)),
        "decoders": (jax.grad(decode, argnums=(0, 1)), (state.params, latents)),
        "heads_and_losses": (jax.grad(heads, argnums=(0, 1)), (state.params, features)),
        "optimizer_and_ema": (update, (state.params, state.teacher, state.opt_state)),
    }
    measured = {}
    for name, (part, arguments) in parts.items():
        compiled = jax.jit(part)
        jax.block_until_ready(compiled(*arguments))
        seconds = [_timed(compiled, *arguments) for _ in range(5)]
        measured[name] = _rounded(1e3 * statistics.median(seconds))
    return measured


def peak_memory() -> int:
    """Returns the peak memory of the first device in bytes; on a CPU, that of the process."""
    statistics_of_device = jax.local_devices()[0].memory_stats()
    if statistics_of_device and "peak_bytes_in_use" in statistics_of_device:
        return statistics_of_device["peak_bytes_in_use"]
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _timed(function: Callable, *arguments: Any) -> float:
    before = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - before


def _device_name() -> str:
    """Returns the name of the devices; for a CPU from the system, because JAX says only "cpu"."""
    kind = jax.devices()[0].device_kind
    if kind != "cpu":
        return kind
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} cores"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def run() -> None:
    """Runs the command line."""
    config = config_flag.define()
    steps = flags.DEFINE_integer("steps", 10, "Steps to measure.", lower_bound=3)
    breakdown = flags.DEFINE_bool("breakdown", False, "Also measure each part by itself.")
    profile = flags.DEFINE_string("profile", None, "Folder to write a trace to.")
    flags.mark_flag_as_required("config")

    def main() -> None:
        started = time.time() - time.process_time()
        with program.errors_in_one_line():
            result = benchmark(config.value, steps.value, breakdown.value, profile.value, started)
        print(json.dumps(result))

    config_flag.run(main, __doc__, config)


if __name__ == "__main__":
    command_line.quieten_libraries()
    command_line.use_most_memory_of_gpus()
    run()
