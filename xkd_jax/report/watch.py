"""What a run says about its own health while it goes, by the rules of the verdict."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from xkd_jax.report import history
from xkd_jax.report.health import monitors
from xkd_jax.report.health.findings import Advice
from xkd_jax.run import console


class Watch:
    """Warns once for each monitor that shows a collapse or falls, with what to try.

    Args:
        workdir: Folder of the run. A resumed run goes on from its log.
        config: Config of the run.
    """

    def __init__(self, workdir: str | os.PathLike, config: Mapping) -> None:
        self._workdir = pathlib.Path(workdir)
        self._outputs = config["model"]["projector"]["out"]
        self._advice = Advice(config)
        self._lines: dict[int, dict[str, float]] | None = None
        self._once = console.Once()

    def look(self, step: int, metrics: Mapping[str, float]) -> None:
        """Looks at a line of the log, which may be in the file already."""
        if self._lines is None:
            self._lines = self._logged(step)
        self._lines[step] = _watched(metrics)
        found = monitors.find_in_progress(self._history(), self._outputs, self._advice)
        for name, finding in found.items():
            tips = f" Try: {'; '.join(finding.remedies)}." if finding.remedies else ""
            self._once.warn(name, f"step {step}: {finding.text}{tips}")

    def _logged(self, step: int) -> dict[int, dict[str, float]]:
        """Reads what an earlier process of the run has logged before a step."""
        logged = history.read(self._workdir)
        if logged is None:
            return {}
        return {
            int(s): _watched({name: values[n] for name, values in logged.metrics.items()})
            for n, s in enumerate(logged.steps)
            if s < step
        }

    def _history(self) -> history.History:
        metrics = history.by_name(self._lines.values())
        return history.History(np.array(list(self._lines), np.int64), metrics, [], 0)


def _watched(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if monitors.WATCHED.match(name)}
