"""Charts: described once, drawn by the page's script and, for papers and slides, as PNG."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from xkd_jax.downstream.figures import DPI, FAINT, FONT, INK
from xkd_jax.report.reconstructions import draw

_POINTS = 600  # of a line on the page; longer ones are averaged
# The first ones of the page in light colors, page.css.
_COLORS = ("#3b6ea5", "#d98b3a", "#4f9a5b", "#a55a7a", "#7d7d7d", "#7a68b0")
_COLORS += ("#2a9d9d", "#c2543f", "#9a8a2c", "#5b7fd1")
_SHAPES = {"video": "o", "audio": "s"}


@dataclasses.dataclass(frozen=True)
class Mark:
    """A place on the x axis that something happened at.

    Attributes:
        x: The place.
        kind: `resume` or `warning`.
        text: What happened.
    """

    x: float
    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class Lines:
    """Several curves over one axis.

    Attributes:
        title: Of the chart.
        x_label: Of the axis.
        x: (n,) floats, rising.
        series: (n,) floats each by name; NaN where nothing is known.
        marks: On the axis.
        group: Charts of one group are zoomed together.
        log: Whether the page begins with a logarithmic y axis.
    """

    title: str
    x_label: str
    x: np.ndarray
    series: Mapping[str, np.ndarray]
    marks: Sequence[Mark] = ()
    group: str = ""
    log: bool = False

    def plain(self) -> dict[str, Any]:
        """What the page's script draws, as plain values."""
        x, series = _shorter(np.asarray(self.x, float), self.series)
        return {
            "kind": "lines",
            "title": self.title,
            "xLabel": self.x_label,
            "x": _rounded(x),
            "series": [{"name": name, "y": _rounded(y)} for name, y in series.items()],
            "marks": [dataclasses.asdict(mark) for mark in self.marks],
            "group": self.group,
            "log": self.log,
        }

    def picture(self) -> np.ndarray:
        """Draws the chart, (H, W, 3) uint8."""
        figure = Figure((6.4, 3.2), DPI, layout="constrained")
        axes = figure.add_subplot()
        for number, (name, y) in enumerate(self.series.items()):
            known = np.isfinite(y)
            style = {"color": color_of(number), "label": name, "linewidth": 1.4}
            axes.plot(self.x[known], np.asarray(y)[known], **style)
            if known.sum() == 1:
                axes.plot(self.x[known], np.asarray(y)[known], "o", color=style["color"])
        for mark in self.marks:
            color = "#c0392b" if mark.kind == "warning" else "#777777"
            axes.axvline(mark.x, color=color, linestyle="--", linewidth=1)
            axes.annotate(
                mark.kind, (mark.x, 1), xycoords=("data", "axes fraction"), rotation=90, size=7,
                color=color, ha="right", va="top",
            )  # fmt: skip
        if self.log and any(
            (np.asarray(y)[np.isfinite(y)] > 0).all() for y in self.series.values()
        ):
            axes.set_yscale("log")
        axes.set_xlabel(self.x_label, **FONT)
        _finish(axes, self.title, len(self.series))
        return draw(figure)


@dataclasses.dataclass(frozen=True)
class Scatter:
    """Points in the plane, which has no units.

    Attributes:
        title: Of the chart.
        points: (n, 2) floats.
        names: Of the points, for people.
        groups: (n,) int, indices into `group_names`, which color them.
        group_names: Of the groups.
        kinds: The shape of each point, `video` or `audio`; empty for all the same.
    """

    title: str
    points: np.ndarray
    names: Sequence[str]
    groups: np.ndarray
    group_names: Sequence[str]
    kinds: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """What the page's script draws, as plain values."""
        return {
            "kind": "scatter",
            "title": self.title,
            "points": [_rounded(point) for point in self.points],
            "names": list(self.names),
            "groups": np.asarray(self.groups).tolist(),
            "groupNames": list(self.group_names),
            "kinds": list(self.kinds),
        }

    def picture(self) -> np.ndarray:
        """Draws the chart, (H, W, 3) uint8."""
        figure = Figure((5.6, 4.2), DPI, layout="constrained")
        axes = figure.add_subplot()
        kinds = np.array(self.kinds or ["video"] * len(self.points))
        for group, name in enumerate(self.group_names):
            label = name
            for kind in dict.fromkeys(kinds):
                where = (np.asarray(self.groups) == group) & (kinds == kind)
                if where.any():
                    axes.scatter(
                        *self.points[where].T, s=16, marker=_SHAPES[kind], color=color_of(group),
                        label=label, linewidths=0,
                    )  # fmt: skip
                    label = None
        axes.set_xticks([])
        axes.set_yticks([])
        _finish(axes, self.title, min(len(self.group_names), 20))
        return draw(figure)


def color_of(number: int) -> Any:
    """The color of a series or group."""
    return _COLORS[number] if number < len(_COLORS) else colormaps["tab20"](number % 20)


def _finish(axes: Any, title: str, entries: int) -> None:
    axes.set_title(title, loc="left", **FONT)
    axes.tick_params(labelsize=8, colors=INK, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    if entries > 1:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=7, labelcolor=INK
        )


def _shorter(
    x: np.ndarray, series: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Averages neighbors where there are more points than a page has room for."""
    size = math.ceil(len(x) / _POINTS)
    if size <= 1:
        return x, dict(series)
    bins = np.arange(len(x)) // size

    def mean(values: np.ndarray) -> np.ndarray:
        known = np.isfinite(values)
        count = np.bincount(bins, known)
        total = np.bincount(bins, np.where(known, values, 0))
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    return mean(x), {name: mean(np.asarray(y, float)) for name, y in series.items()}


def _rounded(values: Sequence[float]) -> list[float | None]:
    """Six digits, and None for what is not finite, which JSON has no word for."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in np.asarray(values, float)]
