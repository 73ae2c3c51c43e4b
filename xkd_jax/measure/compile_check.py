"""Compiles the training step for devices that need not be here, and checks that it fits them.

    python -m xkd_jax.main --config=configs/k400.py --compile_for=h100
    python -m xkd_jax.main --config=configs/k400.py --compile_for=v5e:16x16

The program is the one that a run on those devices would execute, with the same step, shardings and
compiler. No data are read and no parameters are created. The compilers are in JAX's plugin for GPUs
and in `libtpu`, and work without the devices. `--compile_for=local` compiles for the devices of
this machine.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import ml_collections

from xkd_jax import sharding
from xkd_jax.measure import compile_targets, hardware, hlo, step_shapes, traffic
from xkd_jax.run import loop
from xkd_jax.run.command_line import USABLE_MEMORY


class DoesNotFitError(ValueError):
    """The step needs more memory than a device has; the message is one line with advice."""


class Program(NamedTuple):
    """A compiled training step; sizes are in bytes per device.

    Attributes:
        target: Name of the target, such as `v5e:16x16`.
        devices: Number of devices.
        kind: JAX's name of the devices.
        capacity: Memory of a device; None if unknown.
        chip: Peak speeds of a device; None if unknown.
        batch_size: Examples per step, over all devices.
        memory: Memory by kind: `arguments` (the state and a batch), `outputs`, `aliased` (outputs
            that overwrite arguments), `temporaries`, `code`, and `peak`, the most that is needed at
            once.
        flops_per_clip: Operations of the matrix products by part (xkd_jax/measure/flops.py).
        flops_of_compiler: XLA's count of a device's operations in a step, which counts the body of
            a loop once, such as one layer of a scan; None if XLA does not count.
        bytes_moved: Bytes that a device moves in a step between its memory and its processors
            (xkd_jax/measure/traffic.py).
        collectives: Collectives of a step; every device takes part in each.
        seconds: Seconds that compilation took.
    """

    target: str
    devices: int
    kind: str
    capacity: int | None
    chip: hardware.Chip | None
    batch_size: int
    memory: dict[str, int]
    flops_per_clip: dict[str, float]
    flops_of_compiler: float | None
    bytes_moved: int
    collectives: list[hlo.Collective]
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether the step fits into `USABLE_MEMORY` of the memory; True if that is unknown."""
        return self.capacity is None or self.memory["peak"] <= USABLE_MEMORY * self.capacity


def check(config: ml_collections.ConfigDict, target: str) -> None:
    """Compiles the step of a config, prints what it needs, and refuses it if it does not fit.

    Call it before JAX looks for devices.

    Args:
        config: Config of pretraining, finetuning or an attentive probe, see configs/.
        target: Name of the target, see `compile_targets.find`.

    Raises:
        ValueError: The config is impossible.
        TargetError: The target is unknown, or its compiler is not installed.
        DoesNotFitError: The step does not fit. The message says what to change.
    """
    step_shapes.check(config)
    program = compile_program(config, target, compile_targets.find(target))
    print(describe(program), flush=True)
    if not program.fits:
        raise DoesNotFitError(_refusal(program, config))


def compile_program(
    config: ml_collections.ConfigDict, target: str, devices: list[jax.Device]
) -> Program:
    """Compiles the step of a config.

    Args:
        config: Config of pretraining, finetuning or an attentive probe.
        target: Name of the target, for the report.
        devices: Devices to compile for, from `compile_targets.find`.

    Returns:
        The compiled step's properties.

    Raises:
        ValueError: The config does not work with this number of devices.
        DoesNotFitError: The compiler itself refuses the step.
    """
    mesh = sharding.make_mesh(config.parallel.fsdp, devices)
    accumulate = config.parallel.get("accumulate", 1)
    sharding.check_batch_size(config.batch_size, mesh, accumulate=accumulate)
    started = time.perf_counter()
    step = step_shapes.make(config, mesh)
    with _compilers_refusal(config, target):
        compiled = compile_step(step, mesh)
    text = compiled.as_text()
    return Program(
        target=target,
        devices=mesh.size,
        kind=devices[0].device_kind,
        capacity=hardware.capacity(devices),
        chip=hardware.per_device(devices),
        batch_size=config.batch_size,
        memory=_memory(compiled),
        flops_per_clip=step.flops_per_clip,
        flops_of_compiler=(compiled.cost_analysis() or {}).get("flops"),
        bytes_moved=traffic.total(traffic.kernels(text)),
        collectives=hlo.collectives(text),
        seconds=time.perf_counter() - started,
    )


