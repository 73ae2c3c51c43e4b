"""Panels of results, side by side in one picture: curves, bars, heat maps. All are in percent."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xkd_jax.downstream.figures import COLORS, DPI, FONT, GRAY, INK, render
from xkd_jax.report.charts import color_of, frame

OURS, PAPER = "ours", "the paper's"
_LETTERS = 14  # letters of the title in an inch
_LINE = 0.18  # height in inches of a line of the title
_LEGEND = 1.5  # width in inches


class Value(NamedTuple):
    """A result.

    Attributes:
        mean: Mean over the seeds.
        spread: Half length of its error bar; None for no error bar.
    """

    mean: float
    spread: float | None = None


class Curve(NamedTuple):
    """A curve through results, or single results.

    Attributes:
        name: Name in the legend.
        points: Results by position on the x axis.
        color: Number of the color, as in `charts.color_of`.
        dashed: Whether the line is dashed.
        single: Whether to draw hollow marks without a line, as for the paper's numbers.
    """

    name: str
    points: Mapping[float, Value]
    color: int
    dashed: bool = False
    single: bool = False


class Curves(NamedTuple):
    """A panel of curves.

    Attributes:
        title: Title of the panel.
        x_label: Label of the x axis.
        curves: The curves. Those without points are left out.
        log: Whether the x axis is logarithmic.
        ticks: Texts at positions of the x axis; None for numbers of the axis' own choice.
    """

    title: str
    x_label: str
    curves: Sequence[Curve]
    log: bool = False
    ticks: Mapping[float, str] | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 3.4, 2.9

    def draw(self, axes: Axes) -> None:
        """Draws the panel."""
        for curve in self.curves:
            if not curve.points:
                continue
            x = sorted(curve.points)
            values = [curve.points[place] for place in x]
            color = color_of(curve.color)
            style = {"fmt": "D", "markerfacecolor": "none", "markersize": 7}
            if not curve.single:
                style = {"fmt": "o--" if curve.dashed else "o-", "markersize": 4}
            axes.errorbar(
                x,
                [value.mean for value in values],
                yerr=[_error(value) for value in values],
                color=color,
                label=curve.name,
                linewidth=1.4,
                capsize=2,
                **style,
            )
        if self.log:
            axes.set_xscale("log")
        if self.ticks:
            axes.set_xticks(list(self.ticks), list(self.ticks.values()))
            axes.minorticks_off()
        axes.set_xlabel(self.x_label, **FONT)
        axes.margins(0.08, 0.12)
        axes.grid(axis="y", color=GRAY)


class Bars(NamedTuple):
    """A panel with a pair of bars for each method, ours above the paper's.

    Attributes:
        title: Title of the panel.
        names: Names of the methods.
        ours: Our result of each method, or None if it was not evaluated.
        paper: The paper's.
    """

    title: str
    names: Sequence[str]
    ours: Sequence[Value | None]
    paper: Sequence[Value | None]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 2.3, 0.36 * len(self.names) + 0.7

    def draw(self, axes: Axes) -> None:
        """Draws the panel."""
        for number, (values, color) in enumerate(((self.ours, 0), (self.paper, 1))):
            places = [y for y, value in enumerate(values) if value is not None]
            shown = [values[y] for y in places]
            at = [y + 0.4 * (number - 0.5) for y in places]
            axes.barh(
                at,
                [value.mean for value in shown],
                0.38,
                xerr=[_error(value) for value in shown],
                color=COLORS[color],
                ecolor=INK,
                label=(OURS, PAPER)[number],
                error_kw={"capsize": 2},
            )
            for y, value in zip(at, shown, strict=True):
                axes.text(
                    value.mean + (value.spread or 0.0), y, f" {value.mean:.1f}", va="center",
                    size=7, color=INK,
                )  # fmt: skip
        axes.set_yticks(range(len(self.names)), self.names)
        axes.set_ylim(len(self.names) - 0.5, -0.5)
        known = [v.mean + (v.spread or 0.0) for v in (*self.ours, *self.paper) if v is not None]
        axes.set_xlim(0, 1.25 * max(known, default=100.0))


class Heat(NamedTuple):
    """A panel of cells, darker where our result is better.

    Attributes:
        title: Title of the panel.
        axes: Names of the vertical and of the horizontal axis.
        rows: Values of the vertical axis.
        columns: Values of the horizontal axis.
        ours: Our results by (row, column).
        paper: The paper's, written below ours.
    """

    title: str
    axes: tuple[str, str]
    rows: Sequence[float]
    columns: Sequence[float]
    ours: Mapping[tuple[float, float], Value]
    paper: Mapping[tuple[float, float], Value]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 1.1 + 0.95 * len(self.columns), 1.1 + 0.55 * len(self.rows)

    def draw(self, axes: Axes) -> None:
        """Draws the panel."""
        cells = [(r, c) for r in self.rows for c in self.columns]
        means = np.array([self.ours[cell].mean if cell in self.ours else np.nan for cell in cells])
        means = means.reshape(len(self.rows), len(self.columns))
        colors = colormaps["Blues"].with_extremes(bad=GRAY)
        known = means[np.isfinite(means)]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
        pad = max(high - low, 0.1)  # so that the darkest cell still has readable text
        axes.imshow(means, cmap=colors, vmin=low - 0.5 * pad, vmax=high + pad, aspect="auto")
        for place, cell in enumerate(cells):
            lines = [in_words(self.ours[cell])] if cell in self.ours else []
            lines += [f"paper {in_words(self.paper[cell])}"] if cell in self.paper else []
            y, x = divmod(place, len(self.columns))
            axes.text(x, y, "\n".join(lines), ha="center", va="center", size=7, color=INK)
        axes.set_yticks(range(len(self.rows)), [f"{value:g}" for value in self.rows])
        axes.set_xticks(range(len(self.columns)), [f"{value:g}" for value in self.columns])
        axes.set_ylabel(self.axes[0], **FONT)
        axes.set_xlabel(self.axes[1], **FONT)


Panel = Curves | Bars | Heat


def in_words(value: Value) -> str:
    """Formats a result, such as "58.1 ± 0.3"."""
    return f"{value.mean:.1f}" + ("" if value.spread is None else f" ± {value.spread:.1f}")


def _error(value: Value) -> float:
    """Returns the half length of an error bar; NaN for none."""
    return math.nan if value.spread is None else value.spread


def picture(title: str, panels: Sequence[Panel]) -> np.ndarray:
    """Draws panels of one kind side by side, with a legend.

    Args:
        title: Title of the picture, of any length.
        panels: At least one panel. Those of bars have the same names.

    Returns:
        (H, W, 3) uint8.
    """
    width, height = panels[0].size
    width = width * len(panels) + _LEGEND
    if isinstance(panels[0], Bars):
        width += 0.075 * max(map(len, panels[0].names))
    letters = math.floor(_LETTERS * (width - _LEGEND))
    lines = textwrap.wrap(title, letters, break_on_hyphens=False)
    figure = Figure((width, height + _LINE * len(lines) + 0.2), DPI, layout="constrained")
    figure.suptitle("\n".join(lines), x=0.01, ha="left", **FONT)
    handles = {}
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        panel.draw(axes)
        frame(axes, panel.title)
        if place and isinstance(panel, Bars):
            axes.set_yticklabels([])
        shown, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, shown, strict=True))
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8,
            labelcolor=INK,
        )  # fmt: skip
    return render(figure)
