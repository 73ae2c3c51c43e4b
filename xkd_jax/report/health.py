"""A verdict on a run in words: collapsed or not, by which monitor and since when, and what to try.

Two kinds of evidence. The monitors that the run logged (section 4.7 of docs/method.md) say since
when; what the networks make of clips now says whether their outputs tell one clip from another at
all. The paper's signs of collapse are a KL divergence or a distillation loss that goes to 0
(section 4.3 and appendix B). Thresholds are shares of log J, the entropy of J equal outputs, since
no absolute number of nats fits all sizes of projectors.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xkd_jax.method.models.xkd import MODALITIES, OTHER
from xkd_jax.report import collapse
from xkd_jax.report.history import History
from xkd_jax.report.representations import OfClass
from xkd_jax.run import data_log

LEVELS = ("collapsed", "warning", "good", "note")

# Shares of log J.
NOTHING_TO_FOLLOW = (
    0.05  # distillation at most so: the teacher's output is one, and always the same
)
SAME = 0.02  # KL at most so: nothing is left to learn from the teacher
UNIFORM = 0.97  # entropy at least so: the output tells nothing
# Share of a teacher's outputs that differs between clips. From here on, a KL divergence that falls
# means that the student learns.
APART = 0.1
# Share of log n, the most that outputs can tell of n clips.
INFORMATIVE = 0.1
# Clips that it takes to judge by what outputs tell.
FEWEST = 8
# Cosine between the features of different clips, on average.
ALIKE = 0.995
# Of the masked patches' means, whose error is about 1.
LEARNS = 0.97
# Gradient norms of the two encoders, one over the other.
IMBALANCE = 10.0
_REMEDIES = {
    "no_centering": "turn centering on (config.xkd.centering=True)",
    "norm": "give the projector its norms (config.model.projector.norm='every')",
    "alignment": "give domain alignment its weight (config.xkd.lambda_da=1)",
    "sharpen": (
        "sharpen the teachers (lower config.xkd.teacher_temperature.*_end by a third) and check "
        "that it stays below config.xkd.student_temperature"
    ),
    "soften": "raise config.xkd.teacher_temperature.*_start and *_end",
    "rate": "lower config.optimizer.learning_rate, or lengthen its warm-up",
    "batch": "raise config.batch_size: centers and MMD are estimated on the batch",
    "slow": "begin with a slower teacher (config.xkd.ema_video and ema_audio nearer to 1)",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: Out of `LEVELS`.
        text: What, by which monitor, with its numbers.
        since: The step since which the log shows it; None where no log says so.
        remedies: What to try, in order.
    """

    level: str
    text: str
    since: int | None = None
    remedies: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What it all comes to.

    Attributes:
        level: The worst of the findings; `note` where nothing is known.
        headline: One sentence.
        findings: The worst first.
    """

    level: str
    headline: str
    findings: tuple[Finding, ...]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the networks make of n clips now, for the verdict; what is not known is not there.

    Attributes:
        clips: n.
        information: By (network, modality), nats that the outputs tell of the clip: entropy of the
            mean distribution less mean entropy.
        similarity: By (network, modality), mean cosine between features of different clips.
        errors: By modality, of the student's reconstruction at the training's own mask ratio or
            the nearest to it.
        baselines: By modality, the same of predicting each patch's mean.
        accuracies: By modality, of neighbors among the clips: (trained, untrained, chance); those
            of no untrained network are NaN.
        classes: By (network, modality), how much of what the outputs tell is the class.
        silent: Share of the clips without sound.
        still: Share of the clips whose picture does not move.
        dark: Share of the clips whose picture is of one color.
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


def judge(
    history: History | None, config: Mapping | None, outputs: int | None, measured: Measured | None
) -> Verdict:
    """Finds what there is to find.

    Args:
        history: The log of the run, or None.
        config: Of the run, or None.
        outputs: J, of the projectors; None where not known.
        measured: What the networks make of clips, or None.
    """
    findings: list[Finding] = []
    remedies = _remedies(config)
    if history is not None and len(history) and outputs:
        findings += _by_monitors(history, math.log(outputs), remedies)
    if history is not None and len(history):
        findings += _by_course(history)
        findings += _unreadable(history)
    if measured is not None:
        findings += _by_outputs(measured, remedies)
        findings += _inputs(measured)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return _verdict(findings, history, measured)


def since(steps: np.ndarray, holds: np.ndarray) -> int | None:
    """The first step of the stretch up to the end in which something holds all along, or None."""
    holds = np.asarray(holds, bool)
    if not len(holds) or not holds[-1]:
        return None
    broken = np.flatnonzero(~holds)
    return int(steps[broken[-1] + 1 if len(broken) else 0])


def _by_monitors(history: History, most: float, remedies: Mapping[str, str]) -> list[Finding]:
    """What the monitors of collapse say; `most` is log J."""
    found = []

    def check(
        name: str, holds: Callable[[np.ndarray], np.ndarray], text: str, advice: Sequence[str]
    ) -> bool:
        steps, values = _known(history, name)
        # One value is no stretch: the first ones of a run may be anything.
        began = since(steps, holds(values)) if len(steps) > 1 else None
        if began is None or began == steps[-1]:
            return False
        numbers = f"{name} is {values[-1]:.3g} nats; log J is {most:.3g}"
        tips = tuple(remedies[tip] for tip in advice if tip in remedies)
        found.append(Finding("collapsed", f"{text} ({numbers}).", began, tips))
        return True

    for m in MODALITIES:
        teacher = OTHER[m]
        name = f"between_clips/{m}_teacher"
        steps, shares = _known(history, name)
        began = since(steps, (shares <= collapse.SHARE) & (steps >= collapse.FROM_STEP))
        if began is not None:
            text = (
                f"The {m} teacher's outputs hardly depend on the clip: "
                f"{shares[-1]:.2%} of them differs between clips ({name})."
            )
            advice = ("alignment", "norm", "no_centering", "soften", "slow", "batch")
            tips = tuple(remedies[tip] for tip in advice if tip in remedies)
            found.append(Finding("collapsed", text, began, tips))
        check(
            f"distillation/{m}",
            lambda x: x <= NOTHING_TO_FOLLOW * most,
            f"The {teacher} teacher puts out the same single output for every clip, and the {m} "
            "student has learned it by heart: distillation is almost 0",
            ("no_centering", "soften", "batch"),
        ) or check(
            f"kl/{teacher}_to_{m}",
            lambda x: x <= SAME * most,
            f"The {m} student's distribution is that of the {teacher} teacher: their KL "
            "divergence has gone to 0",
            ("norm", "alignment", "no_centering", "sharpen", "rate"),
        )
        check(
            f"entropy/{m}_teacher",
            lambda x: x >= UNIFORM * most,
            f"The {m} teacher gives every output the same probability, which tells its student "
            "nothing",
            ("norm", "sharpen", "slow", "rate"),
        )
        check(
            f"entropy/{m}_student",
            lambda x: x >= UNIFORM * most,
            f"The {m} student gives every output about the same probability, whatever it sees",
            ("norm", "alignment", "sharpen", "rate"),
        )
    if found:
        return found
    apart = {m: _known(history, f"between_clips/{m}_teacher")[1][-1:] for m in MODALITIES}
    for m in MODALITIES:
        if (apart[OTHER[m]] >= APART).any():
            continue
        for name, floor in (
            (f"distillation/{m}", 3 * NOTHING_TO_FOLLOW),
            (f"kl/{OTHER[m]}_to_{m}", 5 * SAME),
        ):
            _, values = _known(history, name)
            if (
                len(values) >= 4
                and values[-1] < floor * most
                and values[-1] < 0.6 * np.median(values[: -(-len(values) // 2)])
            ):
                tips = tuple(
                    remedies[tip]
                    for tip in ("no_centering", "norm", "alignment")
                    if tip in remedies
                )
                found.append(
                    Finding(
                        "warning",
                        f"{name} is falling towards 0 ({values[-1]:.3g} nats, "
                        f"{values[-1] / most:.0%} of log J): on its way to collapse.",
                        remedies=tips,
                    )
                )
    if not found:
        lowest = [
            (name, _known(history, name)[1][-1] / most)
            for m in MODALITIES
            for name in (f"kl/{OTHER[m]}_to_{m}", f"distillation/{m}")
            if len(_known(history, name)[1])
        ]
        if lowest:
            numbers = ", ".join(f"{name} {share:.0%}" for name, share in lowest)
            differing = [f"{x[0]:.0%} of the {m} teacher's" for m, x in apart.items() if len(x)]
            between = f"of the outputs, {' and '.join(differing)} differ between clips; "
            found.append(
                Finding(
                    "good",
                    f"No monitor of collapse is near its end: {between if differing else ''}KL "
                    f"divergence and distillation are above 0 (of log J: {numbers}), and no output "
                    "is uniform.",
                )
            )
    return found


def _by_course(history: History) -> list[Finding]:
    """What the terms, the norms and the speeds say."""
    found = []
    for m in MODALITIES:
        steps, values = _known(history, f"reconstruction/{m}")
        if len(values) < 2:
            continue
        level = "good" if values[-1] < LEARNS and values[-1] < values[0] else "warning"
        tips = ("train longer", "raise config.optimizer.learning_rate, or check the data")
        found.append(
            Finding(
                level,
                f"Reconstruction of masked {m} "
                + ("is learned: " if level == "good" else "is not learned (yet): ")
                + f"{values[0]:.3g} at step {steps[0]}, {values[-1]:.3g} at step {steps[-1]}; "
                "1 is what predicting each patch's mean gives.",
                remedies=() if level == "good" else tips,
            )
        )
    total, steps = history.metrics.get("total"), history.steps
    if total is not None and np.isfinite(total).sum() >= 8:
        known = np.isfinite(total)
        smooth = np.convolve(total[known], np.ones(3) / 3, "valid")
        lowest = int(np.argmin(smooth))
        if smooth[-1] > 1.5 * smooth[lowest]:
            found.append(
                Finding(
                    "warning",
                    f"The total loss has risen by {smooth[-1] / smooth[lowest] - 1:.0%} since its "
                    "lowest. Distillation rises while teachers come to tell more clips apart; "
                    "reconstruction must not rise.",
                    int(steps[known][lowest + 1]),
                    (_REMEDIES["rate"],),
                )
            )
    norms = [_known(history, f"gradient_norm/{m}/encoder")[1] for m in MODALITIES]
    if all(len(x) for x in norms):
        recent = [float(np.median(x[-max(1, len(x) // 4) :])) for x in norms]
        if min(recent) == 0:
            dead = MODALITIES[int(np.argmin(recent))]
            found.append(
                Finding("warning", f"No gradient reaches the encoder of {dead}: it does not learn.")
            )
        elif max(recent) / min(recent) > IMBALANCE:
            strong, weak = (MODALITIES[i] for i in np.argsort(recent)[::-1])
            found.append(
                Finding(
                    "warning",
                    f"Modality imbalance: the gradient of the encoder of {strong} is "
                    f"{max(recent) / min(recent):.0f} times that of {weak}.",
                    remedies=(
                        f"check that the input of {weak} is alive (below)",
                        f"give {weak} the sharper teacher: lower the other's "
                        "config.xkd.teacher_temperature",
                    ),
                )
            )
    sound_steps, sound = _known(history, "data/with_sound")
    if len(sound) and sound[-1] < 0.5:
        found.append(
            Finding(
                "warning",
                f"Dead input: only {sound[-1]:.0%} of the clips that were trained on have sound; "
                "the others are silence.",
                since(sound_steps, sound < 0.5),
                ("leave files without sound out (input_pipeline.prepare --require=both)",),
            )
        )
    _, waited = _known(history, "speed/data_wait")
    if len(waited) and np.median(waited) > 0.3:
        found.append(
            Finding(
                "warning",
                f"The devices wait for data {np.median(waited):.0%} of the time.",
                remedies=("prepare the data (input_pipeline.prepare), or raise data.threads",),
            )
        )
    return found


def _by_outputs(measured: Measured, remedies: Mapping[str, str]) -> list[Finding]:
    """What the networks' answers to clips say."""
    found = []
    if measured.clips < 2:
        return found
    most = math.log(measured.clips)
    tips = tuple(
        remedies[t] for t in ("no_centering", "norm", "alignment", "sharpen") if t in remedies
    )
    for (network, m), nats in measured.information.items():
        if measured.clips < FEWEST or nats >= INFORMATIVE * most:
            continue
        followed = measured.information.get(("teacher", OTHER[m]), math.inf)
        if network == "student" and followed < INFORMATIVE * most:
            continue  # there is nothing to follow
        numbers = (
            f"they tell {nats:.2g} nats of it, {nats / most:.0%} of the {most:.2g} that it takes "
            f"to tell {measured.clips} clips apart"
        )
        if network == "teacher":
            text = f"The {m} teacher's outputs hardly depend on the clip: {numbers}."
            found.append(Finding("collapsed", text, remedies=tips))
        else:
            # A student that has only just begun follows its teacher's average: no collapse.
            text = (
                f"The {m} student's outputs hardly depend on the clip (yet): {numbers}. It follows "
                f"what the {OTHER[m]} teacher says on average, and not of the clip."
            )
            found.append(Finding("warning", text, remedies=("train longer", *tips)))
    for (network, m), cosine in measured.similarity.items():
        if cosine > ALIKE:
            found.append(
                Finding(
                    "collapsed",
                    f"The {m} {network}'s features of different clips are all but the same: their "
                    f"cosine is {cosine:.4f} on average.",
                    remedies=tips,
                )
            )
    if measured.information and measured.clips >= FEWEST and not found:
        numbers = ", ".join(
            f"{m} {network} {nats / most:.0%}"
            for (network, m), nats in measured.information.items()
        )
        found.append(
            Finding(
                "good",
                f"Outputs tell clips apart: of all that there is to tell about {measured.clips} "
                f"clips, {numbers}.",
            )
        )
    informative = {m: nats for (n, m), nats in measured.information.items() if n == "teacher"}
    if len(informative) == 2 and max(informative.values()) > INFORMATIVE * most:
        strong = max(informative, key=informative.get)
        if informative[OTHER[strong]] < 0.25 * informative[strong]:
            found.append(
                Finding(
                    "warning",
                    f"Modality imbalance: the {strong} teacher tells {informative[strong]:.2g} "
                    f"nats of a clip, the {OTHER[strong]} teacher "
                    f"{informative[OTHER[strong]]:.2g}.",
                    remedies=(f"check that the input of {OTHER[strong]} is alive",),
                )
            )
    for (network, m), of_class in measured.classes.items():
        if network == "teacher":
            text = (
                f"Of what the {m} teacher's outputs tell of a clip, "
                f"{max(of_class.information, 0.0):.2g} nats are its class, of "
                f"{of_class.entropy:.2g} that there are to tell; the class makes "
                f"{max(of_class.outputs, 0.0):.0%} of their variance. The {OTHER[m]} student can "
                "learn from it only what both modalities tell."
            )
            found.append(Finding("note", text))
    for m, error in measured.errors.items():
        baseline = measured.baselines[m]
        gain = 1 - error / baseline
        level = "good" if gain > 1 - LEARNS else "warning"
        found.append(
            Finding(
                level,
                f"Masked {m} of clips looked at now is restored with an error of {error:.3g}, "
                f"where predicting each patch's mean gives {baseline:.3g}"
                + (f": {gain:.0%} less." if level == "good" else ": no better."),
            )
        )
    for m, (trained, untrained, chance) in measured.accuracies.items():
        margin = 2 * math.sqrt(max(chance * (1 - chance), 1e-9) / measured.clips)
        better = trained > chance + margin
        beside = "" if math.isnan(untrained) else f", of an untrained network of {untrained:.0%}"
        gained = better and not trained <= untrained + margin / 2
        lacks = (
            ""
            if gained
            else ": no better than without training (yet)"
            if better
            else ": no better than guessing (yet)"
        )
        found.append(
            Finding(
                "good" if gained else "note",
                f"Nearest neighbors on features of {m} find the class of {trained:.0%} of the "
                f"clips{beside}; chance is {chance:.0%}{lacks}.",
            )
        )
    return found


