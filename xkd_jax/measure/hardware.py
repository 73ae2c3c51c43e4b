"""Memory, peak arithmetic and memory bandwidth of accelerators, by JAX's names of them."""

import os
from typing import NamedTuple

import jax


class Chip(NamedTuple):
    """Data of a chip from its manufacturer.

    Attributes:
        memory: Memory in bytes.
        flops: Peak of dense matrix products in bfloat16, in operations per second.
        bandwidth: Memory bandwidth in bytes per second.
    """

    memory: int
    flops: float
    bandwidth: float


def _tpu(gib: int, teraflops: float, gigabytes: float) -> Chip:
    return Chip(gib * 2**30, teraflops * 1e12, gigabytes * 1e9)


# TPUs: from Google's documentation of Cloud TPU. GPUs: from NVIDIA's data sheets, except for the
# memory, which is what the driver makes available.
CHIPS = {
    "TPU v2": _tpu(16, 45, 700),
    "TPU v3": _tpu(32, 123, 900),
    "TPU v4": _tpu(32, 275, 1200),
    "TPU v5 lite": _tpu(16, 197, 819),  # v5e
    "TPU v5": _tpu(95, 459, 2765),  # v5p
    "TPU v6 lite": _tpu(32, 918, 1640),  # v6e
    "TPU7x": _tpu(192, 2307, 7380),
    "NVIDIA A100-SXM4-40GB": Chip(42_331_013_120, 312e12, 1.555e12),
    "NVIDIA A100-SXM4-80GB": Chip(85_100_068_864, 312e12, 2.039e12),
    "NVIDIA H100 80GB HBM3": Chip(84_942_979_072, 989e12, 3.35e12),
    "NVIDIA H200": Chip(151_397_597_184, 989e12, 4.8e12),
    "NVIDIA B200": Chip(191_514_411_008, 2250e12, 7.7e12),
}
# Share of `Chip.flops` that large matrix products reach at best.
REACHED = 0.8


def per_device(devices: list[jax.Device]) -> Chip | None:
    """Returns the memory and the speed of each device; None if the chip is not known.

    Args:
        devices: All devices, of one kind. On some TPUs two devices share a chip.

    Returns:
        Each device's share of its chip, or None.
    """
    device = devices[0]
    chip = CHIPS.get(device.device_kind)
    if chip is None or device.platform != "tpu":
        return chip
    share = len({tuple(other_device.coords) for other_device in devices}) / len(devices)
    return Chip(int(chip.memory * share), chip.flops * share, chip.bandwidth * share)


def capacity(devices: list[jax.Device]) -> int | None:
    """Returns each device's memory in bytes; CPU devices share the machine's. None if unknown."""
    chip = per_device(devices)
    if chip:
        return chip.memory
    if devices[0].platform == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
    return (devices[0].memory_stats() or {}).get("bytes_limit")
