"""Charts, which the page's script draws in HTML and matplotlib draws as PNG."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from xkd_jax.downstream.figures import DPI, FAINT, FONT, INK, render

_POINTS = 600  # most points of a line on the page; longer lines are averaged
# Equal to the colors --c0 to --c9 of the light theme in page.css.
_COLORS = ("#3b6ea5", "#d98b3a", "#4f9a5b", "#a55a7a", "#7d7d7d", "#7a68b0")
_COLORS += ("#2a9d9d", "#c2543f", "#9a8a2c", "#ea8bbf")
_SHAPES = {"video": "o", "audio": "s"}


@dataclasses.dataclass(frozen=True)
class Mark:
    """An event on the x axis.

    Attributes:
        x: Position.
        kind: `resume` or `warning`.
        text: Description of the event.
    """

    x: float
    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class Lines:
    """A chart of several curves over one x axis.

    Attributes:
        title: Title of the chart.
        x_label: Label of the x axis.
        x: (n,) float, increasing.
        series: (n,) float of each curve, by name; NaN where there is no value.
        marks: Events on the x axis.
        group: Charts of the same group zoom together.
        log: Whether the y axis is logarithmic at first.
        highest: Largest possible value, where the y axis ends at the latest; None without a limit.
    """

    title: str
    x_label: str
    x: np.ndarray
    series: Mapping[str, np.ndarray]
    marks: Sequence[Mark] = ()
    group: str = ""
    log: bool = False
    highest: float | None = None

    def plain(self) -> dict[str, Any]:
        """Returns the chart as plain values, for the page's script."""
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
            "highest": self.highest,
        }

    def picture(self) -> np.ndarray:
        """Draws the chart; returns (H, W, 3) uint8."""
        figure = Figure((6.4, 3.2), DPI, layout="constrained")
        axes = figure.add_subplot()
        for number, (name, y) in enumerate(self.series.items()):
            finite = np.isfinite(y)
            style = {"color": color_of(number), "label": name, "linewidth": 1.4}
            axes.plot(self.x[finite], np.asarray(y)[finite], **style)
            if finite.sum() == 1:
                axes.plot(self.x[finite], np.asarray(y)[finite], "o", color=style["color"])
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
        if self.highest is not None:
            axes.set_ylim(top=min(axes.get_ylim()[1], self.highest))
        axes.set_xlabel(self.x_label, **FONT)
        _finish(axes, self.title, len(self.series))
        return render(figure)


@dataclasses.dataclass(frozen=True)
class Scatter:
    """A chart of points in a plane without units.

    Attributes:
        title: Title of the chart.
        points: (n, 2) float.
        names: Name of each point.
        groups: (n,) int, the index of each point's group, which gives its color.
        group_names: Names of the groups.
        kinds: Modality of each point, `video` or `audio`, which gives its shape; empty if all
            points have the same shape.
    """

    title: str
    points: np.ndarray
    names: Sequence[str]
    groups: np.ndarray
    group_names: Sequence[str]
    kinds: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """Returns the chart as plain values, for the page's script."""
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
        """Draws the chart; returns (H, W, 3) uint8."""
        figure = Figure((5.6, 4.2), DPI, layout="constrained")
        axes = figure.add_subplot()
        kinds = np.array(self.kinds or ["video"] * len(self.points))
        for group, name in enumerate(self.group_names):
            label = name
            for kind in dict.fromkeys(kinds):
                member = (np.asarray(self.groups) == group) & (kinds == kind)
                if member.any():
                    axes.scatter(
                        *self.points[member].T, s=16, marker=_SHAPES[kind], color=color_of(group),
                        label=label, linewidths=0,
                    )  # fmt: skip
                    label = None
        axes.set_xticks([])
        axes.set_yticks([])
        _finish(axes, self.title, min(len(self.group_names), 20))
        return render(figure)


def color_of(number: int) -> Any:
    """Returns the color of a series or group."""
    return _COLORS[number] if number < len(_COLORS) else colormaps["tab20"](number % 20)


def frame(axes: Any, title: str) -> None:
    """Gives a chart its title, and the look of its axes."""
    axes.set_title(title, loc="left", **FONT)
    axes.tick_params(labelsize=8, colors=INK, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def _finish(axes: Any, title: str, entries: int) -> None:
    frame(axes, title)
    if entries > 1:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=7, labelcolor=INK
        )


def _shorter(
    x: np.ndarray, series: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Averages neighboring points if there are more than `_POINTS`."""
    size = math.ceil(len(x) / _POINTS)
    if size <= 1:
        return x, dict(series)
    bins = np.arange(len(x)) // size

    def mean(values: np.ndarray) -> np.ndarray:
        finite = np.isfinite(values)
        count = np.bincount(bins, finite)
        total = np.bincount(bins, np.where(finite, values, 0))
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    return mean(x), {name: mean(np.asarray(y, float)) for name, y in series.items()}


def _rounded(values: Sequence[float]) -> list[float | None]:
    """Rounds to six digits; gives None for numbers that are not finite, which JSON lacks."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in np.asarray(values, float)]
