"""What the outputs of the networks for some clips say now, and what is wrong with these clips.

The monitors of a run say since when it has collapsed; this says, without a log too, whether outputs
tell one clip from another at all.
"""

import dataclasses
import math
from collections.abc import Mapping

from xkd_jax.method.models.xkd import OTHER
from xkd_jax.report.health.findings import LEARNED, Advice, Finding
from xkd_jax.report.representations import OfClass

# Collapsed: outputs tell less than this share of log n, the most that they can tell of n clips.
INFORMATIVE = 0.1
FEWEST_CLIPS = 8  # with fewer, what outputs tell is not judged
# Collapsed: the mean cosine between features of different clips is above this.
COSINE_ALIKE = 0.995
# A warning: more than this share of the clips is silent, of one color, or still.
DEAD_CLIPS = 0.2


@dataclasses.dataclass(frozen=True)
class Measured:
    """Measurements of n clips and of the networks' outputs for them. Unknown ones are left out.

    Attributes:
        clips: n.
        information: Nats that the outputs tell of the clip, by (network, modality): entropy of the
            mean distribution less mean entropy.
        similarity: Mean cosine between features of different clips, by (network, modality).
        errors: Error of the student's reconstruction by modality, at the mask ratio of training or
            the nearest one.
        baselines: Error of predicting each patch's mean, by modality.
        accuracies: Accuracy of neighbors among the clips by modality: (trained, untrained, chance).
            That of an untrained network is NaN if there is no such network.
        classes: How much of what the outputs tell is the class, by (network, modality).
        silent: Share of the clips without sound.
        still: Share of the clips whose picture does not move.
        dark: Share of the clips whose picture has one color.
    """

    clips: int = 0
    information: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    similarity: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, float] = dataclasses.field(default_factory=dict)
    accuracies: Mapping[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)
    classes: Mapping[tuple[str, str], OfClass] = dataclasses.field(default_factory=dict)
    silent: float = 0.0
    still: float = 0.0
    dark: float = 0.0


def find(measured: Measured, advice: Advice) -> list[Finding]:
    """Finds what the outputs and the clips show.

    Args:
        measured: Measurements of the clips.
        advice: Remedies that are left to try.
    """
    findings = []
    if measured.clips > 1:
        remedies = advice.select("centering", "norm", "alignment", "sharpen")
        findings = _uninformative(measured, remedies) + _alike(measured, remedies)
        findings = findings or _informative(measured)
        findings += _imbalance(measured) + _classes(measured)
        findings += _reconstruction(measured) + _neighbors(measured)
    return findings + _dead_clips(measured)


def _uninformative(measured: Measured, remedies: tuple[str, ...]) -> list[Finding]:
    """Finds outputs that hardly depend on the clip."""
    findings = []
    log_n = math.log(measured.clips)
    for (network, m), nats in measured.information.items():
        if measured.clips < FEWEST_CLIPS or nats >= INFORMATIVE * log_n:
            continue
        numbers = (
            f"they tell {nats:.2g} nats of it, {nats / log_n:.0%} of the {log_n:.2g} that it takes "
            f"to tell {measured.clips} clips apart"
        )
        text = f"The {m} {network}'s outputs hardly depend on the clip"
        if network == "teacher":
            findings.append(Finding("collapsed", f"{text}: {numbers}.", remedies=remedies))
        elif measured.information.get(("teacher", OTHER[m]), math.inf) >= INFORMATIVE * log_n:
            # A student follows its teacher's average first: no collapse, if the teacher tells more.
            text += (
                f" (yet): {numbers}. It follows what the {OTHER[m]} teacher says on average, and "
                "not of the clip."
            )
            findings.append(Finding("warning", text, remedies=("train longer", *remedies)))
    return findings


def _alike(measured: Measured, remedies: tuple[str, ...]) -> list[Finding]:
    """Finds features that are the same for all clips."""
    return [
        Finding(
            "collapsed",
            f"The {m} {network}'s features of different clips are all but the same: their cosine "
            f"is {cosine:.4f} on average.",
            remedies=remedies,
        )
        for (network, m), cosine in measured.similarity.items()
        if cosine > COSINE_ALIKE
    ]