def _unreadable(history: History) -> list[Finding]:
    """What of the data could not be read, so that other recordings were trained on more often."""
    steps, counts = _known(history, data_log.REPLACED)
    if not counts.any() and not history.unreadable:
        return []
    text = f"{counts.sum():.0f} clips were of other recordings than those asked for"
    if history.unreadable:
        text += (
            f", since {len(history.unreadable)} could not be read: "
            f"{data_log.in_words(history.unreadable)}"
        )
    began = int(steps[counts > 0][0]) if counts.any() else None
    tip = "mend or take away the files that unreadable-*.json in the run's folder names"
    return [Finding("warning", f"{text}.", since=began, remedies=(tip,))]


def _inputs(measured: Measured) -> list[Finding]:
    """What is wrong with the clips looked at."""
    found = []
    for share, what, tip in (
        (measured.silent, "have no sound", "leave them out with --require=both when preparing"),
        (measured.dark, "show one color and nothing else", "look at them: is the decoder right?"),
        (measured.still, "do not move", "look at them: stills teach no movement"),
    ):
        if share > 0.2:
            text = f"Dead input: {share:.0%} of the clips looked at {what}."
            found.append(Finding("warning", text, remedies=(tip,)))
    return found


def _verdict(
    findings: Sequence[Finding], history: History | None, measured: Measured | None
) -> Verdict:
    if not findings:
        return Verdict("note", "There is nothing here that a verdict could rest on.", ())
    level = findings[0].level
    if level == "collapsed":
        began = [f.since for f in findings if f.level == "collapsed" and f.since is not None]
        when = f", since step {min(began)}" if began else ""
        reason = next(
            (f for f in findings if f.level == "collapsed" and f.since == min(began, default=None)),
            findings[0],
        )
        return Verdict(level, f"Collapsed{when}. {reason.text}", tuple(findings))
    checked = [
        what
        for what, there in (
            ("the monitors that the run logged", history is not None),
            ("what its networks make of clips", measured is not None),
        )
        if there
    ]
    basis = f"judged by {' and '.join(checked)}"
    warnings = sum(finding.level == "warning" for finding in findings)
    if warnings:
        them = "a warning" if warnings == 1 else f"{warnings} warnings"
        return Verdict(level, f"Not collapsed, with {them}; {basis}.", tuple(findings))
    if any(finding.level == "good" for finding in findings):
        return Verdict("good", f"Not collapsed, and learning; {basis}.", tuple(findings))
    return Verdict("note", f"Nothing wrong was found; {basis}.", tuple(findings))


def _known(history: History, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and values of a metric where it is known."""
    values = history.metrics.get(name, np.full(len(history), np.nan))
    known = np.isfinite(values)
    return history.steps[known], values[known]


def _remedies(config: Mapping | None) -> dict[str, str]:
    """What may be tried with this config: not what it does already."""
    left = dict(_REMEDIES)
    if config is None:
        return left
    if config["xkd"]["centering"]:
        left.pop("no_centering")
    if config["model"]["projector"]["norm"] == "every":
        left.pop("norm")
    if config["xkd"]["lambda_da"] >= 1:
        left.pop("alignment")
    return left
