"""The training loop: restore, data, step, log, save. It knows nothing of what is trained.

A run is a function of its config: whether it is made in one go, or killed and started again any
number of times, it goes through the same states bit for bit. All that this takes is that the step
is pure, that batch `k` depends on `k` alone, and that the state holds everything else.
"""

import contextlib
import ctypes
import itertools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xkd_jax import bottlenecks, checkpoint, data_log, interruption, sharding, telemetry, watchdog


class FinishedError(ValueError):
    """The workdir's checkpoint is at the last step of the run, or beyond."""


class DataError(OSError):
    """A batch cannot be read; what was trained until then is saved where one process trains."""


class NonFiniteError(RuntimeError):
    """A metric of the step is not a finite number."""


def train(
    *,
    init: Callable[..., Any],
    step_fn: Callable[..., tuple[Any, dict[str, jax.Array]]],
    batches: Callable[[int], Iterator[Any]],
    total_steps: int,
    config: ml_collections.ConfigDict,
    saving: Mapping[str, int],
    workdir: str | os.PathLike,
    mesh: Mesh,
    init_args: tuple[Any, ...] = (),
    step_args: tuple[Any, ...] = (),
    figures: Callable[[Any, Any], dict[str, np.ndarray]] | None = None,
    evaluate: Callable[[Any, int], tuple[Any, dict[str, float]]] | None = None,
    evaluate_every: int = 0,
    steps_per_epoch: float | None = None,
    data_log: data_log.DataLog | None = None,
    look: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Any:
    """Trains to `total_steps`, from the newest checkpoint in the workdir or from the beginning.

    SIGTERM and SIGINT end it early, after a save; the same call then goes on from there.

    Args:
        init: Function of `init_args` that makes the initial state: a pytree of arrays with a field
            `step`, `()` int32, the number of steps done. It is traced.
        step_fn: Pure function `(state, batch, *step_args) -> (state, metrics)`. It is traced once.
            `metrics` is a dict of scalars in order of importance: the loss terms, their `total`,
            gradient norms, the rest. Where several are not finite, the first is reported.
        batches: Function `start_step -> iterator` of pytrees of numpy arrays, each `(B / processes,
            ...)`: this process's share of batch `start_step`, of the next, and so on without end.
        total_steps: Steps of the whole run.
        config: A `ConfigDict` with `batch_size`, `epochs`, `steps` and `log` as in
            `configs/base.py`; saved, whole, with every checkpoint.
        saving: When to save and what to keep: the fields of `checkpoint` in `configs/base.py`.
        workdir: The run's folder, made if missing.
        mesh: From `sharding.make_mesh`.
        init_args: Pytrees of arrays, too large to be constants of a program: pretrained weights.
        step_args: Pytrees of arrays: numbers that are no constants of the step's program, so that
            runs which differ in them share it, compiled.
        figures: Function `(state, batch) -> dict` of `(H, W, 3)` uint8 images, to be drawn every
            `config.log.images_every_steps` and at the end; or None.
        evaluate: Function `(state, step) -> (state, metrics)` that looks at the state between two
            steps, and may change it: to arrays of the same shapes, types and shardings, which the
            checkpoint of that step will hold. `metrics` is a dict of floats, logged with the step's
            own. Its time counts for nothing in the speeds of the log. Or None.
        evaluate_every: Steps between two of them; there is one at the end of the run in any case,
            and no other where this is 0.
        steps_per_epoch: A float, for the log; or None.
        data_log: Of the source of the batches: its metrics are logged with the step's, and its
            inventory is saved with every checkpoint; or None.
        look: Function `(step, metrics)` that process 0 calls with each line of the log; or None.

    Returns:
        The state, of step `total_steps` or, where a signal ended the run, of an earlier one.

    Raises:
        ValueError: If the mesh does not divide the batch.
        FinishedError: If the run is at its end already.
        checkpoint.MismatchError: If the workdir's checkpoint is of another model.
        checkpoint.DamagedError: If its newest checkpoint cannot be read.
        checkpoint.SaveError: If a checkpoint cannot be written.
        DataError: If a batch cannot be read.
        NonFiniteError: If a metric is not finite. The state it came from is not saved.
    """
    sharding.check_batch_size(config.batch_size, mesh)
    workdir = pathlib.Path(workdir)
    plain_config = config.to_dict()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(interruption.Interruption())
        checkpoints = stack.enter_context(
            checkpoint.Checkpoints(
                workdir,
                config=plain_config,
                data=data_log.inventory if data_log else None,
                **saving,
            )
        )
        _refuse_finished_run(checkpoints.latest_step, total_steps, config, workdir)
        stack.enter_context(_what_stays(checkpoints))
        state = _initial_state(init, init_args, checkpoints, mesh)
        step = int(state.step)
        log = stack.enter_context(
            telemetry.Telemetry(
                workdir,
                start_step=step,
                total_steps=total_steps,
                steps_per_epoch=steps_per_epoch,
            )
        )
        log.config(plain_config)
        if data_log:
            stack.enter_context(data_log)
        data = _without_end(stack.enter_context(sharding.Prefetch(batches(step), mesh)), step)
        first = next(data)
        step_args = sharding.replicate(step_args, mesh)
        step_fn = compile_step(step_fn, state, first, mesh, step_args)
        data = itertools.chain([first], data)

        alive = stack.enter_context(
            watchdog.Watchdog(workdir, jax.process_index(), 60 * config.log.stall_minutes)
        )
        alive.beat(step)
        window = telemetry.Window(config.batch_size)
        of_data = data_log.metrics if data_log else dict
        if look is None or jax.process_index():
            look = _look_away
        monitor = _Monitor(window, log, config.log.every_steps, of_data, look)
        figures_every = config.log.images_every_steps if figures else 0
        while step < total_steps and not stop.requested(step):
            try:
                with window.waiting():
                    batch = next(data)
            except OSError as error:
                monitor.finish()
                raise _told_of_data(error, checkpoints, step, state) from error
            state, metrics = step_fn(state, batch, *step_args)
            step += 1
            monitor.watch(step, metrics)
            alive.beat(step)
            ends = step == total_steps
            saves = checkpoints.due(step) or ends
            draws = figures_every and (step % figures_every == 0 or ends)
            if evaluate and (ends or (evaluate_every and step % evaluate_every == 0)):
                monitor.settle(logs=False)
                with window.pause(), alive.pause():
                    state, found = evaluate(state, step)
                monitor.add(found)
            elif saves or draws:
                monitor.settle()
            if saves:
                with alive.pause():
                    checkpoints.save(step, state)
            if draws:
                with window.pause(), alive.pause():
                    log.images(step, figures(state, batch))
        monitor.finish()
        checkpoints.save(step, state)  # where a signal ended the loop
    if step < total_steps and jax.process_index() == 0:
        print(
            f"Stopped and saved at step {step} of {total_steps} in {workdir}. "
            "To go on, run the same command again.",
            flush=True,
        )
    return state


def compile_step(
    step_fn: Callable, state: Any, batch: Any, mesh: Mesh, step_args: tuple[Any, ...] = ()
) -> jax.stages.Compiled:
    """Compiles the step ahead of time, and says how long it took.

    Args:
        step_fn: `(state, batch, *step_args) -> (state, metrics)`, see `train`.
        state: A pytree of arrays, or of `jax.ShapeDtypeStruct` with shardings.
        batch: Likewise.
        mesh: The mesh of the run.
        step_args: Pytrees of arrays.

    Returns:
        The compiled step of the same arguments. It overwrites the state it is given, never
        retraces, and returns its metrics as `Metrics`.
    """

    def step(state, batch, *step_args):
        state, metrics = step_fn(state, batch, *step_args)
        values = jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics.values()])
        return state, Metrics(tuple(metrics), values)

    if jax.process_index() == 0:
        print("Compiling the step", flush=True)
    started = time.perf_counter()
    out_shardings = (sharding.state_shardings(state, mesh), NamedSharding(mesh, P()))
    jitted = jax.jit(step, donate_argnums=0, out_shardings=out_shardings)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for sharding.by_example
        compiled = jitted.lower(state, batch, *step_args).compile()
    _give_memory_back()
    if jax.process_index() == 0:
        print(f"Compiled the step in {time.perf_counter() - started:.1f} s", flush=True)
    return compiled