def _informative(measured: Measured) -> list[Finding]:
    """States how much the outputs tell of the clip."""
    if not measured.information or measured.clips < FEWEST_CLIPS:
        return []
    log_n = math.log(measured.clips)
    shares = ", ".join(
        f"the {m} {network}'s hold {nats / log_n:.0%}"
        for (network, m), nats in measured.information.items()
    )
    text = (
        f"Outputs tell clips apart: of the {log_n:.2g} nats that it takes to tell "
        f"{measured.clips} clips apart, {shares}."
    )
    return [Finding("good", text)]


def _imbalance(measured: Measured) -> list[Finding]:
    """Finds a teacher that tells much less of the clip than the other one."""
    nats = {m: x for (network, m), x in measured.information.items() if network == "teacher"}
    if len(nats) < 2:
        return []
    weak, strong = sorted(nats, key=nats.get)
    tells = nats[strong] > INFORMATIVE * math.log(measured.clips)
    if not tells or nats[weak] >= 0.25 * nats[strong]:
        return []
    text = (
        f"Modality imbalance: the {strong} teacher tells {nats[strong]:.2g} nats of a clip, the "
        f"{weak} teacher {nats[weak]:.2g}."
    )
    return [Finding("warning", text, remedies=(f"check that the input of {weak} is alive",))]


def _classes(measured: Measured) -> list[Finding]:
    """States how much of what the teachers tell is the class."""
    return [
        Finding(
            "note",
            f"Of the {of_class.entropy:.2f} nats that it takes to name a clip's class, the {m} "
            f"teacher's outputs hold {max(of_class.information, 0.0):.2f}; the class makes "
            f"{max(of_class.outputs, 0.0):.0%} of their variance. The {OTHER[m]} student can learn "
            "from them only what both modalities tell.",
        )
        for (network, m), of_class in measured.classes.items()
        if network == "teacher"
    ]


def _reconstruction(measured: Measured) -> list[Finding]:
    """States how well masked patches of the clips are restored."""
    findings = []
    for m, error in measured.errors.items():
        baseline = measured.baselines[m]
        share = error / baseline
        is_learned = share < LEARNED
        text = (
            f"Masked {m} of clips looked at now is restored with an error of {error:.3g}, where "
            f"predicting each patch's mean gives {baseline:.3g}: "
        )
        text += f"{1 - share:.0%} less." if is_learned else "no better."
        findings.append(Finding("good" if is_learned else "warning", text))
    return findings


def _neighbors(measured: Measured) -> list[Finding]:
    """States whether nearest neighbors find the class, beside chance and an untrained network."""
    findings = []
    for m, (trained, untrained, chance) in measured.accuracies.items():
        margin = 2 * math.sqrt(max(chance * (1 - chance), 1e-9) / measured.clips)
        is_better_than_chance = trained > chance + margin
        has_gained = is_better_than_chance and not trained <= untrained + margin / 2
        text = (
            f"Among these {measured.clips} clips, a vote of nearest neighbors by features of {m} "
            f"names the class of {trained:.0%}"
            + ("" if math.isnan(untrained) else f", by an untrained network's of {untrained:.0%}")
            + f"; chance is {chance:.0%}"
        )
        if not has_gained:
            reference = "without training" if is_better_than_chance else "guessing"
            text += f": no better than {reference} (yet)"
        findings.append(Finding("good" if has_gained else "note", f"{text}."))
    return findings


def _dead_clips(measured: Measured) -> list[Finding]:
    """Finds clips in which there is nothing to learn."""
    return [
        Finding(
            "warning",
            f"Dead input: {share:.0%} of the clips looked at {fault}.",
            remedies=(remedy,),
        )
        for share, fault, remedy in (
            (
                measured.silent,
                "have no sound",
                "leave them out with --require=both when preparing",
            ),
            (
                measured.dark,
                "show one color and nothing else",
                "look at them: is the decoder right?",
            ),
            (measured.still, "do not move", "look at them: stills teach no movement"),
        )
        if share > DEAD_CLIPS
    ]
