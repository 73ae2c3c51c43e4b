"""Attention maps: the last layer's CLS attention drawn over frames and spectrograms.

The paper's Figures 3 and S7 show these maps with and without refinement. Refinement (Eq. 4) scales
each head by its own average attention and by that of the other modality's head. So it does not
change the map of a single head; it changes the mean over heads, which weighs the tokens (Eq. 5).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image

from xkd_jax.report.reconstructions import Canvas

SHOWN_FRAMES = 4
_HEADS = 4  # heads shown of each network
_PIXELS = 112  # least height of a frame on the page
_OPACITY = 0.6


class Map(NamedTuple):
    """One attention map.

    Attributes:
        name: Name shown on the page.
        weights: (N,) float32 weights of the tokens.
    """

    name: str
    weights: np.ndarray


def maps(attention: np.ndarray, refined: np.ndarray | None) -> list[Map]:
    """Selects the maps to show of one network and one clip.

    Args:
        attention: (H, N) float32, the CLS row of each head.
        refined: (H, N) float32, the same refined by the other modality; or None.

    Returns:
        The mean over heads, unrefined and refined, then up to four evenly spaced heads. The name
        of the refined one says which share of the weight it has moved.
    """
    means = [Map("mean of heads", attention.mean(axis=0))]
    if refined is not None:
        moved = shift(attention[None], refined[None])
        means.append(Map(f"mean of heads, refined ({moved:.1%} moved)", refined.mean(axis=0)))
    heads = np.unique(np.linspace(0, len(attention) - 1, _HEADS).round().astype(int))
    return means + [Map(f"head {n + 1}", attention[n]) for n in heads]


def shift(attention: np.ndarray, refined: np.ndarray) -> float:
    """Computes the share of the weight that refinement moves to other tokens.

    It is half the L1 distance between the normalized means over heads, averaged over clips.

    Args:
        attention: (n, H, N) float32, unrefined.
        refined: (n, H, N) float32, refined.

    Returns:
        A number in [0, 1]: 0 if refinement moves nothing, 1 if it moves all weight.
    """
    plain, moved = (x.mean(axis=1) for x in (attention, refined))
    plain, moved = (x / x.sum(axis=1, keepdims=True) for x in (plain, moved))
    return float(0.5 * np.abs(plain - moved).sum(axis=1).mean())


def over_frames(
    frames: np.ndarray, weights: np.ndarray | None, grid: tuple[int, ...]
) -> np.ndarray:
    """Draws weights over some frames of a view, side by side.

    Args:
        frames: (T, H, W, 3) uint8.
        weights: (N,) float32, in the order (time, height, width); None for the frames alone.
        grid: Numbers of tokens along (time, height, width).

    Returns:
        (H', W', 3) uint8.
    """
    shown = np.linspace(0, len(frames) - 1, min(SHOWN_FRAMES, len(frames))).round().astype(int)
    scale = max(1, -(-_PIXELS // frames.shape[1]))
    large = frames[shown].repeat(scale, axis=1).repeat(scale, axis=2)
    if weights is None:
        return np.concatenate(large, axis=1)
    heat = _scaled(weights).reshape(grid)[shown * grid[0] // len(frames)]
    blended = [_blend(frame, cells) for frame, cells in zip(large, heat, strict=True)]
    return np.concatenate(blended, axis=1)


def over_spectrogram(
    log_mel: np.ndarray, weights: np.ndarray | None, grid: tuple[int, ...]
) -> np.ndarray:
    """Draws weights over a log-mel, with the lowest band at the bottom.

    Args:
        log_mel: (F, W) float32.
        weights: (N,) float32, in the order (frequency, time); None for the log-mel alone.
        grid: Numbers of tokens along (frequency, time).

    Returns:
        (H', W', 3) uint8.
    """
    base = spectrogram(log_mel[None], "gray" if weights is not None else "magma")[0]
    if weights is None:
        return base
    return _blend(base, _scaled(weights).reshape(grid)[::-1])


def spectrogram(
    log_mels: np.ndarray, colors: str = "magma", limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Colors log-mels, gray where they are NaN, with the lowest band at the bottom.

    Args:
        log_mels: (n, F, W) float32.
        colors: Name of a matplotlib color map.
        limits: Values at the ends of the color map; by default `value_range(log_mels)`.

    Returns:
        (n, s * F, s * W, 3) uint8, where the scale s depends on F.
    """
    low, high = limits or value_range(log_mels)
    shown = (log_mels[:, ::-1] - low) / max(high - low, 1e-6)
    pixels = colormaps[colors].with_extremes(bad=(0.5, 0.5, 0.5))(np.ma.masked_invalid(shown))
    scale = max(1, round(160 / log_mels.shape[1]))
    return np.rint(255 * pixels[..., :3]).astype(np.uint8).repeat(scale, 1).repeat(scale, 2)


def value_range(log_mels: np.ndarray) -> tuple[float, float]:
    """Returns the range of log-mels without outliers: percentiles 1 and 99.8."""
    low, high = np.nanpercentile(log_mels, (1, 99.8))
    return float(low), float(high)


def montage(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Stacks pictures of one size, each with its name on the left; returns (H, W, 3) uint8."""
    left, gap = 20 + 7 * max(map(len, rows)), 4  # pixels; a letter takes 7
    height, width = next(iter(rows.values())).shape[:2]
    canvas = Canvas(height=len(rows) * (height + gap) + gap, width=left + width + gap)
    for n, name in enumerate(rows):
        canvas.write(left - 8, gap + n * (height + gap) + height / 2, name, ha="right", va="center")
    picture = canvas.pixels()
    for n, pixels in enumerate(rows.values()):
        top = gap + n * (height + gap)
        picture[top : top + height, left : left + width] = pixels
    return picture


def _scaled(weights: np.ndarray) -> np.ndarray:
    """Scales weights to [0, 1], where 1 is their 99.5th percentile."""
    low, high = float(weights.min()), float(np.quantile(weights, 0.995))
    return np.clip((weights - low) / max(high - low, 1e-12), 0, 1)


def _blend(pixels: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Draws a heat map of cells (h, w) in [0, 1] over a gray copy of a picture (H, W, 3) uint8."""
    height, width = pixels.shape[:2]
    smooth = Image.fromarray(cells.astype(np.float32)).resize((width, height), Image.BILINEAR)
    heat = np.asarray(smooth)[..., None]
    gray = pixels.mean(axis=-1, keepdims=True).repeat(3, -1) * 0.7
    color = 255 * colormaps["inferno"](heat[..., 0])[..., :3]
    return (
        np.rint(gray * (1 - _OPACITY * heat) + color * _OPACITY * heat)
        .clip(0, 255)
        .astype(np.uint8)
    )
