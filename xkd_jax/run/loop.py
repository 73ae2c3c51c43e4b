"""The training loop: restore, read data, step, log, save. It does not know what it trains.

A run is a function of its config: run without a break, or killed and restarted any number of times,
it passes through the same states bit for bit. This requires that the step is pure, that batch `k`
depends only on `k`, and that the state holds everything else.
"""

import contextlib
import itertools
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xkd_jax import sharding
from xkd_jax.run import (
    checkpoint,
    console,
    host_memory,
    interruption,
    processes,
    telemetry,
    watchdog,
)
from xkd_jax.run.data_log import DataLog
from xkd_jax.run.figures import Figures
from xkd_jax.run.step_metrics import Metrics, Monitor, NonFiniteError


class FinishedError(ValueError):
    """The checkpoint in the workdir is at the last step of the run, or beyond it."""


class DataError(OSError):
    """A batch cannot be read. With one process, the state before this batch is saved."""


class Task(NamedTuple):
    """What is trained, on which data and for how long.

    Attributes:
        init: Function of `init_args` that builds the initial state: a pytree of arrays with a field
            `step`, `()` int32, the number of steps done. It is traced.
        step_fn: Pure function `(state, batch, *step_args) -> (state, metrics)`. It is traced once.
            `metrics` is a dict of scalars in order of importance: the loss terms, their `total`,
            gradient norms, the rest. If several are not finite, the first is reported.
        batches: Function `start_step -> iterator` over this process's share of batch `start_step`,
            of the next batch, and so on without end. A batch is a pytree of NumPy arrays, whose
            first axis has this process's examples.
        total_steps: Steps of the whole run.
        init_args: Pytrees of arrays that are too large to be constants of a program, such as
            pretrained weights.
        step_args: Pytrees of arrays that are inputs of the compiled step, not constants, so that
            runs with other numbers share the program.
        steps_per_epoch: Steps per epoch, for the log; or None.
        data_log: Log of the data source; or None. Its metrics are logged with those of the step,
            and its inventory is saved with every checkpoint.
    """

    init: Callable[..., Any]
    step_fn: Callable[..., tuple[Any, dict[str, jax.Array]]]
    batches: Callable[[int], Iterator[Any]]
    total_steps: int
    init_args: tuple[Any, ...] = ()
    step_args: tuple[Any, ...] = ()
    steps_per_epoch: float | None = None
    data_log: DataLog | None = None


class Hooks(NamedTuple):
    """What is called between two steps.

    Attributes:
        figures: Function `(state, batch) -> Figures` that shows what is learned; or None.
        figures_every: Steps between two calls of `figures`. There is always one at the end of the
            run, unless this is 0: then there are none.
        evaluate: Function `(state, step) -> (state, metrics)` that evaluates the state between two
            steps; or None. It may replace the state by arrays of the same shapes, dtypes and
            shardings, which the checkpoint of that step then holds. `metrics` is a dict of floats,
            logged with those of the step. The logged speeds do not include its time.
        evaluate_every: Steps between two evaluations. There is always one at the end of the run; 0
            makes no others.
        look: Function `(step, metrics)` that process 0 calls with each line of the log; or None.
        rehearses: Whether a new run of one process on a CPU first calls `figures` and `evaluate`
            for nothing, while the step compiles: that leaves a core idle, and their own programs
            compile meanwhile. On GPUs it would disturb the compiler, which measures kernels there.
    """

    figures: Callable[[Any, Any], Figures] | None = None
    figures_every: int = 0
    evaluate: Callable[[Any, int], tuple[Any, dict[str, float]]] | None = None
    evaluate_every: int = 0
    look: Callable[[int, Mapping[str, float]], None] | None = None
    rehearses: bool = False

    def rehearse(self, state: Any, batch: Any) -> None:
        """Does once, and forgets, what a run does with a state between steps."""
        if self.draws(0, ends=True):
            self.figures(state, batch)
        if self.evaluates(0, ends=True):
            self.evaluate(state, 0)

    def evaluates(self, step: int, ends: bool) -> bool:
        """Returns whether to evaluate after a step, which may be the last one."""
        if self.evaluate is None:
            return False
        return ends or bool(self.evaluate_every and step % self.evaluate_every == 0)

    def draws(self, step: int, ends: bool) -> bool:
        """Returns whether to draw figures after a step, which may be the last one."""
        if self.figures is None or not self.figures_every:
            return False
        return ends or step % self.figures_every == 0


NO_HOOKS = Hooks()


