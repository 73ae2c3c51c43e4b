"""Reconstructions as a run shows them of itself: pictures, and clips that play."""

from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from xkd_jax.report import reconstructions, sound
from xkd_jax.run.figures import Figures

_SIDE = 112  # approximate pixels of the smallest frame's side


def figures(
    outputs: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    patches: Mapping[str, Sequence[int]],
    views: ml_collections.ConfigDict,
    plays: bool,
) -> Figures:
    """Draws the students' reconstructions.

    Args:
        outputs: Views, predictions and masks by modality, as for
            `reconstructions.reconstruct_video` and `reconstructions.reconstruct_audio`.
        patches: Extents of a patch by modality.
        views: The run's `config.views`.
        plays: Whether to make videos and sounds too, which takes longer than the pictures.

    Returns:
        The images `reconstruction/video` and `reconstruction/audio`; the videos
        `reconstruction/clips`, where each has the rows of `reconstructions.ROWS` side by side; the
        sounds `reconstruction/sound/original` and `reconstruction/sound/reconstructed`.
    """
    images, videos, audios = {}, {}, {}
    if "video" in outputs:
        rows = reconstructions.reconstruct_video(*outputs["video"], patches["video"])
        images["reconstruction/video"] = reconstructions.video_montage(rows, views.video.frame_rate)
        if plays:
            videos["reconstruction/clips"] = side_by_side(rows)
    if "audio" in outputs:
        rows = reconstructions.reconstruct_audio(*outputs["audio"], patches["audio"])
        images["reconstruction/audio"] = reconstructions.audio_montage(rows, views.audio)
        if plays:
            audios = {f"reconstruction/sound/{k}": v for k, v in sounds(rows, views.audio).items()}
    return Figures(images, videos, audios, views.video.frame_rate, views.audio.sample_rate)


def side_by_side(rows: np.ndarray) -> np.ndarray:
    """Puts the rows of each example side by side.

    Args:
        rows: `(3, B, T, H, W, 3)` uint8, from `reconstructions.reconstruct_video`.

    Returns:
        `(B, T, H', W', 3)` uint8, where small frames are enlarged by a whole factor.
    """
    clips = np.concatenate(rows, axis=3)
    scale = max(1, round(_SIDE / rows.shape[4]))
    return clips.repeat(scale, axis=2).repeat(scale, axis=3)


def sounds(rows: np.ndarray, audio: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """Makes log-mels heard. Both sounds get their phases from the method of Griffin and Lim.

    Args:
        rows: `(3, B, F, T)` float32, from `reconstructions.reconstruct_audio`.
        audio: The run's `config.views.audio`.

    Returns:
        `original` and `reconstructed`, `(B, S, 1)` float32 each. The loudest moment of an original
        has the amplitude 0.7, and its reconstruction is scaled by the same factor. Nothing in it is
        louder than the loudest band of the original.
    """
    original, _, reconstructed = rows
    # A network that has learned little may predict powers that are too loud, even for float32.
    loudest = original.max(axis=(1, 2), keepdims=True)
    waves = sound.waveforms([*original, *np.minimum(reconstructed, loudest)], audio)
    count = len(original)
    pairs = [sound.leveled(waves[n], waves[count + n]) for n in range(count)]
    originals, others = (np.stack(waves)[..., None] for waves in zip(*pairs, strict=True))
    return {"original": originals, "reconstructed": others}
