"""Reconstructions at several mask ratios, and how far from the truth they are.

The ratios are those of the paper's figures (Figures 5 and S8-S12): 60 to 90% of the video, 50 to
80% of the sound.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xkd_jax import augment
from xkd_jax.models import patches as patching
from xkd_jax.report import reconstructions
from xkd_jax.report.networks import Networks

RATIOS = {"video": (0.6, 0.7, 0.8, 0.9), "audio": (0.5, 0.6, 0.7, 0.8)}


class Restored(NamedTuple):
    """What the student makes of views at one mask ratio.

    Attributes:
        rows: (3, k, ...) original, masked and reconstructed views of the examples, uint8 frames or
            float32 log-mels, NaN where masked; see `reconstructions`.
        error: Mean squared error of the dropped, normalized patches, over all views.
        spread: Standard error of that mean.
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
    """Has the student restore views at each of the ratios.

    Args:
        networks: With a decoder of the modality.
        modality: video or audio.
        views: (n, ...) all that the error is taken over.
        examples: (k,) indices of those to keep the reconstructions of.
        batch_size: Views at a time.
        advance: Called with 1 after each ratio.

    Returns:
        By ratio.
    """
    found = {}
    for ratio in RATIOS[modality]:
        made = networks.reconstruct(modality, views, ratio, batch_size)
        shown = (made.predictions[examples], made.dropped[examples], networks.patch(modality))
        rows = (
            reconstructions.reconstruct_video(augment.normalize(views[examples]), *shown)
            if modality == "video"
            else reconstructions.reconstruct_audio(views[examples], *shown)
        )
        spread = float(made.errors.std() / np.sqrt(len(made.errors)))
        found[ratio] = Restored(rows, float(made.errors.mean()), spread)
        advance(1)
    return found


def of_means(views: np.ndarray, patch: tuple[int, ...], modality: str) -> float:
    """The error of predicting every patch's mean and nothing more: what a network has to beat.

    It is 1, less what the unbiased variance takes off and what patches without any variance add.
    """
    cut = (
        patching.patchify_video(np.asarray(augment.normalize(views)), patch)
        if modality == "video"
        else patching.patchify_audio(views, patch)
    )
    targets, _, _ = patching.normalize_patches(cut)
    return float(np.square(targets).mean())
