"""Figures of results: confusion matrices, bars per class, grouped bars."""

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from PIL import Image

from input_pipeline.caption import as_caption
from input_pipeline.files import atomic

DPI = 100
INK, FAINT, GRAY = "#333333", "#bbbbbb", "#e8e8e8"
COLORS = ("#3b6ea5", "#d98b3a", "#6aa56a", "#a55a7a", "#8a8a8a", "#7a68b0")
FONT = {"size": 9, "color": INK}
_NUMBERED = 25  # largest number of classes for which a matrix has numbers in its cells
_LETTER = 0.0077  # width of a letter in inches per point of font size


def confusion(counts: np.ndarray, class_names: Sequence[str], title: str) -> np.ndarray:
    """Draws a confusion matrix with the share of each row.

    Args:
        counts: (C, C) int. Recordings by true class (row) and predicted class (column).
        class_names: C names, in the order of both axes.
        title: Title of the figure.

    Returns:
        (H, W, 3) uint8. The figure grows with the number of classes, to show all names.
    """
    class_names = [as_caption(name) for name in class_names]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    size = len(class_names)
    numbered = size <= _NUMBERED
    cell = 0.42 if numbered else 0.13  # inches; a name needs 0.13
    font = 8 if numbered else 7
    name_width = 0.2 + font * _LETTER * max(map(len, class_names))
    side = max(size * cell, 2.5)
    left, bottom, right, top = name_width + 0.3, name_width + 0.3, 1.0, 0.45
    width, height = left + side + right, bottom + side + top
    figure = Figure((width, height), DPI)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    # The square root makes rare confusions visible.
    image = axes.imshow(
        shares,
        cmap=colormaps["Blues"].with_extremes(bad=GRAY),
        norm=PowerNorm(0.5, 0, 1),
        interpolation="nearest",
    )
    axes.set_xticks(range(size), class_names, rotation=90)
    axes.set_yticks(range(size), class_names)
    axes.tick_params(labelsize=font, colors=INK, length=2)
    axes.set_xlabel("predicted class", **FONT)
    axes.set_ylabel("true class", **FONT)
    axes.set_title(title, loc="left", **FONT)
    if numbered:
        for row, column in zip(*np.nonzero(counts), strict=True):
            share = shares[row, column]
            color = "white" if share > 0.35 else INK
            axes.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", size=8, color=color
            )
    bar = figure.add_axes(((left + side + 0.2) / width, bottom / height, 0.15 / width, 2 / height))
    figure.colorbar(image, cax=bar, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1], format="{x:.0%}")
    bar.tick_params(labelsize=8, colors=INK)
    bar.set_title("share of row", loc="left", size=8, color=INK)
    return render(figure)


def class_bars(
    values: np.ndarray, class_names: Sequence[str], measure: str, title: str
) -> np.ndarray:
    """Draws a bar for each class, the best first, in columns.

    Args:
        values: (C,) float in [0, 1]. NaN for classes without test recordings, which come last.
        class_names: C names.
        measure: Name of the values, such as "accuracy".
        title: Title of the figure.

    Returns:
        (H, W, 3) uint8.
    """
    class_names = [as_caption(name) for name in class_names]
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")
    name_width = 0.2 + 8 * _LETTER * max(map(len, class_names))
    # The number of columns makes the figure about square.
    columns = max(1, round(np.sqrt(0.16 * len(order) / (name_width + 2.6))))
    rows = -(-len(order) // columns)
    width, height = columns * (name_width + 2.6), rows * 0.16 + 0.95
    figure = Figure((width, height), DPI)
    for column in range(columns):
        shown = order[column * rows : (column + 1) * rows]
        left = column * (name_width + 2.6) + name_width
        box = (left / width, 0.5 / height, 2.1 / width, rows * 0.16 / height)
        axes = figure.add_axes(box)
        axes.barh(range(len(shown)), np.nan_to_num(values[shown]), color=COLORS[0], height=0.75)
        for row, value in enumerate(values[shown]):
            text = "not tested" if np.isnan(value) else f"{100 * value:.0f}"
            axes.text(np.nan_to_num(value) + 0.015, row, text, va="center", size=7, color=INK)
        axes.axvline(np.nanmean(values), color=FAINT, zorder=0)
        axes.set_yticks(range(len(shown)), [class_names[place] for place in shown])
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlabel(f"{measure}, %", **FONT)
        _percent_axis(axes.xaxis)
        axes.set_xlim(0, 1.12)
        _plain(axes)
    mean = f"{title}; line: the mean, {100 * np.nanmean(values):.1f}"
    figure.text(0.1 / width, 1 - 0.25 / height, mean, **FONT)
    return render(figure)


def grouped_bars(
    values: np.ndarray,
    groups: Sequence[str],
    series: Sequence[str],
    measure: str,
    title: str,
    chance: float | None = None,
    spreads: np.ndarray | None = None,
) -> np.ndarray:
    """Draws groups of bars.

    Args:
        values: (groups, series) float in [0, 1].
        groups: Names of the groups.
        series: Names of the bars in each group.
        measure: Name of the values, such as "top-1".
        title: Title of the figure.
        chance: Value of a dotted line for random guesses. None for no line.
        spreads: (groups, series) float. Half lengths of the error bars. None for no error bars.

    Returns:
        (H, W, 3) uint8.
    """
    bar = 0.8 / len(series)
    figure = Figure((1.6 + len(groups) * max(1.4, 0.55 * len(series)), 4.2), DPI)
    axes = figure.add_subplot()
    for number, name in enumerate(series):
        positions = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * bar
        error = None if spreads is None else spreads[:, number]
        axes.bar(
            positions,
            values[:, number],
            0.92 * bar,
            yerr=error,
            color=COLORS[number % len(COLORS)],
            ecolor=INK,
            label=name,
        )
        rises = np.zeros(len(groups)) if error is None else error
        for x, value, rise in zip(positions, values[:, number], rises, strict=True):
            axes.text(x, value + rise + 0.01, f"{100 * value:.0f}", ha="center", size=8, color=INK)
    if chance is not None:
        axes.axhline(chance, color=INK, linestyle=":", linewidth=1, label="chance")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(f"{measure}, %", **FONT)
    axes.set_title(title, loc="left", **FONT)
    _percent_axis(axes.yaxis)
    axes.set_ylim(0, 1.08)
    axes.legend(
        ncols=len(series) + 1, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False,
        fontsize=8, labelcolor=INK,
    )  # fmt: skip
    _plain(axes)
    figure.tight_layout()
    return render(figure)


def save(path: pathlib.Path, pixels: np.ndarray) -> None:
    """Writes pixels (H, W, 3) uint8 as a PNG file, atomically."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    atomic.write_bytes(path, png.getvalue())


def _percent_axis(axis: Axis) -> None:
    axis.set_ticks(np.linspace(0, 1, 6), [f"{value:.0f}" for value in np.linspace(0, 100, 6)])


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8, colors=INK, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def render(figure: Figure) -> np.ndarray:
    """Renders a figure as `(H, W, 3)` uint8, without a GUI or global state."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
