"""A toy model to test the loop: linear regression, with all parts of a real state.

As a program, it trains in its own process, which a test can kill.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import argparse
import contextlib
import itertools
import time

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from configs import base
from xkd_jax import sharding
from xkd_jax.run import loop, peers, processes, relay

FEATURES = 6
OPTIMIZER = optax.chain(
    optax.masked(optax.clip_by_global_norm(1.0), {"w": True, "b": False}),
    optax.adamw(optax.cosine_decay_schedule(0.1, 1000)),
)


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    teacher: dict
    optimizer: optax.OptState
    seed: jax.Array


def get_config(**changes):
    config = base.get_config()
    config.batch_size = 16
    config.log.every_steps = 5
    config.saving.every_steps = 10
    config.update_from_flattened_dict(changes)
    return ml_collections.FrozenConfigDict(config)


def init(features=FEATURES):
    params = {"w": jnp.zeros((features, 1)), "b": jnp.zeros(1)}
    return State(
        step=jnp.int32(0),
        params=params,
        teacher=params,  # the same arrays twice, like initial teachers of a real run
        optimizer=OPTIMIZER.init(params),
        seed=jnp.uint32(3),
    )


def step_fn(state, batch):
    def loss_fn(params):
        return jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)

    loss, gradients = jax.value_and_grad(loss_fn)(state.params)
    updates, optimizer = OPTIMIZER.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    teacher = jax.tree.map(lambda t, p: 0.9 * t + 0.1 * p, state.teacher, params)
    # Not in alphabetical order: the loop has to keep this order.
    metrics = {
        "squares": loss,
        "total": loss,
        "gradient_norm": optax.tree.norm(gradients),
        "a_bias": params["b"][0],
    }
    return state.replace(
        step=state.step + 1, params=params, teacher=teacher, optimizer=optimizer
    ), metrics


def batch(k, batch_size=16):
    """Returns this process's share of batch `k`, which depends only on `k`."""
    rng = np.random.default_rng(k)
    x = rng.normal(size=(batch_size, FEATURES)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True) + rng.normal(size=(batch_size, 1)).astype(np.float32)
    share = slice(jax.process_index(), None, jax.process_count())
    return {"x": x[share], "y": y[share]}


def batches(start_step, delay=0.0, nan_at=None):
    for k in itertools.count(start_step):
        time.sleep(delay)
        example = batch(k)
        if k == nan_at:
            example["x"][0, 0] = np.nan
        yield example


def task(total_steps, **changes):
    """Returns the toy as a task of the loop; `changes` override fields of it."""
    return loop.Task(init, step_fn, batches, total_steps)._replace(**changes)


def run(workdir, total_steps, config=None, **changes):
    """Trains the toy; `changes` override fields of the task or give hooks."""
    hooks = {name: changes.pop(name) for name in loop.Hooks._fields if name in changes}
    config = config or get_config(steps=total_steps)
    mesh = sharding.make_mesh()
    return loop.train(task(total_steps, **changes), config, workdir, mesh, loop.Hooks(**hooks))


def delay_relays(seconds):
    """Makes every packet to and from the coordination service take longer."""
    pass_on = relay._pass_on

    class Slow:
        def __init__(self, sink):
            self.sink = sink

        def sendall(self, data):
            time.sleep(seconds)
            self.sink.sendall(data)

    relay._pass_on = lambda source, sink: pass_on(source, Slow(sink))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--checkpoint_every", type=int, default=2)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--nan_at", type=int)
    parser.add_argument("--process", type=int)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--coordinator")
    parser.add_argument("--peer_seconds", type=float, default=peers.SECONDS)
    parser.add_argument("--late", type=float, default=0.0)
    parser.add_argument("--latency", type=float, default=0.0)
    flags = parser.parse_args()
    delay_relays(flags.latency)
    with contextlib.ExitStack() as together:
        if flags.processes:
            group = processes.Group(flags.coordinator, flags.processes, flags.process, "flags")
            processes.join(group, 60)
            together.enter_context(peers.Peers(seconds=flags.peer_seconds))
            print("joined", flush=True)
        time.sleep(flags.late)
        run(
            flags.workdir,
            flags.steps,
            batches=lambda start: batches(start, flags.delay, flags.nan_at),
            config=get_config(**{"saving.every_steps": flags.checkpoint_every}, steps=flags.steps),
        )


if __name__ == "__main__":
    main()
