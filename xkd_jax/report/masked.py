"""Reconstructions at several mask ratios, and their errors.

The ratios are those of the paper's Figures 5 and S8-S12 (60 to 90% for video, 50 to 80% for audio)
and that of the run's training.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xkd_jax.encoders.networks import Networks
from xkd_jax.method import augment
from xkd_jax.method.models import patches as patching
from xkd_jax.report import reconstructions

RATIOS = {"video": (0.6, 0.7, 0.8, 0.9), "audio": (0.5, 0.6, 0.7, 0.8)}


class Restored(NamedTuple):
    """The student's reconstructions at one mask ratio.

    Attributes:
        rows: (3, k, ...) original, masked and reconstructed views of k examples: uint8 frames, or
            float32 log-mels with NaN where masked. See `reconstructions`.
        error: Mean squared error of the dropped, normalized patches, over all views.
        spread: Standard error of `error`.
    """

    rows: np.ndarray
    error: float
    spread: float


def restore(
    networks: Networks,
    modality: str,
    views: np.ndarray,
    examples: np.ndarray,
    batch_size: int,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[float, Restored]:
    """Reconstructs views with the student at each of `RATIOS`, and as in its training.

    Args:
        networks: Networks with a student decoder for the modality.
        modality: `video` or `audio`.
        views: (n, ...) views that the error is averaged over.
        examples: (k,) int, indices of the views whose reconstructions are returned.
        batch_size: Number of views in a batch.
        advance: Called with 1 after each ratio.

    Returns:
        The reconstructions by mask ratio.
    """
    restored = {}
    for ratio in sorted({*RATIOS[modality], trained_ratio(networks, modality)}):
        out = networks.reconstruct(modality, views, ratio, batch_size)
        shown = (out.predictions[examples], out.dropped[examples], networks.patch(modality))
        rows = (
            reconstructions.reconstruct_video(augment.normalize(views[examples]), *shown)
            if modality == "video"
            else reconstructions.reconstruct_audio(views[examples], *shown)
        )
        spread = float(out.errors.std() / np.sqrt(len(out.errors)))
        restored[ratio] = Restored(rows, float(out.errors.mean()), spread)
        advance(1)
    return restored


def trained_ratio(networks: Networks, modality: str) -> float:
    """Returns the share of a modality's patches that training masks, in whole percent, 1 to 99%."""
    return min(max(round(networks.config.model[modality].mask_ratio, 2), 0.01), 0.99)


def loss_of_means(views: np.ndarray, patch: tuple[int, ...], modality: str) -> float:
    """Computes the error of predicting each patch's mean, the baseline that a network has to beat.

    It is slightly below 1: normalization divides by the unbiased variance, and patches without any
    variance have no error.

    Args:
        views: (n, T, H, W, 3) uint8 frames or (n, F, W) float32 log-mels.
        patch: Extents of a patch.
        modality: `video` or `audio`.

    Returns:
        The mean squared error over all patches, in the space of normalized patches.
    """
    seen = np.asarray(augment.normalize(views)) if modality == "video" else views
    targets, _, _ = patching.normalize_patches(patching.patchify(seen, patch))
    return float(np.square(targets).mean())
