"""The section with everything that the run logged, as charts."""

import math
import re
from typing import NamedTuple

import numpy as np

from input_pipeline.programs.wording import counted
from xkd_jax.report import history
from xkd_jax.report.charts import Lines, Mark
from xkd_jax.report.health.verdict import Verdict
from xkd_jax.report.page import Section, escape, grid

_SHARES = re.compile(r"(between_clips|probe|linear_probe)/|data/with_|speed/data_wait$")


class _Group(NamedTuple):
    """A group of charts.

    Attributes:
        pattern: Pattern of the metrics in it.
        about: What explains its charts.
        is_open: Whether its charts are shown at first.
    """

    pattern: str
    about: str = ""
    is_open: bool = True


# By title, in the order of the page; a chart is in the first group that its metrics match.
_GROUPS = {
    "Losses": _Group(
        r"total$|(reconstruction|alignment|distillation)/",
        "Reconstruction is 1 where the network predicts each patch's mean. Distillation is named "
        "by its student.",
    ),
    "Teachers and students": _Group(
        r"(kl|entropy|between_clips|center_norm|probe|linear_probe|rankme|lidar)/",
        "KL: how far a teacher's distribution is from its student's, in nats; audio_to_video is "
        "of the audio teacher and the video student. It is 0 if the student says the same as the "
        "teacher. Centers: the running means that are subtracted from the teachers' outputs. "
        "Online probe: share of recordings whose class a classifier finds. RankMe: effective "
        "number of directions in which features lie. LiDAR: number of those in which recordings "
        "differ by more than views of one recording do.",
    ),
    "Norms and schedules": _Group(
        r"(gradient_norm|update_norm|parameter_norm|schedule)/", is_open=False
    ),
    "Data and speed": _Group(r"(speed|data)/", is_open=False),
    "Others": _Group(""),
}


def build(log: history.History, judgment: Verdict) -> Section:
    """Builds the section with a chart of each group of metrics, resumes and warnings marked."""
    section = Section("training", "Training")
    marks = [Mark(step, "resume", f"resumed after step {step}") for step in log.resumes]
    marks += [
        Mark(f.since, "warning", f.text)
        for f in judgment.findings
        if f.since is not None and f.level in ("collapsed", "warning")
    ]
    section.say(
        f"{counted(len(log), 'line')} of the log, steps {log.steps[0]} to {log.steps[-1]}. "
        "Point at a chart to read values, drag to zoom all charts, double-click to reset. ↻ marks "
        "where the run was resumed, ▲ a warning of the verdict.",
        "faint",
    )
    cards: dict[str, list[str]] = {name: [] for name in _GROUPS}
    for title, names in history.charts(log).items():
        chart = _chart(log, title, names, marks)
        cards[_group(names[0])].append(section.chart(history.key(title), chart))
    for name, group in _GROUPS.items():
        if cards[name]:
            section.add(_titled(name, group, grid(*cards[name])))
    section.numbers = {
        "steps": [int(log.steps[0]), int(log.steps[-1])],
        "resumed_after": log.resumes,
        "unreadable_lines": log.torn,
        "warnings": [{"step": int(m.x), "text": m.text} for m in marks if m.kind == "warning"],
        "first": {name: _plain(values) for name, values in _ends(log, 0).items()},
        "last": {name: _plain(values) for name, values in _ends(log, -1).items()},
    }
    return section


def _chart(log: history.History, title: str, names: list[str], marks: list[Mark]) -> Lines:
    """Makes the chart of some metrics, without what their names begin with in common."""
    prefix = names[0].split("/")[0] + "/"
    short = all(name.startswith(prefix) for name in names)
    series = {(name.removeprefix(prefix) if short else name): log.metrics[name] for name in names}
    highest = 1.0 if all(_SHARES.match(name) for name in names) else None
    x = log.steps.astype(float)
    return Lines(title, "step", x, series, marks, "training", highest=highest)


def _group(metric: str) -> str:
    """Returns the name of the group that a metric's chart is in."""
    return next(name for name, group in _GROUPS.items() if re.match(group.pattern, metric))


def _titled(name: str, group: _Group, charts: str) -> str:
    """Returns HTML of a group's charts below its title and what explains them."""
    about = f'<p class="faint">{escape(group.about)}</p>' if group.about else ""
    if group.is_open:
        return f"<h3>{name}</h3>{about}{charts}"
    return f"<details><summary>{name}</summary>{about}{charts}</details>"


def _ends(log: history.History, end: int) -> dict[str, float]:
    """Returns the first (`end` 0) or last (-1) finite value of each metric."""
    finite = {name: values[np.isfinite(values)] for name, values in log.metrics.items()}
    return {name: float(values[end]) for name, values in finite.items() if len(values)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
