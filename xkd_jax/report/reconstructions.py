"""Pictures of what the masked autoencoders see and reconstruct.

Each example has three rows: the original, the masked view (dropped patches are gray), and the
reconstruction, whose visible patches are those of the original. The networks predict patches that
are normalized one by one, so each predicted patch gets the mean and the deviation of the original
patch. The pictures show where a network puts light and shade within a patch, not how bright the
patch is.
"""

import math
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xkd_jax.downstream.figures import DPI, FONT, INK, render
from xkd_jax.method import augment
from xkd_jax.method.models import patches as patching

ROWS = ("original", "masked", "reconstructed")
GRAY = 0.5  # brightness of dropped patches, in [0, 1]


Array = np.ndarray | jax.Array


def video_montage(rows: np.ndarray, frame_rate: float) -> np.ndarray:
    """Draws video views from top to bottom, their frames from left to right.

    Args:
        rows: `(3, B, T, H, W, 3)` uint8, from `reconstruct_video`.
        frame_rate: Frames per second.

    Returns:
        `(H', W', 3)` uint8.
    """
    _, examples, frames, height, width, _ = rows.shape
    shown = np.unique(np.linspace(0, frames - 1, 8).round().astype(int))
    scale = max(1, round(112 / width))
    height, width = scale * height, scale * width
    left, top, gap, block_gap = 106, 24, 2, 16  # pixels
    column = left + (width + gap) * np.arange(len(shown))
    row = top + (height + gap) * np.arange(3)[:, None]
    row = row + (3 * height + 2 * gap + block_gap) * np.arange(examples)

    canvas = Canvas(height=row[-1, -1] + height + 8, width=column[-1] + width + 8)
    for x, frame in zip(column, shown, strict=True):
        canvas.write(x + width / 2, top - 8, f"{frame / frame_rate:.2f} s", ha="center")
    for y, name in zip(row.T.ravel(), ROWS * examples, strict=True):
        canvas.write(left - 8, y + height / 2, name, ha="right", va="center")
    picture = canvas.pixels()
    pixels = rows[:, :, shown].repeat(scale, axis=3).repeat(scale, axis=4)
    for i, j, k in np.ndindex(pixels.shape[:3]):
        y, x = row[i, j], column[k]
        picture[y : y + height, x : x + width] = pixels[i, j, k]
    return picture


def audio_montage(rows: np.ndarray, audio: ml_collections.ConfigDict) -> np.ndarray:
    """Draws log-mels over seconds and hertz, two examples in a line.

    Args:
        rows: `(3, B, F, T)` float32, from `reconstruct_audio`.
        audio: The run's `config.views.audio`.

    Returns:
        `(H', W', 3)` uint8.
    """
    decibels = 10 / math.log(10) * (rows * audio.std + audio.mean)
    _, examples, bands, steps = rows.shape
    low, high = np.percentile(decibels[0], (1, 99.8))
    colors = colormaps["magma"].with_extremes(bad=(GRAY,) * 3)
    ticks = [hz for hz in (500, 1000, 2000, 4000, 8000) if hz < audio.max_frequency]

    columns = min(examples, 2)
    lines = -(-examples // columns)
    width, height = 1.75 + 4.7 * columns, 0.5 + 4.1 * lines  # inches
    figure = Figure((width, height), DPI)
    inside = {"left": 0.65 / width, "right": 1 - 1 / width}
    inside |= {"bottom": 0.5 / height, "top": 1 - 0.25 / height}
    blocks = figure.add_gridspec(lines, columns, wspace=0.05, hspace=0.2, **inside)
    axes = [blocks[j].subgridspec(3, 1, hspace=0.3).subplots() for j in range(examples)]
    axes = np.stack(axes, axis=1)
    for (i, j), ax in np.ndenumerate(axes):
        image = ax.imshow(
            decibels[i, j],
            cmap=colors,
            vmin=low,
            vmax=high,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0, steps * audio.hop / audio.sample_rate, -0.5, bands - 0.5),
        )
        ax.set_title(ROWS[i], loc="left", pad=3, **FONT)
        ax.set_yticks([band_of(hz, bands, audio.max_frequency) for hz in ticks], ticks)
        # Few short labels: the last one of a column must not touch the first one of the next.
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.tick_params(labelsize=8, colors=INK, labelbottom=i == 2, labelleft=j % columns == 0)
    figure.supxlabel("seconds", y=0.1 / height, **FONT)
    figure.supylabel("hertz", x=0.1 / width, **FONT)
    bar_height = min(3, height - 0.75)
    bar_box = (width - 0.85, height - 0.25 - bar_height, 0.15, bar_height)
    bar = figure.colorbar(image, cax=figure.add_axes(np.divide(bar_box, (width, height) * 2)))
    bar.set_label("mel power, dB", **FONT)
    bar.ax.tick_params(labelsize=8, colors=INK)
    return render(figure)


