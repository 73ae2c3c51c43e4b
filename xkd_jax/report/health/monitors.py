"""What the monitors of collapse say, which a run logs (docs/method.md, section 4.7).

The paper's signs of collapse are a KL divergence or a distillation loss that goes to 0 (section 4.3
and appendix B). Bounds are shares of log J, the entropy of J equally likely outputs, because no
number of nats fits projectors of all sizes.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping

import numpy as np

from xkd_jax.method.models.xkd import MODALITIES, OTHER
from xkd_jax.report.health import early
from xkd_jax.report.health.findings import Advice, Finding, since
from xkd_jax.report.history import History

# Shares of log J. Collapsed: distillation or KL at most this, entropy at least this.
DISTILLATION_GONE = 0.05
KL_GONE = 0.02
ENTROPY_UNIFORM = 0.97

# Metrics that `find_in_progress` looks at, and those that say whether they mean anything.
WATCHED = re.compile(
    r"between_clips/\w+_teacher|(rankme|lidar)/|schedule/teacher_temperature_|distillation/|kl/|"
    r"entropy/|data/with_"
)


def find(history: History, outputs: int, advice: Advice) -> list[Finding]:
    """Finds collapse, or else metrics on their way to it; says so if all is well.

    Args:
        history: Log of the run.
        outputs: J, the number of a projector's outputs.
        advice: Remedies that are left to try.
    """
    log_j = math.log(outputs)
    found = [*early.find(history, advice).values(), *_collapses(history, log_j, advice).values()]
    if not any(finding.level == "collapsed" for finding in found):
        found += _approaches(history, log_j, advice)
    return found or _all_clear(history, log_j)


def find_in_progress(history: History, outputs: int, advice: Advice) -> dict[str, Finding]:
    """Finds what a run in progress should warn of, by the rules of `find`.

    Args:
        history: Log of the run so far; of its metrics, those that match `WATCHED` are enough.
        outputs: J, the number of a projector's outputs.
        advice: Remedies that are left to try.

    Returns:
        Findings by the name of the metric that shows them.
    """
    found = early.find(history, advice)
    if history.steps[-1] >= early.FROM_STEP:
        found |= _collapses(history, math.log(outputs), advice)
    return found


def _collapses(history: History, log_j: float, advice: Advice) -> dict[str, Finding]:
    """Finds what has collapsed by the paper's signs, by the name of the metric."""
    found = {}
    for m in MODALITIES:
        found |= _collapses_of(history, m, log_j, advice)
    return found


def _collapses_of(history: History, m: str, log_j: float, advice: Advice) -> dict[str, Finding]:
    """Finds what has collapsed in a modality."""
    teacher = OTHER[m]
    check = functools.partial(_beyond_bound, history, log_j, advice)
    # If distillation has gone to 0, KL has too, and tells nothing more.
    student = check(
        f"distillation/{m}",
        lambda share: share <= DISTILLATION_GONE,
        f"The {teacher} teacher puts out the same single output for every clip, and the {m} "
        "student has learned it by heart: distillation is almost 0",
        ("centering", "soften", "batch"),
    ) or check(
        f"kl/{teacher}_to_{m}",
        lambda share: share <= KL_GONE,
        f"The {m} student's distribution is that of the {teacher} teacher: their KL "
        "divergence has gone to 0",
        ("norm", "alignment", "centering", "sharpen", "rate"),
    )
    uniform_teacher = check(
        f"entropy/{m}_teacher",
        lambda share: share >= ENTROPY_UNIFORM,
        f"The {m} teacher gives every output the same probability, which tells its student nothing",
        ("norm", "sharpen", "slow", "rate"),
    )
    uniform_student = check(
        f"entropy/{m}_student",
        lambda share: share >= ENTROPY_UNIFORM,
        f"The {m} student gives every output about the same probability, whatever it sees",
        ("norm", "alignment", "sharpen", "rate"),
    )
    return student | uniform_teacher | uniform_student


def _beyond_bound(
    history: History,
    log_j: float,
    advice: Advice,
    name: str,
    is_beyond: Callable[[np.ndarray], np.ndarray],
    text: str,
    remedies: tuple[str, ...],
) -> dict[str, Finding]:
    """Finds collapse in a metric, whose shares of log J are beyond a bound up to the end."""
    steps, values = history.known(name)
    began = since(steps, is_beyond(values / log_j))
    if began is None or began == steps[-1]:  # one value is no stretch
        return {}
    numbers = f"{name} is {values[-1]:.3g} nats; log J is {log_j:.3g}"
    return {name: Finding("collapsed", f"{text} ({numbers}).", began, advice.select(*remedies))}


def _approaches(history: History, log_j: float, advice: Advice) -> list[Finding]:
    """Finds metrics that fall towards a collapse, of teachers that do not tell clips apart."""
    findings = []
    for m in MODALITIES:
        if history.last(f"between_clips/{OTHER[m]}_teacher") >= early.CLIPS_APART:
            continue
        for name, bound in (
            (f"distillation/{m}", 3 * DISTILLATION_GONE),
            (f"kl/{OTHER[m]}_to_{m}", 5 * KL_GONE),
        ):
            shares = history.known(name).values / log_j
            first_half = shares[: -(-len(shares) // 2)]
            if len(shares) < 4 or shares[-1] >= min(bound, 0.6 * np.median(first_half)):
                continue
            text = (
                f"{name} is falling towards 0 ({shares[-1] * log_j:.3g} nats, {shares[-1]:.0%} of "
                "log J): on its way to collapse."
            )
            remedies = advice.select("centering", "norm", "alignment")
            findings.append(Finding("warning", text, remedies=remedies))
    return findings


def _all_clear(history: History, log_j: float) -> list[Finding]:
    """States that no monitor is near a collapse, with its numbers; nothing without monitors."""
    apart = _shares(history, {f"of the {m} teacher's": f"between_clips/{m}_teacher" for m in OTHER})
    distances = {f"for the {m} student": f"kl/{teacher}_to_{m}" for m, teacher in OTHER.items()}
    distant = _shares(history, distances, log_j)
    parts = []
    if apart:
        parts.append(
            f"outputs change with the clip (between_clips: {apart} outputs differ between clips; "
            f"collapsed: {early.SHARE:.0%} or less)"
        )
    if distant:
        parts.append(
            f"students still differ from their teachers (KL divergence: {distant}, in shares of "
            f"log J for J outputs; collapsed: {KL_GONE:.0%} or less)"
        )
    return [Finding("good", f"The log shows no collapse: {' and '.join(parts)}.")] if parts else []


def _shares(history: History, names: Mapping[str, str], whole: float = 1.0) -> str:
    """Says the last shares that metrics have of a whole, by whose they are; empty without any."""
    shares = {whose: history.last(name) / whole for whose, name in names.items()}
    known = [f"{share:.0%} {whose}" for whose, share in shares.items() if not math.isnan(share)]
    return " and ".join(known)
