"""Whether the total loss has risen since its lowest, which of its terms did it, and what it means.

Distillation has a moving target. It rises when teachers come to tell more of a clip than their
students can say yet, which is no divergence. Reconstruction has a target that stays.
"""

from typing import NamedTuple

import ml_collections
import numpy as np

from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.report.health.findings import Advice, Finding
from xkd_jax.report.history import History

RISEN = 0.05  # a mean has risen if it is this share of its former value above it
MUCH = 0.5  # a rise that is a warning even if nothing explains it
WINDOW = 1 / 11  # share of the log's lines that a mean is over
HELD = 0.75  # outputs still tell clips apart if at least this part of their former share differs
_FEWEST_LINES = 8
_SMALL = 0.1  # part of the total's rise below which a term is not named
_TERMS = ("reconstruction", "alignment", "distillation")


class _Stretch(NamedTuple):
    """Steps of a log, both ends included."""

    first: int
    last: int

    def mean(self, history: History, name: str) -> float:
        """Returns the mean of a metric over the stretch; NaN if it has no values there."""
        steps, values = history.known(name)
        within = values[(steps >= self.first) & (steps <= self.last)]
        return float(within.mean()) if len(within) else float("nan")


def find(
    history: History, config: ml_collections.ConfigDict | None, advice: Advice
) -> Finding | None:
    """Finds that the total loss ends above its lowest mean, and says whether that is bad.

    Args:
        history: Log of the run.
        config: Config of the run, which has the terms' weights; None if unknown.
        advice: Remedies that are left to try.
    """
    steps, totals = history.known("total")
    if len(totals) < _FEWEST_LINES:
        return None
    size = max(3, round(WINDOW * len(totals)))
    means = np.convolve(totals, np.ones(size) / size, "valid")
    lowest = int(np.argmin(means))
    rise = means[-1] - means[lowest]
    if rise <= RISEN * means[lowest]:
        return None
    stretches = _Stretch(steps[lowest], steps[lowest + size - 1]), _Stretch(steps[-size], steps[-1])
    level, meaning = _meaning(history, config, stretches, rise)
    text = (
        f"The total loss ends {rise / means[lowest]:.0%} above its lowest: {means[-1]:.3g}, where "
        f"it was {means[lowest]:.3g} (means of {size} logged lines). {meaning}"
    )
    remedies = advice.select("rate") if level == "warning" else ()
    return Finding(level, text, int(steps[lowest + size // 2]), remedies)


def _meaning(
    history: History,
    config: ml_collections.ConfigDict | None,
    stretches: tuple[_Stretch, _Stretch],
    rise: float,
) -> tuple[str, str]:
    """Returns the level of a rise of the total between two stretches, and its meaning in words."""
    rises = _rises(history, config, stretches)
    large = sorted((name for name in rises if rises[name] > _SMALL * rise), key=rises.get)
    named = ", ".join(f"{name} by {rises[name]:.2g}" for name in reversed(large))
    terms = f"In the total's weights, these terms rose: {named}. " if named else ""
    worse = [
        m
        for m in MODALITIES
        if rises.get(f"reconstruction/{m}", 1.0) > 0
        and _grows(history, f"reconstruction/{m}", stretches)
    ]
    if worse:
        return "warning", (
            f"{terms}Masked {' and '.join(worse)} is restored worse than before, although that "
            "target does not move: the run diverges."
        )
    fewer, shares = _shares_between_clips(history, stretches)
    if fewer:
        return "warning", (
            f"{terms}The teachers come to tell fewer clips apart (between_clips: {shares}), so it "
            "is not that students have more to learn."
        )
    distilled = sum(x for name, x in rises.items() if name.startswith("distillation/"))
    if distilled > rise / 2 and shares:
        return "note", (
            f"{terms}This is no divergence: distillation asks students for what the teachers say, "
            "and the teachers change. Their outputs still differ between clips (between_clips: "
            f"{shares}), and reconstruction, whose target does not move, does not rise."
        )
    level = "warning" if rise > MUCH * stretches[0].mean(history, "total") else "note"
    return level, (
        f"{terms}Distillation may rise while teachers come to tell more clips apart; "
        "reconstruction must not rise."
    )


def _rises(
    history: History,
    config: ml_collections.ConfigDict | None,
    stretches: tuple[_Stretch, _Stretch],
) -> dict[str, float]:
    """Returns the rises of the total's terms, weighted as in it; none if the config is unknown."""
    if config is None:
        return {}
    weights = hyperparameters(config, total_steps=1, steps_per_epoch=1.0).weights
    rises = {}
    for name in history.metrics:
        kind, _, modality = name.partition("/")
        if kind in _TERMS:
            before, after = (stretch.mean(history, name) for stretch in stretches)
            weight = weights[modality if kind == "reconstruction" else kind]
            rises[name] = float(weight * (after - before))
    return rises


def _grows(history: History, name: str, stretches: tuple[_Stretch, _Stretch]) -> bool:
    before, after = (stretch.mean(history, name) for stretch in stretches)
    return after > (1 + RISEN) * before


def _shares_between_clips(
    history: History, stretches: tuple[_Stretch, _Stretch]
) -> tuple[bool, str]:
    """Tells whether a teacher's outputs differ much less between clips, with numbers in words."""
    fewer, words = False, []
    for m in MODALITIES:
        before, after = (s.mean(history, f"between_clips/{m}_teacher") for s in stretches)
        if np.isfinite([before, after]).all():
            fewer = fewer or after < HELD * before
            words.append(f"{m} {before:.0%} at the lowest, {after:.0%} at the end")
    return fewer, "; ".join(words)