def _give_memory_back() -> None:
    """Returns what compiling has freed to the system: 0.9 GB for the paper's model.

    The C library keeps it otherwise, and a step on a CPU has large buffers that do not fit there.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim:  # glibc has it
        trim(0)


@flax.struct.dataclass
class Metrics:
    """A step's metrics on their way to the host: one small copy, in the order of the step's dict.

    Attributes:
        names: Tuple of strings. A dict would lose its order between the step and the host.
        values: `(len(names),)` float32.
    """

    names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    values: jax.Array

    def to_floats(self, step: int) -> dict[str, float]:
        """Waits for the values.

        Args:
            step: The step they are of.

        Returns:
            Dict of floats.

        Raises:
            NonFiniteError: Naming the step and the first metric that is not finite.
        """
        floats = dict(zip(self.names, np.asarray(self.values).tolist(), strict=True))
        _refuse_non_finite(step, floats)
        return floats


def _look_away(step: int, metrics: Mapping[str, float]) -> None:
    """For who has nothing to say of a line of the log."""


class _Monitor:
    """Reads each step's metrics once the next step is queued, so that the devices never idle."""

    def __init__(self, window, log, every_steps, of_data, look):
        self._window = window
        self._of_data = of_data
        self._log = log
        self._look = look
        self._every_steps = every_steps
        self._bottlenecks = bottlenecks.Bottlenecks()
        self._in_flight = None
        self._step = None

    def watch(self, step: int, metrics: Metrics) -> None:
        """Takes a dispatched step's metrics, and settles those of the step before."""
        self.settle()
        self._in_flight = (step, metrics)

    def settle(self, logs: bool = True) -> None:
        """Waits for the step in flight, checks its metrics, logs them where a window ends.

        Args:
            logs: False where `add` is going to log them, with what is added.
        """
        if self._in_flight is None:
            return
        (self._step, metrics), self._in_flight = self._in_flight, None
        with self._window.on_devices():
            floats = metrics.to_floats(self._step)
        self._window.add(floats)
        if logs and self._step % self._every_steps == 0:
            away, means = self._window.away(), self._close_window()
            self._log.scalars(self._step, means)
            self._look(self._step, means)
            self._bottlenecks.look(self._step, means["speed/data_wait"], away)

    def add(self, metrics: dict[str, float]) -> None:
        """Ends the window at the step just settled, and logs it with metrics of that step alone."""
        _refuse_non_finite(self._step, metrics)
        self._log.scalars(self._step, self._close_window() | metrics)

    def finish(self) -> None:
        """Settles the last step, and logs what is left of its window."""
        self.settle()
        if len(self._window):
            self._log.scalars(self._step, self._close_window())

    def _close_window(self) -> dict[str, float]:
        return self._window.close() | self._of_data()


