"""Choosing a classifier's C, epoch or k without the test set, and what that gives on the test set.

Candidates are compared on recordings held out of training: a validation split where the data set
has one, otherwise a share of the training recordings, all clips of a recording on one side. With
the choice made, the classifier is trained on all training recordings (a validation split is never
trained on), and scores the test set. What the paper does, to choose what is best on the test set
itself, is reported beside, under that name.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from xkd_jax.downstream.classifiers import Classifier
from xkd_jax.downstream.metrics import Metric


@dataclasses.dataclass(frozen=True)
class Samples:
    """Features of recordings, and what they are of.

    Attributes:
        features: (n, k, D) float32, of k clips of each recording.
        targets: (n, C) bool.
    """

    features: np.ndarray
    targets: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 3 or len(self.features) != len(self.targets):
            raise ValueError(
                f"features are of shape {self.features.shape} and targets of "
                f"{self.targets.shape}; allowed: (n, k, D) and (n, C)"
            )
        if not np.isfinite(self.features).all():
            raise ValueError("features hold NaN or infinity; allowed: finite numbers")

    def __len__(self) -> int:
        return len(self.features)

    def take(self, places: np.ndarray) -> "Samples":
        """Those at some places, given as indices or as a (n,) bool mask."""
        return Samples(self.features[places], self.targets[places])

    def clips(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of all clips: (n * k, D) features and (n * k, C) targets."""
        _, count, width = self.features.shape
        return self.features.reshape(-1, width), self.targets.repeat(count, axis=0)


class Divided(NamedTuple):
    """Training recordings divided for the choice.

    Attributes:
        kept: To train on meanwhile.
        held: To choose on. Their clips may be like those of the test set, for the choice to be made
            for what it is used for.
    """

    kept: Samples
    held: Samples


def fused(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Features of several modalities as one: each of unit length, side by side.

    Args:
        features: (..., D) float32 by modality, of the same clips.

    Returns:
        (..., sum of the D) float32, in the order of the modalities given; of one alone, as it is.
    """
    if len(features) == 1:
        return next(iter(features.values()))
    tiny = np.finfo(np.float32).tiny
    return np.concatenate(
        [
            x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), tiny)
            for x in features.values()
        ],
        axis=-1,
    )


class Candidate(NamedTuple):
    """A value that could be chosen, and how it does by the metric.

    Attributes:
        value: C, the epoch, or k.
        held_out: On held-out recordings, trained without these; None where none were held out.
        test: On the test set, trained on all training recordings; None where that was not tried.
    """

    value: float
    held_out: float | None
    test: float | None


class Outcome(NamedTuple):
    """What a test set, or one partition's, gave.

    Attributes:
        varied: What the candidates are values of, for people.
        candidates: In the order of trying.
        chosen: The value of the one with the best score on held-out recordings, the first of equal
            ones; of the only one, where there is nothing to choose.
        scores: (n, C) float32, of the test recordings, by the chosen one.
        targets: (n, C) bool, of the same.
        counts: How many recordings were trained on (train), chosen on (held_out) and tested on
            (test); those held out of training for the choice alone are in both of the former.
    """

    varied: str
    candidates: tuple[Candidate, ...]
    chosen: float
    scores: np.ndarray
    targets: np.ndarray
    counts: dict[str, int]

    @property
    def best_on_test(self) -> Candidate | None:
        """The candidate with the best score on the test set, which is what the paper reports.

        None where no other than the chosen one has been tested.
        """
        tested = [c for c in self.candidates if c.test is not None]
        return max(tested, key=lambda c: c.test) if len(tested) > 1 else None


def evaluate(
    train: Samples,
    test: Samples,
    held_out: Samples | Divided | None,
    classifier: Classifier,
    metric: Metric,
) -> Outcome:
    """Chooses, trains and tests, with a progress bar over the fits.

    Args:
        train: To train on.
        test: To test on. Nothing of it has an influence on what is chosen.
        held_out: To choose on, being none of `train`; or `train` divided; or None where there is
            nothing to choose.
        classifier: Of `classifiers.make`.
        metric: To choose by.

    Raises:
        ValueError: There are several candidates and no recordings to choose on.
    """
    count = len(classifier.candidates)
    if held_out is None and count > 1:
        raise ValueError(
            f"held_out is None; allowed with {count} values of {classifier.varied}: recordings to "
            "choose one on"
        )
    chosen_on, validation = [], ()
    if isinstance(held_out, Samples):  # what is trained to choose is what is tested
        validation = held_out
        fitted = list(fit(classifier, train, [validation, test], "choosing and testing"))
        chosen_on = [scores for _, (scores, _) in fitted]
        tested = [scores for _, (_, scores) in fitted]
    else:
        if held_out is not None:
            kept, validation = held_out
            fitted = fit(classifier, kept, [validation], "choosing")
            chosen_on = [scores for _, [scores] in fitted]
        tested = [scores for _, [scores] in fit(classifier, train, [test], "testing")]
    by_held_out = [metric.overall(scores, validation.targets) for scores in chosen_on]
    by_test = [metric.overall(scores, test.targets) for scores in tested]
    best = int(np.argmax(by_held_out)) if by_held_out else 0
    return Outcome(
        varied=classifier.varied,
        candidates=tuple(
            map(Candidate, classifier.candidates, by_held_out or [None] * len(by_test), by_test)
        ),
        chosen=classifier.candidates[best],
        scores=tested[best],
        targets=test.targets,
        counts={"train": len(train), "held_out": len(validation), "test": len(test)},
    )


def fit(
    classifier: Classifier, train: Samples, parts: Sequence[Samples], doing: str
) -> Iterator[tuple[float, list[np.ndarray]]]:
    """Trains on the clips of some recordings, and scores others as the means of their clips.

    Args:
        classifier: Of `classifiers.make`.
        train: To train on.
        parts: To score.
        doing: What for, in a word or two for the progress bar.

    Yields:
        Each candidate, and (n, C) float32 scores for each of the parts.
    """
    x, y = train.clips()
    fits = classifier.fit(x, y, [part.clips()[0] for part in parts])
    count = len(classifier.candidates)
    for value, scores in tqdm.tqdm(fits, doing, count, unit=classifier.varied, disable=None):
        yield value, [of_recordings(s, len(p)) for s, p in zip(scores, parts, strict=True)]


def of_recordings(scores: np.ndarray, recordings: int) -> np.ndarray:
    """Means over each recording's clips, which are next to one another.

    Args:
        scores: (n * k, C) floats.
        recordings: n.

    Returns:
        (n, C) float32.
    """
    return scores.reshape(recordings, -1, scores.shape[-1]).mean(axis=1, dtype=np.float32)
