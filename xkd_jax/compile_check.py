"""Compiles the training step for devices that are not here, and says whether it fits them.

    python -m xkd_jax.main --config=configs/k400.py --compile_for=v5e:16x16

The program is the one that a run on those devices would execute: the same step, shardings and
compiler. No data are read and no parameters made. `libtpu` has the compiler for TPUs, and needs
none to be there; `--compile_for=local` is for the devices of this machine.
"""

import contextlib
import functools
import importlib.util
import os
import time
from typing import NamedTuple

import jax
import ml_collections
from jax.experimental import topologies

from xkd_jax import config_check, flops, hlo, pretrain, sharding, train, train_step
from xkd_jax.models import xkd

LOCAL = "local"

# HBM of a chip in GiB by JAX's name of the device, as Google's documentation of Cloud TPU has it.
HBM = {
    "TPU v2": 16,
    "TPU v3": 32,
    "TPU v4": 32,
    "TPU v5 lite": 16,  # v5e
    "TPU v5": 95,  # v5p
    "TPU v6 lite": 32,  # v6e
    "TPU7x": 192,
}
# The rest is for the runtime, and for the batches that `sharding.Prefetch` has under way: of 16 GiB
# on v5e, the compiler itself allows programs 15.75.
USABLE = 0.95

# The step costs the same whatever the schedules' lengths are.
_TOTAL_STEPS, _STEPS_PER_EPOCH = 1_000_000, 1000.0


class TargetError(ValueError):
    """There is nothing to compile for by that name; the message is one line."""


class DoesNotFitError(ValueError):
    """The step needs more memory than a device has; the message is one line with advice."""


class Program(NamedTuple):
    """A compiled training step; sizes in bytes, on each device.

    Attributes:
      target: as asked for, such as `v5e:16x16`.
      devices: their number.
      kind: JAX's name of them.
      capacity: of a device; None where it is not known.
      batch_size: over all devices.
      memory: by kind: `arguments` (the state and a batch), `outputs`, `aliased` (outputs that take
        the place of arguments), `temporaries`, `code`, and `peak`, the most that is needed at once.
      flops_per_clip: of the matrix products, by part (xkd_jax/flops.py).
      flops_of_compiler: operations of a device in a step by XLA's count, which takes a loop's body,
        such as a layer of a scan over them, for one pass.
      collectives: of a step, each of which every device takes part in.
      seconds: that compilation took.
    """

    target: str
    devices: int
    kind: str
    capacity: int | None
    batch_size: int
    memory: dict[str, int]
    flops_per_clip: dict[str, float]
    flops_of_compiler: float
    collectives: list[hlo.Collective]
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether `USABLE` of the memory is enough; True where it is not known."""
        return self.capacity is None or self.memory["peak"] <= USABLE * self.capacity


def check(config: ml_collections.ConfigDict, target: str) -> None:
    """Compiles the step of a config, prints what it takes, and refuses one that does not fit.

    To be called before any device is asked for.

    Args:
      config: of pretraining, see configs/base.py.
      target: `local`, or a TPU topology such as `v5e:16x16`.

    Raises:
      ValueError: for an impossible config.
      TargetError: for an unknown topology, and where libtpu is not installed.
      DoesNotFitError: with what to change.
    """
    if config.task != "pretrain":
        raise ValueError(f"config.task is {config.task!r}; allowed with --compile_for: 'pretrain'")
    config_check.check_step(config)
    program = compile_program(config, target, find_devices(target))
    print(describe(program), flush=True)
    if not program.fits:
        raise DoesNotFitError(_refusal(program, config))


def find_devices(target: str) -> list[jax.Device]:
    """The devices to compile for; those of a topology can do nothing but be compiled for.

    Args:
      target: `local`, or a TPU topology such as `v5e:16x16`.

    Raises:
      TargetError: for an unknown topology, and where libtpu is not installed.
    """
    if target == LOCAL:
        return jax.devices()
    if importlib.util.find_spec("libtpu") is None:
        raise TargetError(
            f"--compile_for={target} needs libtpu, the compiler for TPUs: install the extra `tpu`, "
            f"or 'jax[tpu]=={jax.__version__}'"
        )
    # No TPU is looked for, here or in the cloud, and other processes may do the same.
    jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        return list(topologies.get_topology_desc(target, "tpu").devices)
    except jax.errors.JaxRuntimeError as error:
        reason = " ".join(str(error).split())
        raise TargetError(
            f"--compile_for={target}; allowed: local, or a TPU topology such as v5e:4x4, v5p:2x2x4 "
            f"or v6e:16x16 ({reason})"
        ) from None


def compile_program(
    config: ml_collections.ConfigDict, target: str, devices: list[jax.Device]
) -> Program:
    """Compiles the step of a config.

    Args:
      config: of pretraining, see configs/base.py.
      target: what the devices are called.
      devices: to compile for, from `find_devices`.

    Raises:
      ValueError: for a config that does not go with so many devices.
      DoesNotFitError: where the compiler itself refuses.
    """
    mesh = sharding.make_mesh(config.parallel.fsdp, devices)
    sharding.check_batch_size(config.batch_size, mesh, accumulate=config.parallel.accumulate)
    started = time.perf_counter()
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # of these devices, not of those here
        model = xkd.build(config, pretrain.compute_dtype(config))
    numbers = train_step.hyperparameters(config, _TOTAL_STEPS, _STEPS_PER_EPOCH)
    step_fn = train_step.make_train_step(model, config)
    state = jax.eval_shape(functools.partial(train_step.init_state, model, numbers, config.seed))
    state = _placed(state, sharding.state_shardings(state, mesh))
    numbers = _placed(numbers, sharding.state_shardings(numbers, mesh))
    batch = pretrain.batch_shapes(config)
    batch = _placed(batch, dict.fromkeys(batch, sharding.batch_sharding(mesh)))
    with _compilers_refusal(config, target):
        compiled = train.compile_step(step_fn, state, batch, mesh, (numbers,))
    return Program(
        target=target,
        devices=mesh.size,
        kind=devices[0].device_kind,
        capacity=capacity(devices),
        batch_size=config.batch_size,
        memory=_memory(compiled),
        flops_per_clip=flops.per_clip(model, config.views),
        flops_of_compiler=(compiled.cost_analysis() or {}).get("flops", float("nan")),
        collectives=hlo.collectives(compiled.as_text()),
        seconds=time.perf_counter() - started,
    )


def capacity(devices: list[jax.Device]) -> int | None:
    """Bytes of memory of each device; of a CPU, its share of the machine's; None if not known."""
    device = devices[0]
    if device.device_kind in HBM:
        chips = len({tuple(device.coords) for device in devices})
        return int(HBM[device.device_kind] * 2**30 * chips / len(devices))
    if device.platform == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
    return (device.memory_stats() or {}).get("bytes_limit")


