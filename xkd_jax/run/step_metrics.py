"""Metrics of the steps of a run: brought to the host late, checked, and logged."""

import math
from collections.abc import Callable, Mapping

import flax.struct
import jax
import numpy as np

from xkd_jax.run import bottlenecks, telemetry


class NonFiniteError(RuntimeError):
    """A metric of the step is not a finite number."""


@flax.struct.dataclass
class Metrics:
    """Metrics of one step, in one array so that they reach the host in one small copy.

    Attributes:
        names: Names of the metrics, in the order of the step's dict, which JAX would sort.
        values: `(len(names),)` float32.
    """

    names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    values: jax.Array

    def to_floats(self, step: int) -> dict[str, float]:
        """Waits for the values and copies them to the host.

        Args:
            step: The step that they belong to, for the error.

        Returns:
            The metrics as floats, by name.

        Raises:
            NonFiniteError: A metric is not finite. The message names the step and the first one.
        """
        floats = dict(zip(self.names, np.asarray(self.values).tolist(), strict=True))
        _refuse_non_finite(step, floats)
        return floats


class Monitor:
    """Checks and logs metrics. It reads those of a step after the next is queued: no device idles.

    Args:
        interval: Averages the metrics between two lines of the log.
        log: Where to log them.
        every_steps: Steps between two lines of the log.
        data_metrics: Returns the metrics of the data since its last call.
        look: Called with the step and the metrics of each line of the log.
    """

    def __init__(
        self,
        interval: telemetry.Interval,
        log: telemetry.Telemetry,
        every_steps: int,
        data_metrics: Callable[[], dict[str, float]],
        look: Callable[[int, Mapping[str, float]], None],
    ) -> None:
        self._interval = interval
        self._data_metrics = data_metrics
        self._log = log
        self._look = look
        self._every_steps = every_steps
        self._bottlenecks = bottlenecks.Bottlenecks()
        self._in_flight = None
        self._step = None

    def watch(self, step: int, metrics: Metrics) -> None:
        """Stores the metrics of a dispatched step, and settles those of the step before."""
        self.settle()
        self._in_flight = (step, metrics)

    def settle(self, logs: bool = True) -> None:
        """Waits for the step in flight, checks its metrics, and logs them if an interval ends.

        Args:
            logs: Whether to log; False if `add` follows, which logs them together with others.
        """
        if self._in_flight is None:
            return
        (self._step, metrics), self._in_flight = self._in_flight, None
        with self._interval.on_devices():
            floats = metrics.to_floats(self._step)
        self._interval.add(floats)
        if logs and self._step % self._every_steps == 0:
            away, means = self._interval.away(), self._log_interval()
            self._bottlenecks.look(self._step, means["speed/data_wait"], away)

    def add(self, metrics: dict[str, float]) -> None:
        """Ends the interval at the step just settled; logs it with more metrics of that step."""
        _refuse_non_finite(self._step, metrics)
        self._log_interval(metrics)

    def finish(self) -> None:
        """Settles the last step, and logs the steps since the last line of the log."""
        self.settle()
        if len(self._interval):
            self._log_interval()

    def _log_interval(self, evaluation: dict[str, float] | None = None) -> dict[str, float]:
        """Ends the interval, and logs its metrics with those of an evaluation; returns all."""
        metrics = self._interval.close() | self._data_metrics() | (evaluation or {})
        self._log.scalars(self._step, metrics)
        self._look(self._step, metrics)
        return metrics


def _refuse_non_finite(step: int, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"Step {step}: {name} is {value}")
