"""Signs of a collapse that the paper's monitors show late or never.

LayerNorm fixes an output's mean square: the share that all clips have in common and the share that
differs between clips add up to one. In a collapse the second goes to 0. Centering removes the
first, and a sharp teacher makes distributions of the little that is left. So the paper's monitors,
KL divergence and distillation, stay large for thousands of steps.

The ranks of the online probe fall when features or outputs come to use fewer directions. Those of
outputs fall in healthy runs too, while much of the outputs differs between clips.
"""

import math
import re

import numpy as np

from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.report.health.findings import Advice, Finding, since
from xkd_jax.report.history import History

# Share of a teacher's outputs that differs between clips, at most so in a collapse.
SHARE = 0.02
FROM_STEP = 100  # before, networks that are fresh may have any share
# From this share on, outputs tell clips apart: a KL divergence that falls means that the student
# learns, and outputs that use fewer directions that the teacher tells groups of clips apart.
CLIPS_APART = 0.1
# A rank has fallen if it is at most this share of its highest value.
FALLEN = 0.5

_RANK = re.compile(r"(rankme|lidar)/(video|audio)_(teacher|student|outputs)$")


def find(history: History, advice: Advice) -> dict[str, Finding]:
    """Finds outputs that no longer depend on the clip, and ranks that have fallen.

    Args:
        history: Log of the run so far.
        advice: Remedies that are left to try.

    Returns:
        Findings by the name of the metric that shows them.
    """
    findings = {
        f"between_clips/{m}_teacher": _alike_outputs(history, m, advice) for m in MODALITIES
    }
    findings |= {match[0]: _fallen(history, match, advice) for match in _rank_names(history)}
    return {name: finding for name, finding in findings.items() if finding}


def _alike_outputs(history: History, m: str, advice: Advice) -> Finding | None:
    """Finds collapse in the share of a teacher's outputs that differs between clips."""
    name = f"between_clips/{m}_teacher"
    steps, shares = history.known(name)
    began = since(steps, (shares <= SHARE) & (steps >= FROM_STEP))
    if began is None:
        return None
    numbers = f"a deviation of {math.sqrt(max(shares[-1], 0.0)):.3f}"
    temperature = history.last(f"schedule/teacher_temperature_{m}")
    if not math.isnan(temperature):
        numbers += f" at a temperature of {temperature:g}"
    text = (
        f"The {m} teacher's outputs hardly depend on the clip: {shares[-1]:.2%} of them differs "
        f"between clips ({name}), {numbers}."
    )
    remedies = advice.select("alignment", "norm", "centering", "soften", "slow", "batch")
    return Finding("collapsed", text, began, remedies)


def _fallen(history: History, match: re.Match, advice: Advice) -> Finding | None:
    """Finds that features or outputs use far fewer directions than they did."""
    name, _, m, network = match[0], *match.groups()
    if network == "outputs" and history.last(f"between_clips/{m}_teacher") >= CLIPS_APART:
        return None
    steps, values = history.known(name)
    began = since(steps, values <= FALLEN * np.maximum.accumulate(values))
    if began is None or began == steps[-1]:  # one value is no stretch
        return None
    whose = _whose(match)
    highest = int(np.argmax(values))
    text = (
        f"{whose.capitalize()} use fewer and fewer directions: {name} is {values[-1]:.3g}, and was "
        f"{values[highest]:.3g} at step {steps[highest]}."
    )
    remedies = advice.select("alignment", "norm", "centering", "slow", "rate", "batch")
    return Finding("warning", text, began, remedies)


def _rank_names(history: History) -> list[re.Match]:
    """Returns matches of `_RANK` with the names of the ranks in a log."""
    return [match for name in history.metrics if (match := _RANK.match(name))]


def _whose(match: re.Match) -> str:
    """Says in words what the name of a rank is about."""
    _, m, network = match.groups()
    return f"the {m} teacher's outputs" if network == "outputs" else f"the {m} {network}'s features"
