import numpy as np
import pytest
from sklearn import metrics as sklearn

from xkd_jax.downstream import metrics

# Four recordings of classes 0, 1, 1 and 2. Class 3 has no recording.
SCORES = np.array(
    [
        [0.9, 0.05, 0.03, 0.02],  # 0, right
        [0.2, 0.7, 0.06, 0.04],  # 1, right
        [0.6, 0.3, 0.08, 0.02],  # 1, predicted as 0
        [0.1, 0.2, 0.25, 0.45],  # 2, predicted as 3
    ]
)
CLASSES = np.array([0, 1, 1, 2])
TARGETS = np.eye(4, dtype=bool)[CLASSES]


def drawn(n=200, classes=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    scores = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    return scores, np.eye(classes, dtype=bool)[labels]


def test_accuracies_by_hand():
    assert metrics.top1(SCORES, TARGETS) == 2 / 4
    np.testing.assert_array_equal(metrics.accuracies(SCORES, TARGETS), [1, 1 / 2, 0, np.nan])
    np.testing.assert_array_equal(
        metrics.confusion(SCORES, TARGETS),
        [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
    )


def test_top5_by_hand():
    scores = np.tile(np.arange(7.0), (3, 1))  # the five highest are classes 6 to 2
    assert metrics.top5(scores, np.eye(7, dtype=bool)[[6, 2, 1]]) == 2 / 3
    assert metrics.top5(SCORES, TARGETS) == 1.0


def test_average_precision_by_hand():
    # The ranking is a, b, c, d. The first class has a and c: precision 1 at a, 2/3 at c. The second
    # class has only b: 1/2. The third class has no recording.
    scores = np.repeat([[4.0], [3.0], [2.0], [1.0]], 3, axis=1)
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    expected = [(1 + 2 / 3) / 2, 1 / 2, np.nan]
    np.testing.assert_allclose(metrics.average_precisions(scores, targets), expected)
    assert metrics.mean_average_precision(scores, targets) == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_agreement_with_scikit_learn():
    scores, targets = drawn()
    labels, guesses = targets.argmax(axis=1), scores.argmax(axis=1)
    assert metrics.top1(scores, targets) == sklearn.accuracy_score(labels, guesses)
    assert metrics.top5(scores, targets) == sklearn.top_k_accuracy_score(labels, scores, k=5)
    recalls = sklearn.recall_score(labels, guesses, average=None)
    np.testing.assert_array_equal(metrics.accuracies(scores, targets), recalls)
    several = targets | drawn(seed=1)[1]
    assert metrics.mean_average_precision(scores, several) == pytest.approx(
        sklearn.average_precision_score(several, scores, average="macro"), rel=1e-12
    )
    np.testing.assert_array_equal(
        metrics.confusion(scores, targets), sklearn.confusion_matrix(labels, guesses)
    )


def test_absent_classes_are_named_and_count_in_no_mean():
    np.testing.assert_array_equal(metrics.absent_classes(TARGETS), [3])
    scores, targets = drawn()
    more = np.pad(scores, ((0, 0), (0, 1)), constant_values=-9.0)
    padded = np.pad(targets, ((0, 0), (0, 1)))
    for metric in (metrics.TOP1, metrics.MEAN_AVERAGE_PRECISION):
        assert metric.overall(more, padded) == metric.overall(scores, targets)
        assert np.isnan(metric.by_class(more, padded)[-1])


def test_what_is_told_of_a_test_set():
    scores, targets = drawn()
    assert list(metrics.all_scores(scores, targets, multi_label=False)) == ["top1", "top5"]
    assert list(metrics.all_scores(scores, targets, multi_label=True)) == ["map"]
    few = metrics.all_scores(SCORES, TARGETS, multi_label=False)
    assert list(few) == ["top1"]  # top-5 of four classes is always 1


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (SCORES[:, :3], TARGETS, r"scores has shape \(4, 3\) and targets has shape \(4, 4\)"),
        (SCORES[:0], TARGETS[:0], "at least one recording"),
        (np.where(SCORES == 0.7, np.nan, SCORES), TARGETS, r"scores\[1, 1\] is nan"),
        (SCORES, TARGETS & (CLASSES != 1)[:, None], r"targets\[1\] has 0 classes"),
        (SCORES, TARGETS | (np.arange(4) == 0), r"targets\[1\] has 2 classes"),
        (SCORES, np.zeros_like(TARGETS), "targets is False everywhere"),
    ],
)
def test_refusals(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        metrics.top1(scores, targets)