def train(
    task: Task,
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike,
    mesh: Mesh,
    hooks: Hooks = NO_HOOKS,
) -> Any:
    """Trains to the last step, from the newest checkpoint in the workdir or from the beginning.

    SIGTERM and SIGINT end the training early, after a save. The same call then continues from
    there.

    Args:
        task: What to train, on which data and for how long.
        config: A `ConfigDict` with `batch_size`, `epochs`, `steps`, `log` and `saving` as in
            `xkd_jax/config/pretraining.py`; the whole config is saved with every checkpoint.
        workdir: Folder of the run; it is created if it does not exist.
        mesh: Device mesh of the run, from `sharding.make_mesh`.
        hooks: What to call between two steps.

    Returns:
        The state at the last step, or at an earlier step if a signal ended the run.

    Raises:
        ValueError: The mesh does not divide the batch.
        FinishedError: The run has already reached its end.
        checkpoint.MismatchError: The checkpoint in the workdir is of another model.
        saved_checkpoint.DamagedError: The newest checkpoint in the workdir cannot be read.
        checkpoint.SaveError: A checkpoint cannot be written.
        DataError: A batch cannot be read.
        GroupError: The data of the processes differ.
        NonFiniteError: A metric is not finite. The state that it belongs to is not saved.
    """
    sharding.check_batch_size(config.batch_size, mesh)
    workdir = pathlib.Path(workdir)
    plain_config, total_steps = config.to_dict(), task.total_steps
    inventory = task.data_log.inventory if task.data_log else None
    processes.check_same(json.dumps(inventory, sort_keys=True), "the data")
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(interruption.Interruption())
        checkpoints = stack.enter_context(
            checkpoint.Checkpoints(
                workdir,
                config=plain_config,
                data=inventory,
                total_steps=total_steps,
                **config.saving,
            )
        )
        _refuse_finished_run(checkpoints.latest_step, total_steps, config, workdir)
        stack.enter_context(_stating_what_is_saved(checkpoints))
        abstract = _abstract_state(task, mesh)
        state = checkpoints.restore(abstract)
        step = int(state.step) if state is not None else 0
        log = stack.enter_context(
            telemetry.Telemetry(
                workdir,
                start_step=step,
                total_steps=total_steps,
                steps_per_epoch=task.steps_per_epoch,
                writers=config.log.writers,
            )
        )
        log.begin(plain_config)
        if task.data_log:
            stack.enter_context(task.data_log)
        data = _endless(stack.enter_context(sharding.Prefetch(task.batches(step), mesh)), step)
        first = next(data)
        step_args = sharding.replicate(task.step_args, mesh)
        with futures.ThreadPoolExecutor(1) as beside:  # both compile: one core each, at first
            begun = beside.submit(_begin, task, abstract, hooks, first) if state is None else None
            step_fn = compile_step(task.step_fn, abstract, first, mesh, step_args)
            state = begun.result() if begun else state
        data = itertools.chain([first], data)

        stall_watch = stack.enter_context(
            watchdog.Watchdog(workdir, jax.process_index(), 60 * config.log.stall_minutes)
        )
        stall_watch.beat(step)
        interval = telemetry.Interval(config.batch_size)
        data_metrics = task.data_log.metrics if task.data_log else dict
        look = hooks.look if hooks.look and processes.is_first() else _ignore_line
        monitor = Monitor(interval, log, config.log.every_steps, data_metrics, look)
        while step < total_steps and not stop.requested(step):
            try:
                with interval.waiting():
                    batch = next(data)
            except OSError as error:
                monitor.finish()
                raise _data_error(error, checkpoints, step, state) from error
            state, metrics = step_fn(state, batch, *step_args)
            step += 1
            monitor.watch(step, metrics)
            stall_watch.beat(step)
            ends = step == total_steps
            saves = checkpoints.due(step) or ends
            draws = hooks.draws(step, ends)
            if hooks.evaluates(step, ends):
                monitor.settle(logs=False)
                with interval.pause(), stall_watch.pause():
                    state, evaluation = hooks.evaluate(state, step)
                monitor.add(evaluation)
            elif saves or draws:
                monitor.settle()
            if saves:
                with stall_watch.pause():
                    checkpoints.save(step, state)
            if draws:
                with interval.pause(), stall_watch.pause():
                    log.figures(step, hooks.figures(state, batch))
        monitor.finish()
        checkpoints.save(step, state)  # not saved yet if a signal ended the loop
    if step < total_steps:
        console.say(
            f"Stopped and saved at step {step} of {total_steps} in {workdir}. "
            "To go on, run the same command again."
        )
    return state


