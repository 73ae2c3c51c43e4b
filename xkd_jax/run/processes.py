"""Joins several processes to one run, and ends them if one does not come.

Every process of a run starts the same command. Flags, Slurm or the Cloud TPU say which processes
there are; JAX connects them.
"""

import contextlib
import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax._src import clusters
from jax.experimental import multihost_utils

from input_pipeline.programs.wording import counted
from xkd_jax.run import peers, relay

# JAX itself gives up with an abort and a stack trace, this many seconds after `join` does.
_GRACE = 60


class GroupError(ValueError):
    """The processes cannot form one run as they were started; the message is one line."""


class Group(NamedTuple):
    """The processes of a run, from the view of one of them.

    Attributes:
        coordinator: `HOST:PORT` of process 0; None if JAX asks the cluster for it.
        count: Number of processes; None if JAX asks the cluster for it.
        index: Number of this process, from 0; None if JAX asks the cluster for it.
        source: Where this information comes from, for messages.
    """

    coordinator: str | None
    count: int | None
    index: int | None
    source: str


def find(
    coordinator: str | None,
    count: int | None,
    index: int | None,
    environment: Mapping[str, str] = os.environ,
) -> Group | None:
    """Finds out which processes the run has.

    Args:
        coordinator: Value of the flag `--coordinator`, or None.
        count: Value of the flag `--processes`, or None.
        index: Value of the flag `--process`, or None.
        environment: Environment variables of this process.

    Returns:
        The processes; None if this is the only one.

    Raises:
        GroupError: Flags are missing or contradict each other.
    """
    flags = {"--coordinator": coordinator, "--processes": count, "--process": index}
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) < len(flags):
        if missing:
            raise GroupError(
                f"{', '.join(missing)} missing: several processes need all of {', '.join(flags)}"
            )
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise GroupError(f"--coordinator is {coordinator!r}; allowed: HOST:PORT of process 0")
        if not 0 <= index < count:
            raise GroupError(f"--process is {index}; allowed: 0 to {count - 1}, below --processes")
        return Group(coordinator, count, index, "flags")
    # The tasks of the step, because an interactive job has tasks that nobody has started.
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > 1:
        return Group(None, tasks, int(environment["SLURM_PROCID"]), "Slurm")
    if _on_cloud_tpu():
        return Group(None, None, None, "Cloud TPU")
    return None


def join(group: Group, seconds: float) -> None:
    """Connects to the other processes. Call it before JAX looks for devices.

    If a process does not come, the others print one line and exit with code 1. They cannot raise an
    error, because JAX waits in a call that cannot be interrupted.

    Args:
        group: The processes, from `find`.
        seconds: Seconds to wait.
    """
    with _deadline(seconds, _absence(group, seconds)):
        # Signals end the processes until there is something to save.
        jax.config.update("jax_enable_preemption_service", False)
        address, index = _place(group, seconds)
        jax.distributed.initialize(
            coordinator_address=relay.Relay(address).address if index else address,
            num_processes=group.count if group.coordinator else None,
            process_id=group.index if group.coordinator else None,
            initialization_timeout=round(seconds) + _GRACE,
            # Long, so that `peers` notices a lost process before JAX does.
            heartbeat_timeout_seconds=round(10 * peers.SECONDS),
            shutdown_timeout_seconds=round(peers.SECONDS),
        )


def _place(group: Group, seconds: float) -> tuple[str | None, int | None]:
    """Returns the coordinator's address and the number of this process, as JAX finds them out."""
    if group.coordinator:
        return group.coordinator, group.index
    address, _, index, _ = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        os.environ.get("JAX_COORDINATOR_ADDRESS"), None, None, None, None, round(seconds) + _GRACE
    )
    return address, index


def check_same(text: str, subject: str) -> None:
    """Checks that a text, such as the config, is the same in all processes.

    Args:
        text: Text of this process.
        subject: What the text is, for the message.

    Raises:
        GroupError: The texts differ. The message names the processes that differ from process 0.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(
        hashlib.sha256(text.encode(errors="backslashreplace")).digest(), np.uint8
    )
    digests = np.asarray(multihost_utils.process_allgather(digest))
    differing = [i for i, other in enumerate(digests) if not np.array_equal(other, digests[0])]
    if differing:
        raise GroupError(
            f"{subject} of process {', '.join(map(str, differing))} differs from that of process "
            "0; all processes need the same flags, code and data"
        )


def is_first() -> bool:
    """Returns whether this is the process that writes files and prints: one of a run."""
    return jax.process_index() == 0


def describe() -> str:
    """Describes the hardware of the run, such as "8 TPU v5 lite devices, 2 processes"."""
    devices = counted(jax.device_count(), f"{jax.devices()[0].device_kind} device")
    return f"{devices}, {counted(jax.process_count(), 'process')}"


def place() -> dict[str, int]:
    """Returns the place of this process among all, as arguments of data loaders."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def meet(name: str) -> None:
    """Waits until all processes are here.

    At its end, a program calls this so that no process outlives the first one, whose service
    connects them all.

    Args:
        name: Name of the place in the program, the same in all processes.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def _deadline(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with a message if the block takes longer."""

    def give_up() -> None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _absence(group: Group, seconds: float) -> str:
    """Writes the message for processes that have not met."""
    who = "this process" if group.count is None else f"process {group.index} of {group.count}"
    where = f" at {group.coordinator}" if group.coordinator else f" that {group.source} names"
    return (
        f"{who} has not met the others{where} within {seconds:g} s (--join_seconds): start all of "
        "them with the same flags, and check that each reaches that address and what others logged"
    )


def _on_cloud_tpu() -> bool:
    """Returns whether this machine has TPUs, even if it is the only worker."""
    chips = any(os.path.exists(path) for path in ("/dev/accel0", "/dev/vfio/0"))
    return chips and importlib.util.find_spec("libtpu") is not None
