"""Metrics of classification, computed by scikit-learn.

Scores are (n, C) float, larger for likelier classes. Targets are (n, C) bool. Accuracies need
exactly one class per recording; average precision takes any number. A class that no test recording
has is left out of all means, has NaN as its own value, and is listed by `absent`.

All metrics raise ValueError if shapes differ, a score is not finite, or the targets do not fit.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn import metrics as sklearn


class Metric(NamedTuple):
    """A metric of a whole test set, with its counterpart for single classes.

    Attributes:
        name: Key in results.json. `TITLES` has the name for display.
        overall: Function (scores, targets) -> float for the whole test set.
        by_class: Function (scores, targets) -> (C,) float64. NaN for absent classes.
        of_class: Name of the value of a class, for display.
        chance: Function (targets) -> float, the expected value for random scores.
    """

    name: str
    overall: Callable[[np.ndarray, np.ndarray], float]
    by_class: Callable[[np.ndarray, np.ndarray], np.ndarray]
    of_class: str
    chance: Callable[[np.ndarray], float]


def top1(scores: np.ndarray, targets: np.ndarray) -> float:
    """Computes the share of recordings whose class has the highest score.

    Of equal scores, the first class counts.
    """
    _check(scores, targets, single=True)
    return float(sklearn.accuracy_score(targets.argmax(axis=1), scores.argmax(axis=1)))


def top5(scores: np.ndarray, targets: np.ndarray) -> float:
    """Computes the share of recordings whose class has one of the five highest scores.

    It is 1 for up to five classes.
    """
    _check(scores, targets, single=True)
    classes = scores.shape[1]
    if classes <= 5:
        return 1.0
    return float(
        sklearn.top_k_accuracy_score(targets.argmax(axis=1), scores, k=5, labels=np.arange(classes))
    )


def accuracies(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Computes the top-1 accuracy on each class's recordings.

    Returns:
        (C,) float64. NaN for absent classes.
    """
    _check(scores, targets, single=True)
    labels = np.arange(scores.shape[1])
    recalls = sklearn.recall_score(
        targets.argmax(axis=1), scores.argmax(axis=1), labels=labels, average=None, zero_division=0
    )
    return np.where(targets.any(axis=0), recalls, np.nan)


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Computes the mean of `average_precisions` over the classes that the test set has."""
    return float(np.nanmean(average_precisions(scores, targets)))


def average_precisions(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Computes the area under each class's precision-recall curve, without interpolation.

    Returns:
        (C,) float64. NaN for absent classes.
    """
    _check(scores, targets)
    precisions = np.full(scores.shape[1], np.nan)
    present = targets.any(axis=0)
    precisions[present] = sklearn.average_precision_score(
        targets[:, present], scores[:, present], average=None
    )
    return precisions


def confusion(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts the recordings of each class (row) by their predicted class (column).

    Returns:
        (C, C) int64.
    """
    _check(scores, targets, single=True)
    return sklearn.confusion_matrix(
        targets.argmax(axis=1), scores.argmax(axis=1), labels=np.arange(scores.shape[1])
    )


def absent_classes(targets: np.ndarray) -> np.ndarray:
    """Returns the indices of the classes that no recording has."""
    return np.flatnonzero(~targets.any(axis=0))


def accuracy_of_guesses(targets: np.ndarray) -> float:
    """Computes the expected top-1 of uniformly random guesses."""
    return 1 / targets.shape[1]


def precision_of_guesses(targets: np.ndarray) -> float:
    """Computes the mAP of random scores: the mean share of recordings that a class has."""
    return float(targets.mean(axis=0)[targets.any(axis=0)].mean())


TOP1 = Metric("top1", top1, accuracies, "accuracy", accuracy_of_guesses)
MEAN_AVERAGE_PRECISION = Metric(
    "map", mean_average_precision, average_precisions, "average precision", precision_of_guesses
)
TITLES = {"top1": "top-1", "top5": "top-5", "map": "mAP"}


def main_metric(multi_label: bool) -> Metric:
    """Returns the metric that selects candidates and that results report first."""
    return MEAN_AVERAGE_PRECISION if multi_label else TOP1


def all_scores(scores: np.ndarray, targets: np.ndarray, multi_label: bool) -> dict[str, float]:
    """Computes all metrics that apply to a test set, by name, the main one first.

    Top-5 applies to more than five classes only.
    """
    metric = main_metric(multi_label)
    values = {metric.name: metric.overall(scores, targets)}
    if not multi_label and scores.shape[1] > 5:
        values["top5"] = top5(scores, targets)
    return values


def _check(scores: np.ndarray, targets: np.ndarray, single: bool = False) -> None:
    """Raises ValueError for inputs that would give a meaningless number."""
    if scores.ndim != 2 or not scores.size or scores.shape != targets.shape:
        raise ValueError(
            f"scores has shape {scores.shape} and targets has shape {targets.shape}; "
            "allowed: both (n, C), with at least one recording and one class"
        )
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(
            f"scores[{row}, {column}] is {scores[row, column]}; allowed: finite numbers"
        )
    if not targets.any():
        raise ValueError("targets is False everywhere; allowed: at least one class")
    counts = targets.sum(axis=1)
    if single and (counts != 1).any():
        row = np.flatnonzero(counts != 1)[0]
        raise ValueError(f"targets[{row}] has {counts[row]} classes; allowed for top-1: exactly 1")