def compile_step(step: step_shapes.StepShapes, mesh: jax.sharding.Mesh) -> jax.stages.Compiled:
    """Compiles a step as a run on the mesh does; the devices need not be here."""
    state = sharding.with_shardings(step.state, sharding.state_shardings(step.state, mesh))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    step_args = sharding.with_shardings(
        step.step_args, jax.tree.map(lambda _: everywhere, step.step_args)
    )
    batch = sharding.with_shardings(
        step.batch, jax.tree.map(lambda _: sharding.batch_sharding(mesh), step.batch)
    )
    return loop.compile_step(step.step_fn, state, batch, mesh, step_args)


def describe(program: Program) -> str:
    """Formats the memory, arithmetic, traffic and communication of a step in several lines."""
    clips = program.batch_size / program.devices
    arithmetic = sum(program.flops_per_clip.values())
    parts = ", ".join(f"{name} {n / 1e9:.3g}" for name, n in program.flops_per_clip.items())
    verdict = "capacity not known"
    if program.capacity:
        verdict = (
            f"{'fits' if program.fits else 'DOES NOT FIT'} {program.capacity / 2**30:.2f} GiB of a "
            f"{program.kind}, of which {USABLE_MEMORY:.0%} may be used"
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
            *_flops_of_compiler(program),
            f"bytes moved: {program.bytes_moved / clips / 1e9:.4g} GB a clip, "
            f"{program.bytes_moved / 1e9:.4g} GB a device and step",
            *_bounds(program),
            "collectives of a step:",
            *(
                f"  {kind:<20}{count:5d}{size / 1e6:10.1f} MB"
                for kind, (count, size) in sorted(hlo.by_kind(program.collectives).items())
            ),
            *([] if program.collectives else ["  none"]),
        ]
    )


def _flops_of_compiler(program: Program) -> list[str]:
    if not program.flops_of_compiler:
        return []
    return [
        f"  XLA counts {program.flops_of_compiler / 1e12:.2f} TFLOP: it counts each scan over "
        "layers as one layer"
    ]


def _bounds(program: Program) -> list[str]:
    """Formats the least time of a step, if the speeds of the devices are known."""
    chip = program.chip
    if chip is None:
        return []
    clips = program.batch_size / program.devices
    rate = hardware.REACHED * chip.flops
    arithmetic = sum(program.flops_per_clip.values()) * clips / rate
    memory = program.bytes_moved / chip.bandwidth
    return [
        f"time of a step: at least {1e3 * arithmetic:.0f} ms of arithmetic at {rate / 1e12:.0f} "
        f"TFLOP/s ({hardware.REACHED:.0%} of the peak in bfloat16), and {1e3 * memory:.0f} ms of "
        f"memory at {chip.bandwidth / 1e12:.3g} TB/s; one after the other "
        f"{1e3 * (arithmetic + memory):.0f} ms, {program.batch_size / (arithmetic + memory):.0f} "
        "clips/s"
    ]


def advice(config: ml_collections.ConfigDict) -> str:
    """Lists the settings that would save memory, the cheapest first."""
    parallel = config.parallel
    # An attentive probe has no `remat`, since its encoders have no backward pass.
    remat = parallel.get("remat", "full")
    policies = {"none": ["dots", "full"], "dots": ["full"], "full": []}[remat]
    ways = [f"--config.parallel.remat={policy}" for policy in policies]
    ways.append(f"--config.parallel.fsdp={max(2, 2 * parallel.fsdp)}")
    if "accumulate" in parallel:
        ways.append(f"--config.parallel.accumulate={2 * parallel.accumulate}")
    if "grid" in config:
        ways.append("fewer --config.grid.learning_rates")
    ways.append("a smaller --config.batch_size, or more devices")
    return "; ".join(ways)


def _memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    sizes = compiled.memory_analysis()
    memory = {
        "arguments": sizes.argument_size_in_bytes,
        "outputs": sizes.output_size_in_bytes,
        "aliased": sizes.alias_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "code": sizes.generated_code_size_in_bytes,
    }
    # The sum, because the peak of the compiler does not include the program's code.
    return memory | {"peak": sum(memory.values()) - 2 * memory["aliased"]}


def _refusal(program: Program, config: ml_collections.ConfigDict) -> str:
    return (
        f"the step needs {program.memory['peak'] / 2**30:.2f} GiB on each {program.kind} of "
        f"{program.target}; allowed: {USABLE_MEMORY:.0%} of {program.capacity / 2**30:.2f} GiB; "
        f"try {advice(config)}"
    )


@contextlib.contextmanager
def _compilers_refusal(config: ml_collections.ConfigDict, target: str) -> Iterator[None]:
    """Reports in one line that the compiler has found no way to fit the program."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = next((line for line in str(error).splitlines() if "Used" in line), str(error))
        raise DoesNotFitError(
            f"the step does not fit {target}: {' '.join(reason.split())}; try {advice(config)}"
        ) from None
