"""The training log of a run: its `metrics.jsonl`, and the steps after which it was resumed."""

import math
import pathlib
import re
import types
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from xkd_jax.run import data_log, starts, telemetry

# By title of a chart, the pattern of its metrics' names; in the order of the report.
CHARTS = {
    "Total loss": r"total$",
    "Reconstruction (masked patches)": r"reconstruction/",
    "Domain alignment (MMD)": r"alignment/",
    "Cross-modal distillation": r"distillation/",
    "KL of the teacher from its student": r"kl/",
    "Entropy of the outputs, nats": r"entropy/",
    "Share of the outputs that differs between clips": r"between_clips/",
    "Centers, root mean square": r"center_norm/",
    "Online probe (nearest neighbors)": r"probe/",
    "Online probe (linear classifier)": r"linear_probe/",
    "RankMe, directions in use": r"rankme/",
    "LiDAR, directions that tell recordings apart": r"lidar/",
    "Gradient norms": r"gradient_norm/",
    "Update norms": r"update_norm/",
    "Parameter norms": r"parameter_norm/",
    "Learning rate": r"schedule/learning_rate$",
    "Teachers' momentum": r"schedule/ema_",
    "Teachers' temperatures": r"schedule/teacher_temperature_",
    "Throughput, clips per second": r"speed/clips_per_second$",
    "Share of the time spent waiting for data": r"speed/data_wait$",
    "Processor cores that the loader uses": r"speed/loader_cores$",
    "Share of the clips with sound, with a picture": r"data/with_",
    "Clips taken from other recordings than the requested ones": r"data/replaced$",
}
OTHERS = "Others"
_LEFT_OUT = r"speed/seconds_per_step$"  # the inverse of the throughput


class Known(NamedTuple):
    """The k lines of a log in which a metric is a finite number.

    Attributes:
        steps: (k,) int64, increasing.
        values: (k,) float64.
    """

    steps: np.ndarray
    values: np.ndarray


class History(NamedTuple):
    """The log of a run, with n lines.

    Attributes:
        steps: (n,) int64, the step of each line, increasing.
        metrics: (n,) float64 of each metric, by name; NaN where a line lacks the metric.
        resumes: Steps after which the run was resumed, as far as is known.
        torn: Number of lines that could not be read.
        unreadable: Why recordings could not be read, by their names.
        data: Numbers of recordings; None if they are not known.
    """

    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    resumes: list[int]
    torn: int
    unreadable: Mapping[str, str] = types.MappingProxyType({})
    data: data_log.Counts | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def known(self, name: str) -> Known:
        """Returns the finite values of a metric, none if the log lacks it."""
        values = self.metrics.get(name, np.full(len(self), math.nan))
        finite = np.isfinite(values)
        return Known(self.steps[finite], values[finite])

    def last(self, name: str) -> float:
        """Returns the last finite value of a metric; NaN if there is none."""
        values = self.known(name).values
        return float(values[-1]) if len(values) else math.nan


def read(workdir: pathlib.Path) -> History | None:
    """Reads the log of a run, which may still be going; returns None if there is no log."""
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        return None
    lines: dict[int, dict[str, float]] = {}
    torn = 0
    for line in path.read_bytes().splitlines():
        if (parsed := telemetry.read_line(line)) is None:
            torn += 1
        else:
            step, lines[step] = parsed
    steps = sorted(lines)
    metrics = by_name([lines[step] for step in steps])
    resumes = _resumes(starts.steps(workdir / starts.FILE), steps)
    unreadable = data_log.read(workdir)
    data = data_log.read_counts(workdir)
    return History(np.array(steps, np.int64), metrics, resumes, torn, unreadable, data)


def by_name(lines: Collection[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Arranges the lines of a log by metric, as in `History`.

    Args:
        lines: Metrics by name, of each of n lines.

    Returns:
        (n,) float64 of each metric, by name; NaN where a line lacks the metric. Those about a
        modality that no recording of the run has, or about pairs of both, are left out.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    metrics = {name: np.array([line.get(name, math.nan) for line in lines]) for name in names}
    meaningless = _meaningless(metrics)
    return {name: values for name, values in metrics.items() if name not in meaningless}


def _meaningless(metrics: Mapping[str, np.ndarray]) -> list[str]:
    """Lists the metrics about a modality that no recording of the run has, or about pairs of both.

    They are constants: losses and norms of nothing.
    """
    flags = {"video": "data/with_picture", "audio": "data/with_sound"}
    absent = [m for m, flag in flags.items() if flag in metrics and not np.any(metrics[flag] > 0)]
    patterns = [rf"(reconstruction|gradient_norm|update_norm)/{m}\b" for m in absent]
    patterns += [rf"(entropy|between_clips)/{m}_" for m in absent]
    if absent:
        patterns += [
            r"(alignment|distillation|kl|center_norm)/",
            r"(entropy|between_clips)/.*_teacher",
            r"rankme/.*_outputs",
        ]
    return [name for name in metrics if any(re.match(pattern, name) for pattern in patterns)]


def charts(history: History) -> dict[str, list[str]]:
    """Groups metrics into charts.

    Returns:
        Names of metrics by the title of their chart. Metrics that no pattern matches are in the
        chart `OTHERS`, so that a new term is not missed.
    """
    unused = [name for name in history.metrics if not re.match(_LEFT_OUT, name)]
    uneventful = {data_log.REPLACED: 0, "data/with_picture": 1}  # values that say nothing
    unused = [
        name
        for name in unused
        if name not in uneventful or np.nanmax(np.abs(history.metrics[name] - uneventful[name])) > 0
    ]
    titled = {}
    for title, pattern in CHARTS.items():
        titled[title] = [name for name in unused if re.match(pattern, name)]
        unused = [name for name in unused if name not in titled[title]]
    titled[OTHERS] = unused
    return {title: names for title, names in titled.items() if names}


def key(title: str) -> str:
    """Converts a chart's title to a name for files and HTML elements."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def _resumes(start_steps: list[int], steps: list[int]) -> list[int]:
    """Finds the lines of the log, by their steps, after which the run was started again."""
    before = {max((step for step in steps if step <= start), default=0) for start in start_steps}
    return sorted(before - {0})