def reconstruct_video(
    views: Array, predictions: Array, dropped: Array, patch: Sequence[int]
) -> np.ndarray:
    """Replaces the dropped patches of video views by predictions.

    Args:
        views: `(B, T, H, W, 3)` float views, normalized by ImageNet's moments.
        predictions: `(B, N, t * h * w * 3)` float, in the space of normalized patches.
        dropped: `(B, N)`, true or 1 where the network did not see the patch.
        patch: Extents `(t, h, w)` of a patch.

    Returns:
        `(3, B, T, H, W, 3)` uint8, in the order of `ROWS`.
    """
    views = np.asarray(views, np.float32)
    pixels = _rows(views, predictions, dropped, patch)
    pixels = np.nan_to_num(augment.denormalize(pixels), nan=GRAY)
    return np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)


def reconstruct_audio(
    log_mels: Array, predictions: Array, dropped: Array, patch: Sequence[int]
) -> np.ndarray:
    """Replaces the dropped patches of log-mels by predictions.

    Args:
        log_mels: `(B, F, T)` float.
        predictions: `(B, N, f * t)` float, in the space of normalized patches.
        dropped: `(B, N)`, true or 1 where the network did not see the patch.
        patch: Extents `(f, t)` of a patch.

    Returns:
        `(3, B, F, T)` float32 in the units of `log_mels`, in the order of `ROWS`; NaN where masked.
    """
    return _rows(np.asarray(log_mels, np.float32), predictions, dropped, patch)


def _rows(
    views: np.ndarray, predictions: Array, dropped: Array, patch: Sequence[int]
) -> np.ndarray:
    """Returns views of either modality in the order of `ROWS`, (3, B, ...); NaN where masked."""
    grid = patching.token_grid(views.shape[1:], patch)
    rows = reconstruct(patching.patchify(views, patch), predictions, dropped)
    return np.stack([patching.unpatchify(row, grid, patch) for row in rows])


def reconstruct(patches: Array, predictions: Array, dropped: Array) -> np.ndarray:
    """Stacks the original patches, the visible ones, and those completed by predictions.

    Args:
        patches: `(..., N, P)` float32, patches of the original.
        predictions: `(..., N, P)` float, in the space of `normalize_patches`.
        dropped: `(..., N)`, true or 1 where the network did not see the patch.

    Returns:
        `(3, ..., N, P)` float32, in the order of `ROWS`; NaN where masked.
    """
    _, mean, std = patching.normalize_patches(patches)
    dropped = np.asarray(dropped, bool)[..., None]
    predictions = np.asarray(predictions, np.float32) * std + mean
    masked = np.where(dropped, np.float32(np.nan), patches)
    return np.stack([patches, masked, np.where(dropped, predictions, patches)])


def band_of(hz: float, bands: int, max_frequency: float) -> float:
    """Computes the fractional index of the mel band that is centered at a frequency.

    The scale is Slaney's (Auditory Toolbox, 1998).

    Args:
        hz: Frequency in Hz.
        bands: Number of bands from 0 Hz to `max_frequency`.
        max_frequency: Upper end of the last band in Hz.
    """

    def mel(hz: float) -> float:
        return 3 * hz / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000, 6.4)

    return mel(hz) / mel(max_frequency) * (bands + 1) - 1


class Canvas:
    """A white picture to write text on, with coordinates in pixels from the top left."""

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._figure = Figure((width / DPI, height / DPI), DPI)

    def write(self, x: float, y: float, text: str, **alignment: str) -> None:
        """Writes text at (x, y); `alignment` is matplotlib's `ha` and `va`."""
        self._figure.text(x / self._width, 1 - y / self._height, text, **FONT, **alignment)

    def pixels(self) -> np.ndarray:
        """Returns the picture as a new `(height, width, 3)` uint8 array."""
        return render(self._figure)
