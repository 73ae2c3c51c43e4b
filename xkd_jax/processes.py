"""Several processes as one run: who they are, how they find each other, and what if one stays away.

Each process of a run starts the same command. They learn of each other from flags, from Slurm, or
from the Cloud TPU that they run on; everything after that is in JAX's hands.
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
from jax._src import distributed
from jax.experimental import multihost_utils

from xkd_jax import peers

# JAX itself gives up by aborting with a stack trace. It must not come before ours.
_GRACE = 60  # seconds


class GroupError(ValueError):
    """The processes cannot make one run as they were started; the message is one line."""


class Group(NamedTuple):
    """The processes of a run, as one of them knows them.

    Attributes:
        coordinator: `HOST:PORT` of process 0; None where JAX asks the cluster for it.
        count: Number of processes; None likewise.
        index: Of this one, from 0; None likewise.
        source: Where this is known from, in words for a message.
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
    """Says which processes there are.

    Args:
        coordinator: The flag `--coordinator`, or None.
        count: The flag `--processes`, or None.
        index: The flag `--process`, or None.
        environment: Variables of the process.

    Returns:
        None where this process is all there is.

    Raises:
        GroupError: The flags are incomplete or do not go together.
    """
    flags = {"--coordinator": coordinator, "--processes": count, "--process": index}
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) < len(flags):
        if missing:
            raise GroupError(
                f"{', '.join(missing)} missing: several processes take {', '.join(flags)} together"
            )
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise GroupError(f"--coordinator is {coordinator!r}; allowed: HOST:PORT of process 0")
        if not 0 <= index < count:
            raise GroupError(f"--process is {index}; allowed with --processes={count}: 0 to less")
        return Group(coordinator, count, index, "flags")
    # Of the step, not of the job: an interactive allocation has tasks that nobody started.
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > 1:
        return Group(None, tasks, int(environment["SLURM_PROCID"]), "Slurm")
    if _on_cloud_tpu():
        return Group(None, None, None, "Cloud TPU")
    return None


def join(group: Group, seconds: float) -> None:
    """Meets the other processes. To be called before any device is asked for.

    Where a process stays away, those that came print one line and exit with code 1: nothing else
    can be done from here, since JAX waits in a call that cannot be interrupted.

    Args:
        group: See `find`.
        seconds: How long to wait.
    """
    with _deadline(seconds, _absence(group, seconds)):
        # Until there is something to save, signals end the processes.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            coordinator_address=group.coordinator,
            num_processes=group.count if group.coordinator else None,
            process_id=group.index if group.coordinator else None,
            initialization_timeout=round(seconds) + _GRACE,
            # That one is lost is for `peers` to find, before JAX does.
            heartbeat_timeout_seconds=round(10 * peers.SECONDS),
            shutdown_timeout_seconds=round(peers.SECONDS),
        )


def check_same(text: str, what: str) -> None:
    """Compares a text between all processes: those of one run must not be told different things.

    Args:
        text: This process's.
        what: It is, in words for the message.

    Raises:
        GroupError: The texts differ; it names the processes whose text is not process 0's.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(
        hashlib.sha256(text.encode(errors="backslashreplace")).digest(), np.uint8
    )
    digests = np.asarray(multihost_utils.process_allgather(digest))
    others = [i for i, other in enumerate(digests) if not np.array_equal(other, digests[0])]
    if others:
        raise GroupError(
            f"{what} of process {', '.join(map(str, others))} is not that of process 0; "
            "start all processes with the same flags and the same code"
        )


def hear_of_preemption() -> None:
    """From here on, SIGTERM in any process is JAX's, which has all agree on the step to stop at."""
    state = distributed.global_state
    if state.preemption_sync_manager:  # of a training before this one
        state.preemption_sync_manager.shutdown()
        state.preemption_sync_manager = None
    jax.config.update("jax_enable_preemption_service", True)
    state.initialize_preemption_sync_manager()


@contextlib.contextmanager
def _deadline(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with a message if what is inside takes longer."""

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
    """What to say where the processes have not met."""
    who = "this process" if group.count is None else f"process {group.index} of {group.count}"
    where = f" at {group.coordinator}" if group.coordinator else f" that {group.source} tells of"
    return (
        f"{who} has not met the others{where} within {seconds:g} s (--join_seconds): start all of "
        "them with the same flags, and see that each reaches that address and what others logged"
    )


def _on_cloud_tpu() -> bool:
    """Whether there are TPUs here; one worker alone is a group of one."""
    chips = any(os.path.exists(path) for path in ("/dev/accel0", "/dev/vfio/0"))
    return chips and importlib.util.find_spec("libtpu") is not None
