"""What the outputs of the networks for some clips say now, and what is wrong with these clips.

The monitors of a run say since when it has collapsed; this says, without a log too, whether outputs
tell one clip from another at all.
"""

import dataclasses
import math
from collections.abc import Mapping

from xkd_jax.method.models.xkd import OTHER
from xkd_jax.report.health.findings import LEARNED, NOT_RESTORED, Advice, Finding
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


def find(measured: Measured, advice: Advice, table: str | None = None) -> list[Finding]:
    """Finds what the outputs and the clips show.

    Args:
        measured: Measurements of the clips.
        advice: Remedies that are left to try.
        table: Title of the section with the accuracies of an evaluation; None without one.
    """
    findings = []
    if measured.clips > 1:
        remedies = advice.select("centering", "norm", "alignment", "sharpen")
        findings = _uninformative(measured, remedies) + _alike(measured, remedies)
        findings = findings or _informative(measured)
        findings += _imbalance(measured) + _classes(measured)
        findings += _reconstruction(measured) + _neighbors(measured, table)
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
        f"the {m} {network}'s {nats / log_n:.0%}"
        for (network, m), nats in measured.information.items()
    )
    text = (
        f"Outputs tell clips apart. Of the information that identifies one of the report's "
        f"{measured.clips} clips, they carry a part: {shares} (mutual information of output and "
        f"clip, in shares of log {measured.clips})."
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
    of_teachers = {m: x for (network, m), x in measured.classes.items() if network == "teacher"}
    if not of_teachers:
        return []
    parts = [
        f"the {m} teacher's outputs say {max(x.information / x.entropy, 0.0):.0%} (the "
        f"class makes {max(x.outputs, 0.0):.0%} of their variance)"
        for m, x in of_teachers.items()
    ]
    text = (
        f"Of what it takes to name a clip's class, {' and '.join(parts)}. A student can learn from "
        "the other modality's teacher only what both modalities show (class information)."
    )
    return [Finding("note", text)]


def _reconstruction(measured: Measured) -> list[Finding]:
    """States how well masked patches of the clips are restored."""
    findings = []
    for m, error in measured.errors.items():
        baseline = measured.baselines[m]
        share = error / baseline
        numbers = (
            f"on the report's clips its error is {error:.3g}, where predicting each patch's mean "
            f"gives {baseline:.3g}"
        )
        if share < LEARNED:
            text = f"Reconstruction of masked {m} is learned: {numbers}; {1 - share:.0%} less."
            findings.append(Finding("good", text))
        else:
            text = f"Reconstruction of masked {m} is not learned (yet): {numbers}; no better."
            findings.append(Finding("warning", text, remedies=NOT_RESTORED))
    return findings


def _neighbors(measured: Measured, table: str | None) -> list[Finding]:
    """States whether nearest neighbors find the class, beside chance and an untrained network."""
    gained, others = [], []
    for m, (trained, untrained, chance) in measured.accuracies.items():
        margin = 2 * math.sqrt(max(chance * (1 - chance), 1e-9) / measured.clips)
        is_better_than_chance = trained > chance + margin
        text = f"{trained:.0%} of the clips by features of {m}"
        text += "" if math.isnan(untrained) else f" (untrained: {untrained:.0%})"
        if is_better_than_chance and not trained <= untrained + margin / 2:
            gained.append(text)
        else:
            reference = "without training" if is_better_than_chance else "guessing"
            others.append(f"{text}, no better than {reference} (yet)")
    guesses = max((chance for *_, chance in measured.accuracies.values()), default=0.0)
    caveat = (
        f"chance is {guesses:.0%}. A crude measure, to be compared with nothing but its own "
        f"untrained number: the report's {measured.clips} clips vote on each other, without a "
        "training set"
    )
    caveat += f". The accuracies to go by are in the table below ({table})." if table else "."
    return [
        Finding(level, f"The nearest neighbors name the class of {' and '.join(parts)}; {caveat}")
        for level, parts in (("good", gained), ("note", others))
        if parts
    ]


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
