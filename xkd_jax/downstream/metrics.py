"""How good scores of test recordings are; scikit-learn computes.

Scores are (n, C) floats, larger for likelier classes. Targets are (n, C) bool: with one class a
recording for accuracies, with any number for average precision. A class that no test recording has
cannot be found right or wrong: it counts in no mean, is NaN by itself, and `absent` names it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn import metrics as sklearn


class Metric(NamedTuple):
    """One way to sum up a test set.

    Attributes:
        name: In results.json; `TITLES` has it for people.
        overall: Function (scores, targets) -> float, of the whole test set.
        by_class: Function (scores, targets) -> (C,) float64, NaN for absent classes.
        of_class: What that is, for people.
        chance: Function (targets) -> float, what scores that know nothing come to.
    """

    name: str
    overall: Callable[[np.ndarray, np.ndarray], float]
    by_class: Callable[[np.ndarray, np.ndarray], np.ndarray]
    of_class: str
    chance: Callable[[np.ndarray], float]


def top1(scores: np.ndarray, targets: np.ndarray) -> float:
    """Share of the recordings whose class has the highest score, the first of equal ones."""
    _check(scores, targets, single=True)
    return float(sklearn.accuracy_score(targets.argmax(axis=1), scores.argmax(axis=1)))


def top5(scores: np.ndarray, targets: np.ndarray) -> float:
    """Share of the recordings whose class is among the five highest; 1 if there are no more."""
    _check(scores, targets, single=True)
    classes = scores.shape[1]
    if classes <= 5:
        return 1.0
    return float(
        sklearn.top_k_accuracy_score(targets.argmax(axis=1), scores, k=5, labels=np.arange(classes))
    )


def accuracies(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Top-1 of each class's own recordings.

    Returns:
        (C,) float64, NaN for absent classes.
    """
    _check(scores, targets, single=True)
    labels = np.arange(scores.shape[1])
    recalls = sklearn.recall_score(
        targets.argmax(axis=1), scores.argmax(axis=1), labels=labels, average=None, zero_division=0
    )
    return np.where(targets.any(axis=0), recalls, np.nan)


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean of `average_precisions` over the classes that the test set has."""
    return float(np.nanmean(average_precisions(scores, targets)))


def average_precisions(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Area under each class's curve of precision over recall, in steps.

    Returns:
        (C,) float64, NaN for absent classes.
    """
    _check(scores, targets)
    found = np.full(scores.shape[1], np.nan)
    present = targets.any(axis=0)
    found[present] = sklearn.average_precision_score(
        targets[:, present], scores[:, present], average=None
    )
    return found


def confusion(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How often a class (row) was taken for a class (column).

    Returns:
        (C, C) int64.
    """
    _check(scores, targets, single=True)
    return sklearn.confusion_matrix(
        targets.argmax(axis=1), scores.argmax(axis=1), labels=np.arange(scores.shape[1])
    )


def absent(targets: np.ndarray) -> np.ndarray:
    """Indices of the classes that no recording has."""
    return np.flatnonzero(~targets.any(axis=0))


def guessing(targets: np.ndarray) -> float:
    """Top-1 of guessing each class as often as any other."""
    return 1 / targets.shape[1]


def prevalence(targets: np.ndarray) -> float:
    """Mean average precision of random scores: a class's share of the recordings, over classes."""
    return float(targets.mean(axis=0)[targets.any(axis=0)].mean())


TOP1 = Metric("top1", top1, accuracies, "accuracy", guessing)
MEAN_AVERAGE_PRECISION = Metric(
    "map", mean_average_precision, average_precisions, "average precision", prevalence
)
TITLES = {"top1": "top-1", "top5": "top-5", "map": "mAP"}


def main_metric(multi_label: bool) -> Metric:
    """What candidates are chosen by and results are told in."""
    return MEAN_AVERAGE_PRECISION if multi_label else TOP1


def all_scores(scores: np.ndarray, targets: np.ndarray, multi_label: bool) -> dict[str, float]:
    """All metrics that say something of such a test set, the main one first."""
    metric = main_metric(multi_label)
    found = {metric.name: metric.overall(scores, targets)}
    if not multi_label and scores.shape[1] > 5:
        found["top5"] = top5(scores, targets)
    return found


def _check(scores: np.ndarray, targets: np.ndarray, single: bool = False) -> None:
    """Refuses what would give a number that means nothing."""
    if scores.ndim != 2 or not scores.size or scores.shape != targets.shape:
        raise ValueError(
            f"scores are of shape {scores.shape} and targets of {targets.shape}; "
            "allowed: both (n, C), with at least one recording and class"
        )
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(
            f"scores[{row}, {column}] is {scores[row, column]}; allowed: finite numbers"
        )
    if not targets.any():
        raise ValueError("targets has no class for any recording; allowed: some labels")
    counts = targets.sum(axis=1)
    if single and (counts != 1).any():
        row = np.flatnonzero(counts != 1)[0]
        raise ValueError(f"targets[{row}] has {counts[row]} classes; allowed for top-1: one each")
