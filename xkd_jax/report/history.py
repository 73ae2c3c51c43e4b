"""What a run has written of its training: `metrics.jsonl`, and when it was started again."""

import contextlib
import math
import pathlib
import re
import struct
import types
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from xkd_jax import data_log, telemetry

# Titles, and the names of metrics that belong in one chart; in the order of the report.
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
    "Gradient norms": r"gradient_norm/",
    "Update norms": r"update_norm/",
    "Parameter norms": r"parameter_norm/",
    "Learning rate": r"schedule/learning_rate$",
    "Teachers' momentum": r"schedule/ema_",
    "Teachers' temperatures": r"schedule/teacher_temperature_",
    "Throughput, clips per second": r"speed/clips_per_second$",
    "Share of the time spent waiting for data": r"speed/data_wait$",
    "Share of the clips with sound": r"data/with_sound$",
    "Clips of other recordings than those asked for": r"data/replaced$",
}
OTHERS = "Others"
_LEFT_OUT = r"speed/seconds_per_step$"  # the inverse of the throughput


class History(NamedTuple):
    """What was logged.

    Attributes:
        steps: (n,) int64, of the lines of the log, rising.
        metrics: By name, (n,) float64; NaN where a line has no such metric.
        resumes: The steps that the run had done when it was started again, as far as is known.
        torn: Lines that could not be read.
        unreadable: Why recordings could not be read, by name.
    """

    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    resumes: list[int]
    torn: int
    unreadable: Mapping[str, str] = types.MappingProxyType({})

    def __len__(self) -> int:
        return len(self.steps)

    def last(self, name: str) -> float:
        """The last value of a metric; NaN where it was never logged."""
        values = self.metrics.get(name, np.array([math.nan]))
        known = values[np.isfinite(values)]
        return float(known[-1]) if len(known) else math.nan


def read(workdir: pathlib.Path) -> History | None:
    """Reads the log of a run, which may still be going on; None where there is none."""
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        return None
    lines: dict[int, dict[str, float]] = {}
    torn = 0
    for line in path.read_bytes().splitlines():
        if (found := telemetry.read_line(line)) is None:
            torn += 1
        else:
            step, lines[step] = found
    steps = sorted(lines)
    names = dict.fromkeys(name for step in steps for name in lines[step])
    metrics = {
        name: np.array([lines[step].get(name, math.nan) for step in steps]) for name in names
    }
    resumes = _resumes(workdir / "tensorboard", steps)
    unreadable = data_log.read(workdir)
    return History(np.array(steps, np.int64), metrics, resumes, torn, unreadable)


def charts(history: History) -> dict[str, list[str]]:
    """Says which metrics belong in one chart.

    Returns:
        Names of metrics by the chart's title. Those of a kind that nobody has named have one
        themselves, so that a new term is not missed.
    """
    left = [name for name in history.metrics if not re.match(_LEFT_OUT, name)]
    if not np.nan_to_num(history.metrics.get(data_log.REPLACED, 0)).any():
        left = [name for name in left if name != data_log.REPLACED]
    found = {}
    for title, pattern in CHARTS.items():
        found[title] = [name for name in left if re.match(pattern, name)]
        left = [name for name in left if name not in found[title]]
    found[OTHERS] = left
    return {title: names for title, names in found.items() if names}


def key(title: str) -> str:
    """A chart's title as a name for files and elements."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def _resumes(folder: pathlib.Path, steps: list[int]) -> list[int]:
    """Steps of new starts: every start of a run opens a TensorBoard file of its own.

    A start is placed at the last line of the log before the first one that it wrote.
    """
    starts = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        first = _first_step(path)
        if first is not None:
            starts.append(first)
    before = {max((step for step in steps if step < first), default=0) for first in starts}
    return sorted(before - {0})


def _first_step(path: pathlib.Path) -> int | None:
    """The first step that a TensorBoard file tells of; None for an empty or a torn file."""
    from tensorboard.compat.proto.event_pb2 import Event

    size = path.stat().st_size
    with path.open("rb") as file, contextlib.suppress(Exception):  # whatever is made of a torn file
        # TFRecord: length and its checksum, the event and its checksum. TensorBoard's own reader
        # brings TensorFlow in.
        while len(header := file.read(12)) == 12:
            length = min(struct.unpack("<Q", header[:8])[0], size)  # a torn one may say anything
            event = Event.FromString(file.read(length))
            if event.HasField("summary") and event.step:
                return int(event.step)
            file.read(4)
    return None
