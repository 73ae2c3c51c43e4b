"""Findings about a run, and advice on what to try."""

import dataclasses
from collections.abc import Mapping

import numpy as np

LEVELS = ("collapsed", "warning", "good", "note")  # the worst first

# Reconstruction is learned below this share of the error that predicting each patch's mean makes.
LEARNED = 0.97
NOT_RESTORED = ("train longer", "raise config.optimizer.learning_rate, or check the data")

REMEDIES = {
    "centering": "turn centering on (config.xkd.centering=True)",
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
    """One statement about a run.

    Attributes:
        level: Level of the finding, from `LEVELS`.
        text: Statement in words, with the metric and its numbers.
        since: First step at which the log shows it; None if the log does not say.
        remedies: What to try, in order.
    """

    level: str
    text: str
    since: int | None = None
    remedies: tuple[str, ...] = ()


class Advice:
    """The remedies that are left to try: those that a config does not apply yet.

    Args:
        config: Config of the run; None if unknown, which leaves all remedies.
    """

    def __init__(self, config: Mapping | None) -> None:
        applied = set()
        if config is not None:
            conditions = {
                "centering": config["xkd"]["centering"],
                "norm": config["model"]["projector"]["norm"] == "every",
                "alignment": config["xkd"]["lambda_da"] >= 1,
            }
            applied = {name for name, holds in conditions.items() if holds}
        self._left = {name: text for name, text in REMEDIES.items() if name not in applied}

    def select(self, *names: str) -> tuple[str, ...]:
        """Returns the texts of the named remedies that are left, in the same order."""
        return tuple(self._left[name] for name in names if name in self._left)


def since(steps: np.ndarray, holds: np.ndarray) -> int | None:
    """Finds the step from which a condition holds up to the end of the log.

    Args:
        steps: (n,) int, increasing.
        holds: (n,) bool, whether the condition holds at each step.

    Returns:
        The first step of the last stretch. None if the condition does not hold at the end.
    """
    holds = np.asarray(holds, bool)
    if not len(holds) or not holds[-1]:
        return None
    broken = np.flatnonzero(~holds)
    return int(steps[broken[-1] + 1 if len(broken) else 0])
