"""Masked views beside what the student makes of them, to be seen, played and heard."""

from collections.abc import Callable, Sequence

import numpy as np

from xkd_jax.report import attention, reconstructions, sound
from xkd_jax.report.networks import Networks
from xkd_jax.report.page import Section, audio, escape, image, player, sprite, table, tabs
from xkd_jax.report.survey import Survey

_SMALL = 100  # pixels of frames up to which the page shows each as a square


def build(networks: Networks, survey: Survey, advance: Callable[[str, int], object]) -> Section:
    """Masked views beside what the student makes of them, to be seen, played and heard."""
    section = Section("reconstruction", "Reconstruction")
    section.say(
        "The student sees a random few of the patches and restores the others. Each predicted "
        "patch is given the mean and the deviation of the original one, which the network does not "
        "predict; the visible patches are the original's."
    )
    section.numbers = {"error": {}, "error_of_patch_means": survey.baselines}
    rows, trained = [], []
    for m, restored in survey.restored.items():
        trained_at = networks.config.model[m].mask_ratio
        section.numbers["error"][m] = {f"{ratio:g}": r.error for ratio, r in restored.items()}
        rows += [
            (
                m,
                f"{ratio:.0%}",
                f"{r.error:.3f} ± {r.spread:.3f}",
                f"{survey.baselines[m]:.3f}",
                f"{1 - r.error / survey.baselines[m]:.0%}",
            )
            for ratio, r in restored.items()
        ]
        trained.append(f"{trained_at:.0%} of the {m}")
    head = ("", "masked", "error", "of patch means", "explained")
    section.add(table(head, rows))
    section.say(
        "Mean squared error of the masked patches in the space of normalized patches, on all clips "
        "looked at, ± its standard error; beside it that of predicting each patch's mean. The "
        f"training masks {' and '.join(trained)}.",
        "faint",
    )
    if "video" in survey.restored:
        section.add("<h3>Video</h3>")
        rate = networks.view("video")["frame_rate"]
        _video(section, survey, rate)
    if "audio" in survey.restored:
        section.add("<h3>Sound</h3>")
        section.say(
            "All sounds, the original too, are made from log-mels by Griffin and Lim's method, "
            "which invents the phases: compare the reconstruction with the original as it sounds "
            "here. What is masked is silent.",
            "faint",
        )
        _audio(section, networks, survey, advance)
    return section


def _video(section: Section, survey: Survey, rate: float) -> None:
    restored = survey.restored["video"]
    first = f"{min(restored, key=lambda ratio: abs(ratio - 0.8)):.0%}"
    for k, n in enumerate(survey.examples):
        original = restored[min(restored)].rows[0, k]
        small = original.shape[1] <= _SMALL
        frames = sprite(f"original_{k}", original)
        contents = {}
        for ratio, r in restored.items():
            percent = round(100 * ratio)
            keys = {
                "original": f"original_{k}",
                f"{percent}% masked": f"masked_{k}_{percent}",
                "reconstructed": f"restored_{k}_{percent}",
            }
            frames += sprite(f"masked_{k}_{percent}", r.rows[1, k])
            frames += sprite(f"restored_{k}_{percent}", r.rows[2, k])
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
    first = f"{min(restored, key=lambda ratio: abs(ratio - 0.8)):.0%}"
    for k, n in enumerate(survey.examples):
        original = restored[min(restored)].rows[0, k]
        limits = attention.value_range(original)
        masked_or_restored = [r.rows[row, k] for r in restored.values() for row in (1, 2)]
        heard, *made = sound.waveforms([original, *masked_or_restored], view)
        advance("sounds", 1 + len(made))
        contents = {}
        for j, (ratio, r) in enumerate(restored.items()):
            sounds = sound.leveled(heard, *made[2 * j : 2 * j + 2])
            looks = attention.spectrogram(r.rows[:, k], limits=limits)
            captions = ("original", f"{ratio:.0%} masked", "reconstructed")
            contents[f"{ratio:.0%}"] = _sounds(captions, looks, sounds, view["sample_rate"])
        title = f"<h3>{escape(survey.title(n))}</h3>"
        section.add(f'<div class="card">{title}{tabs("masked:", contents, first)}</div>')
    for ratio, r in restored.items():
        section.pictures[f"reconstruction_audio_{round(100 * ratio)}"] = (
            reconstructions.audio_montage(r.rows, networks.config.views.audio)
        )


def _sounds(
    captions: Sequence[str], looks: np.ndarray, sounds: Sequence[np.ndarray], rate: int
) -> str:
    figures = "".join(
        f"<figure>{image(pixels, f'log-mel, {caption}')}"
        f"{audio(sound.mp3(samples, rate), caption)}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, pixels, samples in zip(captions, looks, sounds, strict=True)
    )
    return f'<div class="panels sound">{figures}</div>'