def compile_step(
    step_fn: Callable, state: Any, batch: Any, mesh: Mesh, step_args: tuple[Any, ...] = ()
) -> jax.stages.Compiled:
    """Compiles the step ahead of time, and prints how long it took.

    Args:
        step_fn: Function `(state, batch, *step_args) -> (state, metrics)`, see `Task`.
        state: A pytree of arrays, or of `jax.ShapeDtypeStruct` with shardings.
        batch: A pytree of arrays, or of `jax.ShapeDtypeStruct` with shardings.
        mesh: Device mesh of the run.
        step_args: Pytrees of arrays, or of `jax.ShapeDtypeStruct` with shardings.

    Returns:
        The compiled step, with the same arguments as `step_fn`. It overwrites the state that it is
        called with, is never traced again, and returns its metrics as `Metrics`.
    """

    def step(state: Any, batch: Any, *step_args: Any) -> tuple[Any, Metrics]:
        state, metrics = step_fn(state, batch, *step_args)
        values = jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics.values()])
        return state, Metrics(tuple(metrics), values)

    console.say("Compiling the step")
    started = time.perf_counter()
    out_shardings = (sharding.state_shardings(state, mesh), NamedSharding(mesh, P()))
    jitted = jax.jit(step, donate_argnums=0, out_shardings=out_shardings)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for sharding.by_example
        compiled = jitted.lower(state, batch, *step_args).compile()
    host_memory.give_back()
    if sharding.platform() == "cpu":
        host_memory.keep()
    console.say(f"Compiled the step in {time.perf_counter() - started:.1f} s")
    return compiled


def _ignore_line(step: int, metrics: Mapping[str, float]) -> None:
    """Does nothing; the default of `look`."""


def last_state(
    task: Task, config: ml_collections.ConfigDict, workdir: str | os.PathLike, mesh: Mesh
) -> Any:
    """Loads the state of a run's newest checkpoint, or builds the initial state.

    Args:
        task: As for `train`.
        config: As for `train`.
        workdir: As for `train`.
        mesh: As for `train`.

    Returns:
        The state, on the mesh.

    Raises:
        checkpoint.MismatchError: The checkpoint in the workdir is of another model.
        saved_checkpoint.DamagedError: The newest checkpoint in the workdir cannot be read.
    """
    with checkpoint.Checkpoints(
        workdir, config=config.to_dict(), total_steps=task.total_steps, **config.saving
    ) as checkpoints:
        abstract = _abstract_state(task, mesh)
        state = checkpoints.restore(abstract)
        return _begin(task, abstract) if state is None else state


@contextlib.contextmanager
def _stating_what_is_saved(checkpoints: checkpoint.Checkpoints) -> Iterator[None]:
    """Adds to a `NonFiniteError` which checkpoint the run leaves behind."""
    try:
        yield
    except NonFiniteError as error:
        with contextlib.suppress(checkpoint.SaveError):  # if the pending save fails
            checkpoints.finish()
        raise NonFiniteError(
            f"{error}. The run stops and does not save this state; {checkpoints.remaining()}."
        ) from None


def _data_error(
    error: OSError, checkpoints: checkpoint.Checkpoints, step: int, state: Any
) -> DataError:
    """Saves the state if its next batch cannot be read, and returns the error to raise."""
    # Other processes may have read their part of the batch and continue: one cannot save alone.
    if jax.process_count() > 1:
        return DataError(f"{error}; {checkpoints.remaining()}.")
    checkpoints.save(step, state)
    checkpoints.finish()
    return DataError(
        f"{error}. Saved at step {step}: once the data can be read, the same command continues."
    )


def _refuse_finished_run(
    step: int | None, total_steps: int, config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    if step is None or step < total_steps:
        return
    field = "steps" if config.steps else "epochs"
    raise FinishedError(
        f"config.{field}={config[field]} ends at step {total_steps}, and the checkpoint in "
        f"{workdir} is at step {step} already: raise config.{field}, or use another workdir."
    )


def _abstract_state(task: Task, mesh: Mesh) -> Any:
    """Returns the shapes, dtypes and shardings of the state."""
    abstract = jax.eval_shape(task.init, *task.init_args)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        abstract,
        sharding.state_shardings(abstract, mesh),
    )


def _begin(task: Task, abstract: Any, hooks: Hooks = NO_HOOKS, batch: Any = None) -> Any:
    """Builds the state before the first step, and rehearses with it if `hooks` ask for that.

    It lies on the devices that `abstract`, from `_abstract_state`, names.
    """
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    state = jax.jit(task.init, out_shardings=shardings)(*task.init_args)
    if hooks.rehearses and sharding.platform() == "cpu" and jax.process_count() == 1:
        hooks.rehearse(state, batch)
    return state


def _endless(batches: Iterator[Any], step: int) -> Iterator[Any]:
    """Yields the batches of step `step + 1` and later. It is an error if they end."""
    for batch in batches:
        yield batch
        step += 1
    raise RuntimeError(f"The data have ended: there is no batch for step {step + 1}.")
