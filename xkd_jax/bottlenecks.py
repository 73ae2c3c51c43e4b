"""Says what holds a run up while it runs: once for each cause, with what to do about it."""

import sys
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

# Share of the time spent waiting for data above which that is said.
DATA_WAIT = 0.2
# How much more of its time than the median process one may spend away from its devices.
LAG = 0.2


def gather(share: float) -> np.ndarray:
    """One number of each process, (processes,) float32, for all of them."""
    return multihost_utils.process_allgather(np.float32(share)).reshape(-1)


class Bottlenecks:
    """Looks at each interval of the log but the first, in which data and caches warm up.

    That a step compiles anew is not looked for: it is compiled ahead of time, and cannot.

    Args:
        processes: Their number.
        gather: `share -> (processes,)`, which all processes call together.
    """

    def __init__(
        self, processes: int | None = None, gather: Callable[[float], np.ndarray] = gather
    ):
        self._processes = jax.process_count() if processes is None else processes
        self._gather = gather
        self._intervals = 0
        self._said: set[str] = set()

    def look(self, step: int, data_wait: float, away: float) -> None:
        """Looks at an interval, in all processes at the same step.

        Args:
            step: At which it ended.
            data_wait: Share of its time that this process waited for data.
            away: Share that it did not wait for its devices: data, and work of its own. Where one
                is away for longer, the devices of all others wait for its devices.
        """
        self._intervals += 1
        if self._intervals == 1:
            return
        # What it depends on is the same in all processes, so all come to gather, or none.
        if self._processes > 1 and "lag" not in self._said:
            shares = self._gather(away)
            slowest, median = int(shares.argmax()), float(np.median(shares))
            if shares[slowest] - median > LAG:
                self._say(
                    "lag",
                    f"step {step}: all wait for process {slowest}, which spends "
                    f"{shares[slowest]:.0%} of its time away from its devices, the median process "
                    f"{median:.0%}: see to its disk, its cores, and what else runs there",
                )
        if data_wait > DATA_WAIT and "data" not in self._said:
            self._say(
                "data",
                f"step {step}: {data_wait:.0%} of the time goes into waiting for data: prepare "
                "them (python -m input_pipeline.prepare), raise --config.data.threads, or give "
                "more cores; python -m input_pipeline.benchmark says how fast they come",
            )

    def _say(self, cause: str, text: str) -> None:
        self._said.add(cause)
        if jax.process_index() == 0:
            print(f"warning: {text} (said once)", file=sys.stderr, flush=True)
