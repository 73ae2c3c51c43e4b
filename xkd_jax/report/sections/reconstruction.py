"""The section that shows and plays masked views beside the student's reconstructions."""

from collections.abc import Callable, Sequence

import numpy as np

from xkd_jax.encoders.networks import Networks
from xkd_jax.report import attention, masked, reconstructions, sound
from xkd_jax.report.page import Section, audio, escape, image, player, sprite, table, tabs
from xkd_jax.report.survey import Survey

_SMALL = 100  # frames up to this height are enlarged without interpolation, and kept losslessly


def build(networks: Networks, survey: Survey, advance: Callable[[str, int], object]) -> Section:
    """Builds the section with the errors and the reconstructions at each mask ratio."""
    section = Section("reconstruction", "Reconstruction")
    section.say(
        "The student sees some random patches and predicts the others. Each predicted patch is "
        "drawn with the mean and the deviation of the original patch, which the network does not "
        "predict. Visible patches are copied from the original."
    )
    section.numbers = {"error": {}, "error_of_patch_means": survey.baselines}
    rows = []
    for m, restored in survey.restored.items():
        trained_at = masked.trained_ratio(networks, m)
        section.numbers["error"][m] = {f"{ratio:g}": r.error for ratio, r in restored.items()}
        rows += [
            (
                m,
                f"{ratio:.0%}, as in training" if ratio == trained_at else f"{ratio:.0%}",
                f"{r.error:.3f} ± {r.spread:.3f}",
                f"{survey.baselines[m]:.3f}",
                f"{1 - r.error / survey.baselines[m]:.0%}",
            )
            for ratio, r in restored.items()
        ]
    head = ("", "masked", "error", "of patch means", "explained")
    section.add(table(head, rows))
    section.say(
        "Error: mean squared error of the masked patches in the space of normalized patches, over "
        "all clips, ± its standard error. Of patch means: the error of predicting each patch's "
        "mean. Explained: how far the error is below that, in % of it; 0% if the network predicts "
        "no more than the means, 100% if it restores everything.",
        "faint",
    )
    if "video" in survey.restored:
        section.add("<h3>Video</h3>")
        rate = networks.view("video")["frame_rate"]
        _video(section, survey, rate, f"{masked.trained_ratio(networks, 'video'):.0%}")
    if "audio" in survey.restored:
        section.add("<h3>Sound</h3>")
        section.say(
            "All sounds, the original too, are computed from log-mels by Griffin and Lim's method, "
            "which invents the phases. So compare the reconstruction with the original as played "
            "here. Masked parts are silent.",
            "faint",
        )
        _audio(section, networks, survey, advance)
    return section


def _video(section: Section, survey: Survey, rate: float, first: str) -> None:
    restored = survey.restored["video"]
    for k, n in enumerate(survey.examples):
        original = restored[min(restored)].rows[0, k]
        small = original.shape[1] <= _SMALL
        frames = sprite(f"original_{k}", original, small)
        contents = {}
        for ratio, r in restored.items():
            percent = round(100 * ratio)
            keys = {
                "original": f"original_{k}",
                f"{percent}% masked": f"masked_{k}_{percent}",
                "reconstructed": f"restored_{k}_{percent}",
            }
            frames += sprite(f"masked_{k}_{percent}", r.rows[1, k], small)
            frames += sprite(f"restored_{k}_{percent}", r.rows[2, k], small)
            contents[f"{ratio:.0%}"] = player(keys, len(original), rate, small)
        title = f"<h3>{escape(survey.title(n))}</h3>"
        section.add(f'<div class="card">{title}{frames}{tabs("masked:", contents, first)}</div>')
    for ratio, r in restored.items():
        section.pictures[f"reconstruction_video_{round(100 * ratio)}"] = (
            reconstructions.video_montage(r.rows, rate)
        )


def _audio(
    section: Section, networks: Networks, survey: Survey, advance: Callable[[str, int], object]
) -> None:
    restored, view = survey.restored["audio"], networks.view("audio")
    first = f"{masked.trained_ratio(networks, 'audio'):.0%}"
    for k, n in enumerate(survey.examples):
        original = restored[min(restored)].rows[0, k]
        limits = attention.value_range(original)
        masked_or_restored = [r.rows[row, k] for r in restored.values() for row in (1, 2)]
        original_sound, *others = sound.waveforms([original, *masked_or_restored], view)
        advance("sounds", 1 + len(others))
        contents = {}
        for j, (ratio, r) in enumerate(restored.items()):
            sounds = sound.leveled(original_sound, *others[2 * j : 2 * j + 2])
            pictures = attention.spectrogram(r.rows[:, k], limits=limits)
            captions = ("original", f"{ratio:.0%} masked", "reconstructed")
            contents[f"{ratio:.0%}"] = _sounds(captions, pictures, sounds, view["sample_rate"])
        title = f"<h3>{escape(survey.title(n))}</h3>"
        section.add(f'<div class="card">{title}{tabs("masked:", contents, first)}</div>')
    for ratio, r in restored.items():
        section.pictures[f"reconstruction_audio_{round(100 * ratio)}"] = (
            reconstructions.audio_montage(r.rows, networks.config.views.audio)
        )


def _sounds(
    captions: Sequence[str], pictures: np.ndarray, sounds: Sequence[np.ndarray], rate: int
) -> str:
    figures = "".join(
        f"<figure>{image(pixels, f'log-mel, {caption}')}"
        f"{audio(sound.mp3(samples, rate), caption)}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, pixels, samples in zip(captions, pictures, sounds, strict=True)
    )
    return f'<div class="panels sound">{figures}</div>'