def describe(program: Program) -> str:
    """Several lines: memory, arithmetic and communication of a step."""
    clips = program.batch_size / program.devices
    arithmetic = sum(program.flops_per_clip.values())
    parts = ", ".join(f"{name} {n / 1e9:.3g}" for name, n in program.flops_per_clip.items())
    verdict = "capacity not known"
    if program.capacity:
        verdict = (
            f"{'fits' if program.fits else 'DOES NOT FIT'} {program.capacity / 2**30:.2f} GiB of a "
            f"{program.kind}, of which {USABLE:.0%} may be used"
        )
    return "\n".join(
        [
            f"{program.target}: {program.devices} x {program.kind}, {program.batch_size} clips a "
            f"step, {clips:g} on each; traced and compiled in {program.seconds:.0f} s",
            "memory of a device, GiB:",
            *(f"  {kind:<14}{size / 2**30:8.2f}" for kind, size in program.memory.items()),
            f"  {verdict}",
            f"arithmetic: {arithmetic / 1e9:.4g} GFLOP a clip ({parts}), "
            f"{arithmetic * clips / 1e12:.2f} TFLOP a device and step",
            f"  XLA counts {program.flops_of_compiler / 1e12:.2f} TFLOP: it takes each scan over "
            "layers for one layer",
            "collectives of a step:",
            *(
                f"  {kind:<20}{count:5d}{size / 1e6:10.1f} MB"
                for kind, (count, size) in sorted(hlo.by_kind(program.collectives).items())
            ),
            *([] if program.collectives else ["  none"]),
        ]
    )


def advice(config: ml_collections.ConfigDict) -> str:
    """What a config has left to try where memory does not suffice, the cheapest first."""
    parallel = config.parallel
    left = {"none": ["dots", "full"], "dots": ["full"], "full": []}[parallel.remat]
    ways = [f"--config.parallel.remat={policy}" for policy in left]
    ways.append(f"--config.parallel.fsdp={max(2, 2 * parallel.fsdp)}")
    ways.append(f"--config.parallel.accumulate={2 * parallel.accumulate}")
    ways.append("a smaller --config.batch_size, or more devices")
    return "; ".join(ways)


def _memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    found = compiled.memory_analysis()
    memory = {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes,
        "aliased": found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "code": found.generated_code_size_in_bytes,
    }
    # The sum, since what the compiler calls peak leaves the program's own code out.
    return memory | {"peak": sum(memory.values()) - 2 * memory["aliased"]}


def _refusal(program: Program, config: ml_collections.ConfigDict) -> str:
    return (
        f"the step needs {program.memory['peak'] / 2**30:.2f} GiB on each {program.kind} of "
        f"{program.target}; allowed: {USABLE:.0%} of {program.capacity / 2**30:.2f} GiB; "
        f"try {advice(config)}"
    )


@contextlib.contextmanager
def _compilers_refusal(config: ml_collections.ConfigDict, target: str):
    """Says in one line that the compiler has found no way to fit a program."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = next((line for line in str(error).splitlines() if "Used" in line), str(error))
        raise DoesNotFitError(
            f"the step does not fit {target}: {' '.join(reason.split())}; try {advice(config)}"
        ) from None


def _placed(shapes, shardings):
    """Shapes with shardings, in the dtypes that devices hold."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(
            x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=s
        ),
        shapes,
        shardings,
    )