def last_state(
    *,
    init: Callable[..., Any],
    config: ml_collections.ConfigDict,
    saving: Mapping[str, int],
    workdir: str | os.PathLike,
    mesh: Mesh,
    init_args: tuple[Any, ...] = (),
) -> Any:
    """The state of a run's newest checkpoint, or the initial one; for the arguments see `train`.

    Raises:
        checkpoint.MismatchError: If the workdir's checkpoint is of another model.
        checkpoint.DamagedError: If its newest checkpoint cannot be read.
    """
    with checkpoint.Checkpoints(workdir, config=config.to_dict(), **saving) as checkpoints:
        return _initial_state(init, init_args, checkpoints, mesh)


def _refuse_non_finite(step, metrics):
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"Step {step}: {name} is {value}")


@contextlib.contextmanager
def _what_stays(checkpoints):
    """Adds to the error of a run that has left the finite numbers what is left of it."""
    try:
        yield
    except NonFiniteError as error:
        with contextlib.suppress(checkpoint.SaveError):  # of the save under way
            checkpoints.finish()
        raise NonFiniteError(
            f"{error}. The run stops and does not save this state; {checkpoints.what_stays()}."
        ) from None


def _told_of_data(error, checkpoints, step, state):
    """Saves the state for which there is no next batch; the error that says so."""
    # Other processes may have their part of it, and go on: none of them saves alone.
    if jax.process_count() > 1:
        return DataError(f"{error}; {checkpoints.what_stays()}.")
    checkpoints.save(step, state)
    checkpoints.finish()
    return DataError(
        f"{error}. Saved at step {step}: once the data can be read, the same command goes on."
    )


def _refuse_finished_run(step, total_steps, config, workdir):
    if step is None or step < total_steps:
        return
    field = "steps" if config.steps else "epochs"
    raise FinishedError(
        f"config.{field}={config[field]} ends at step {total_steps}, and the checkpoint in "
        f"{workdir} is at step {step} already: raise config.{field} or choose another workdir."
    )


def _initial_state(init, init_args, checkpoints, mesh):
    """Restores the newest checkpoint, or else makes the first state, on the mesh."""
    abstract = jax.eval_shape(init, *init_args)
    shardings = sharding.state_shardings(abstract, mesh)
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings
    )
    state = checkpoints.restore(abstract)
    return jax.jit(init, out_shardings=shardings)(*init_args) if state is None else state


def _without_end(batches, step):
    """Passes batches on, from that of step `step + 1`. That they end is an error."""
    for batch in batches:
        yield batch
        step += 1
    raise RuntimeError(f"The data ended: there is no batch for step {step + 1}.")
