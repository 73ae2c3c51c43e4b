"""Choice of a classifier's C, epoch or k without the test set, and evaluation on the test set.

Candidates are compared on held-out recordings: the validation split if the data set has one,
otherwise a share of the training recordings. All clips of a recording are on the same side. The
chosen classifier is then trained on all training recordings, but never on a validation split, and
scores the test set. The paper instead picks the candidate that is best on the test set; that score
is reported separately as "best on test".
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.programs import progress
from xkd_jax.downstream.classifiers import Classifier
from xkd_jax.downstream.metrics import Metric

FUSED = "fused"  # features of both modalities, see `fused`
# Names of features for readers.
FEATURES = {"video": "video", "audio": "audio", FUSED: "both"}


@dataclasses.dataclass(frozen=True)
class LabeledFeatures:
    """Features and classes of n recordings.

    Attributes:
        features: (n, k, D) float32. Features of k clips of each recording.
        targets: (n, C) bool. Classes of each recording.

    Raises:
        ValueError: The shapes do not match, or a feature is not finite.
    """

    features: np.ndarray
    targets: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 3 or len(self.features) != len(self.targets):
            raise ValueError(
                f"features has shape {self.features.shape} and targets has shape "
                f"{self.targets.shape}; allowed: (n, k, D) and (n, C)"
            )
        if not np.isfinite(self.features).all():
            raise ValueError("features has NaN or infinite values; allowed: finite numbers")

    def __len__(self) -> int:
        return len(self.features)

    def take(self, places: np.ndarray) -> "LabeledFeatures":
        """Selects recordings by indices or by an (n,) bool mask."""
        return LabeledFeatures(self.features[places], self.targets[places])

    def clips(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns one row per clip: (n * k, D) features and (n * k, C) targets."""
        _, count, width = self.features.shape
        return self.features.reshape(-1, width), self.targets.repeat(count, axis=0)


class Divided(NamedTuple):
    """Training recordings divided into two parts to compare candidates.

    Attributes:
        kept: Recordings to train the candidates on.
        held: Recordings to score the candidates on. Their clips may be drawn like test clips, so
            that candidates are compared under the conditions of the test.
    """

    kept: LabeledFeatures
    held: LabeledFeatures


def fused(features: Mapping[str, np.ndarray], unit: bool = True) -> np.ndarray:
    """Concatenates the features of several modalities.

    Args:
        features: (..., D) float32 by modality. Features of the same clips.
        unit: Whether to scale those of each modality to unit length first. A single modality is not
            scaled. Features shorter than 1e-12 stay shorter than 1.

    Returns:
        (..., sum of the D) float32, in the mapping's order.
    """
    if len(features) == 1:
        return next(iter(features.values()))
    if not unit:
        return np.concatenate(list(features.values()), axis=-1)
    # The squares of a shorter feature may underflow, and a length of 0 would make it huge.
    lengths = {m: np.linalg.norm(x, axis=-1, keepdims=True) for m, x in features.items()}
    return np.concatenate([x / np.maximum(lengths[m], 1e-12) for m, x in features.items()], axis=-1)


class Candidate(NamedTuple):
    """A value that could be chosen, with its scores.

    Attributes:
        value: C, the epoch, or k; for several hyperparameters at once, their values in words.
        held_out: Score on the held-out recordings, after training without them. None if there are
            none.
        test: Score on the test set, after training on all training recordings. None if it was not
            tested.
    """

    value: float | str
    held_out: float | None
    test: float | None


class Outcome(NamedTuple):
    """Result of an evaluation on one test set.

    Attributes:
        varied: Name of the hyperparameter that the candidates vary, for display.
        candidates: All candidates, in the order in which they were fitted.
        chosen: Value of the candidate with the best held-out score, the first of equal ones; or the
            value of the only candidate.
        scores: (n, C) float32. Scores of the test recordings by the chosen candidate.
        targets: (n, C) bool. Classes of the test recordings.
        counts: Numbers of recordings for training ("train"), choice ("held_out") and test ("test").
            Recordings held out of the training set for the choice count in "train" too.
    """

    varied: str
    candidates: tuple[Candidate, ...]
    chosen: float | str
    scores: np.ndarray
    targets: np.ndarray
    counts: dict[str, int]

    @property
    def best_on_test(self) -> Candidate | None:
        """The candidate with the best test score, which is what the paper reports.

        None if only the chosen candidate was tested.
        """
        tested = [c for c in self.candidates if c.test is not None]
        return max(tested, key=lambda c: c.test) if len(tested) > 1 else None


def evaluate(
    train: LabeledFeatures,
    test: LabeledFeatures,
    held_out: LabeledFeatures | Divided | None,
    classifier: Classifier,
    metric: Metric,
) -> Outcome:
    """Chooses a candidate, trains it and tests it, with a progress bar over the fits.

    Args:
        train: Recordings to train on.
        test: Recordings to test on. They do not influence the choice.
        held_out: Recordings to choose on: samples that are not in `train`, or `train` divided.
            None if there is only one candidate.
        classifier: Classifier from `classifiers.make`.
        metric: Metric that decides the choice.

    Raises:
        ValueError: There are several candidates and no recordings to choose on.
    """
    count = len(classifier.candidates)
    if held_out is None and count > 1:
        raise ValueError(
            f"held_out is None; allowed with {count} values of {classifier.varied}: recordings to "
            "choose one on"
        )
    held_out_scores, validation = [], ()
    if isinstance(held_out, LabeledFeatures):  # the same fit serves for the choice and the test
        validation = held_out
        fitted = list(fit(classifier, train, [validation, test], "choosing and testing"))
        held_out_scores = [scores for _, (scores, _) in fitted]
        tested = [scores for _, (_, scores) in fitted]
    else:
        if held_out is not None:
            kept, validation = held_out
            fitted = fit(classifier, kept, [validation], "choosing")
            held_out_scores = [scores for _, [scores] in fitted]
        tested = [scores for _, [scores] in fit(classifier, train, [test], "testing")]
    by_held_out = [metric.overall(scores, validation.targets) for scores in held_out_scores]
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
    classifier: Classifier, train: LabeledFeatures, parts: Sequence[LabeledFeatures], doing: str
) -> Iterator[tuple[float, list[np.ndarray]]]:
    """Trains on clips, and scores recordings by the mean over their clips.

    Args:
        classifier: Classifier from `classifiers.make`.
        train: Recordings to train on.
        parts: Sets of recordings to score.
        doing: Title of the progress bar.

    Yields:
        Each candidate's value, and (n, C) float32 scores for each of `parts`.
    """
    x, y = train.clips()
    fits = classifier.fit(x, y, [part.clips()[0] for part in parts])
    count = len(classifier.candidates)
    for value, scores in progress.bar(doing, count, classifier.varied, fits):
        yield value, [mean_over_clips(s, len(p)) for s, p in zip(scores, parts, strict=True)]


def mean_over_clips(scores: np.ndarray, recordings: int) -> np.ndarray:
    """Averages scores over the clips of each recording.

    Args:
        scores: (n * k, ...) float. The k clips of a recording are adjacent.
        recordings: n.

    Returns:
        (n, ...) float32.
    """
    return scores.reshape(recordings, -1, *scores.shape[1:]).mean(axis=1, dtype=np.float32)
