"""Warns about bottlenecks while a run trains: once for each cause, with what to do about it."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from xkd_jax.run import console

# Largest share of the time that a process may wait for data without a warning.
DATA_WAIT = 0.2
# Largest excess over the median process in the share of the time away from the devices.
LAG = 0.2


def gather(share: float) -> np.ndarray:
    """Gathers one number of each process, (processes,) float32, in all processes."""
    return multihost_utils.process_allgather(np.float32(share)).reshape(-1)


class Bottlenecks:
    """Checks each interval of the log except the first, in which data and caches warm up.

    Recompilation is not checked: the step is compiled ahead of time and cannot compile again.

    Args:
        processes: Number of processes; JAX's number by default.
        gather: Function `share -> (processes,)`, which all processes call together.
    """

    def __init__(
        self, processes: int | None = None, gather: Callable[[float], np.ndarray] = gather
    ) -> None:
        self._processes = jax.process_count() if processes is None else processes
        self._gather = gather
        self._intervals = 0
        self._once = console.Once()

    def look(self, step: int, data_wait: float, away: float) -> None:
        """Checks an interval. All processes must call it at the same step.

        Args:
            step: Step at the end of the interval.
            data_wait: Share of the time that this process waited for data.
            away: Share of the time that this process did not wait for its devices: it waited for
                data or worked itself. If it is away longer than the others, their devices wait for
                its devices.
        """
        self._intervals += 1
        if self._intervals == 1:
            return
        # The condition is equal in all processes, so either all gather or none.
        if self._processes > 1 and "lag" not in self._once:
            shares = self._gather(away)
            slowest, median = int(shares.argmax()), float(np.median(shares))
            if shares[slowest] - median > LAG:
                self._once.warn(
                    "lag",
                    f"step {step}: all wait for process {slowest}, which spends "
                    f"{shares[slowest]:.0%} of its time away from its devices, the median process "
                    f"{median:.0%}: check its disk, its cores, and what else runs there",
                )
        if data_wait > DATA_WAIT and "data" not in self._once:
            self._once.warn(
                "data",
                f"step {step}: {data_wait:.0%} of the time goes into waiting for data: prepare "
                "them (python -m input_pipeline.prepare), raise --config.data.threads, or use "
                "more cores; python -m input_pipeline.benchmark measures the speed of the loader",
            )
