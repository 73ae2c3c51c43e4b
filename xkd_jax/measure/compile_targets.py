"""Target devices to compile for that need not be here: TPU slices and NVIDIA GPUs."""

import importlib
import importlib.util
import os
import re
from typing import NamedTuple

import jax
from jax.experimental import topologies

from xkd_jax.measure import hardware

LOCAL = "local"


class TargetError(ValueError):
    """The target is unknown or its compiler is not installed; the message is one line."""


class Gpu(NamedTuple):
    """Properties of a GPU that XLA needs to compile for it.

    Attributes:
        name: Name that its driver reports.
        capability: Compute capability, (major, minor).
        multiprocessors: Number of multiprocessors.
        lanes: Number of float32 units in each multiprocessor.
        shared_memory: Bytes of shared memory in each multiprocessor; a block of threads may use 1
            KiB less.
        cache: Bytes of the L2 cache.
        gigahertz: Highest clock rate.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    lanes: int
    shared_memory: int
    cache: int
    gigahertz: float


_HOPPER = {"capability": (9, 0), "multiprocessors": 132, "lanes": 128, "shared_memory": 233_472}
_AMPERE = {"capability": (8, 0), "multiprocessors": 108, "lanes": 64, "shared_memory": 167_936}
GPUS = {
    "a100": Gpu("NVIDIA A100-SXM4-40GB", cache=41_943_040, gigahertz=1.41, **_AMPERE),
    "a100-80gb": Gpu("NVIDIA A100-SXM4-80GB", cache=41_943_040, gigahertz=1.41, **_AMPERE),
    "h100": Gpu("NVIDIA H100 80GB HBM3", cache=52_428_800, gigahertz=1.98, **_HOPPER),
    "h200": Gpu("NVIDIA H200", cache=52_428_800, gigahertz=1.98, **_HOPPER),
    "b200": Gpu("NVIDIA B200", (10, 0), 148, 128, 233_472, 132_644_864, 1.965),
}
_GPU_TARGET = re.compile(r"([a-z]+\d+(?:-\w+)?)(?::(?:(\d+)x)?(\d+))?")
_PLUGIN = "jax_plugins.xla_cuda13"
# Autotuning, and the choice of XLA's Triton matrix products, would measure on the device.
_XLA_FLAGS = ("--xla_gpu_autotune_level=0", "--xla_gpu_enable_triton_gemm=false")
_ALLOWED = (
    f"allowed: local; a GPU, out of {', '.join(GPUS)}, or several such as h100:8 and h100:4x8 "
    "(hosts x devices); or a TPU topology such as v5e:4x4, v5p:2x2x4 or v6e:16x16"
)


def find(target: str) -> list[jax.Device]:
    """Returns the devices of a target. Devices that are not here can only be compiled for.

    Args:
        target: `local`; a GPU such as `h100`, eight GPUs such as `h100:8`, four hosts of eight GPUs
            such as `h100:4x8`; or a TPU topology such as `v5e:16x16`.

    Returns:
        The devices.

    Raises:
        TargetError: The target is unknown, or its compiler is not installed.
    """
    if target == LOCAL:
        return jax.devices()
    # JAX must not look for devices here or in the cloud, which other processes may be using.
    jax.config.update("jax_platforms", "cpu")
    gpu = _GPU_TARGET.fullmatch(target)
    if gpu and gpu[1] in GPUS:
        return _gpus(target, GPUS[gpu[1]], int(gpu[2] or 1), int(gpu[3] or 1))
    return _tpus(target)


def _gpus(target: str, gpu: Gpu, hosts: int, devices: int) -> list[jax.Device]:
    if not hosts * devices:
        raise TargetError(f"--compile_for={target}; {_ALLOWED}")
    if not _is_installed(_PLUGIN):
        raise TargetError(
            f"--compile_for={target} needs JAX's plugin for GPUs, of 4 GB: install the extra "
            f"`cuda`, or 'jax[cuda13]=={jax.__version__}'"
        )
    flags = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in flags}
    flags += [flag for flag in _XLA_FLAGS if flag.partition("=")[0] not in names]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    # Programs for a device that is not here cannot be read back from the cache.
    jax.config.update("jax_enable_compilation_cache", False)
    importlib.import_module(_PLUGIN)
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=_description(gpu), topology=f"1x{hosts}x{devices}"
    )
    return list(topology.devices)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is missing
        return False


def _description(gpu: Gpu) -> str:
    """Formats a GPU as XLA's `GpuTargetConfigProto`, in protobuf's text format."""
    versions = importlib.import_module("jax_cuda13_plugin._versions")
    cudnn, runtime = versions.cudnn_get_version(), versions.cuda_runtime_get_version()
    chip = hardware.CHIPS[gpu.name]
    major, minor = gpu.capability
    extension = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {gpu.shared_memory - 1024}
  shared_memory_per_core: {gpu.shared_memory}
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  core_count: {gpu.multiprocessors}
  fpus_per_core: {gpu.lanes}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  device_memory_size: {chip.memory}
  memory_bandwidth: {int(chip.bandwidth)}
  l2_cache_size: {gpu.cache}
  clock_rate_ghz: {gpu.gigahertz}
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {extension} }}
  runtime_version: "{runtime // 1000}.{runtime % 1000 // 10}.{runtime % 10}"
}}
platform_name: "CUDA"
dnn_version_info {{ major: {cudnn // 10000} minor: {cudnn % 10000 // 100} patch: {cudnn % 100} }}
device_description_str: "{gpu.name}"
"""


def _tpus(target: str) -> list[jax.Device]:
    if not _is_installed("libtpu"):
        if ":" not in target:
            raise TargetError(f"--compile_for={target}; {_ALLOWED}")
        raise TargetError(
            f"--compile_for={target} needs libtpu, the compiler for TPUs: install the extra `tpu`, "
            f"or 'jax[tpu]=={jax.__version__}'"
        )
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        return list(topologies.get_topology_desc(target, "tpu").devices)
    except jax.errors.JaxRuntimeError as error:
        reason = " ".join(str(error).split())
        raise TargetError(f"--compile_for={target}; {_ALLOWED} ({reason})") from None
