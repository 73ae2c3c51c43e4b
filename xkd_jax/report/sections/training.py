"""The section with everything that the run logged, as charts."""

import math

import numpy as np

from input_pipeline.programs.wording import counted
from xkd_jax.report import history
from xkd_jax.report.charts import Lines, Mark
from xkd_jax.report.health.verdict import Verdict
from xkd_jax.report.page import Section, grid


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
    cards = []
    for title, names in history.charts(log).items():
        prefix = names[0].split("/")[0] + "/"
        short = all(name.startswith(prefix) for name in names)
        series = {
            (name.removeprefix(prefix) if short else name): log.metrics[name] for name in names
        }
        chart = Lines(title, "step", log.steps.astype(float), series, marks, "training")
        cards.append(section.chart(history.key(title), chart))
    section.add(grid(*cards))
    section.numbers = {
        "steps": [int(log.steps[0]), int(log.steps[-1])],
        "resumed_after": log.resumes,
        "unreadable_lines": log.torn,
        "warnings": [{"step": int(m.x), "text": m.text} for m in marks if m.kind == "warning"],
        "first": {name: _plain(values) for name, values in _ends(log, 0).items()},
        "last": {name: _plain(values) for name, values in _ends(log, -1).items()},
    }
    return section


def _ends(log: history.History, end: int) -> dict[str, float]:
    """Returns the first (`end` 0) or last (-1) finite value of each metric."""
    finite = {name: values[np.isfinite(values)] for name, values in log.metrics.items()}
    return {name: float(values[end]) for name, values in finite.items() if len(values)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
