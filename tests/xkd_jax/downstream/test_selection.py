"""Planted classes are found, and nothing of the test set reaches the training."""

import numpy as np
import pytest
from scipy import stats

from xkd_jax.config import probing, schema
from xkd_jax.downstream import classifiers, labeled_data, metrics, selection
from xkd_jax.downstream.selection import LabeledFeatures

NAMES = ("svm", "linear", "knn")
CLASSES, WIDTH = 5, 12


def make(name, multi_label=False, **changes):
    config = schema.defaults(probing.classifier())
    config.name = name
    config.svm.c = (1e-3, 1e-1)
    config.linear.update(epochs=12, batch_size=32, epoch="best")
    config.knn.k = (5, 20)
    config.update_from_flattened_dict(changes)
    return classifiers.make(config, multi_label, seed=0)


def recordings(count, clips=3, seed=0, own=0.3):
    """Draws clips around a center of their recording, which is near a center of their class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % CLASSES)
    centers = np.random.default_rng(9).normal(size=(CLASSES, WIDTH))[labels]
    features = centers[:, None] + own * rng.normal(size=(count, 1, WIDTH))
    features = features + 0.1 * rng.normal(size=(count, clips, WIDTH))
    return LabeledFeatures(features.astype(np.float32), np.eye(CLASSES, dtype=bool)[labels])


def shuffled(samples, seed=3):
    order = np.random.default_rng(seed).permutation(len(samples))
    return LabeledFeatures(samples.features, samples.targets[order])


def divided(train, share=0.25):
    return selection.Divided(*labeled_data.held_out(train, share, seed=0))


def evaluate(name, train, test, **changes):
    return selection.evaluate(train, test, divided(train), make(name, **changes), metrics.TOP1)


@pytest.mark.parametrize("name", NAMES)
def test_planted_classes_are_all_found(name):
    outcome = evaluate(name, recordings(80), recordings(40, clips=2, seed=1))
    assert metrics.top1(outcome.scores, outcome.targets) == 1.0
    assert outcome.scores.shape == outcome.targets.shape == (40, CLASSES)
    assert outcome.counts == {"train": 80, "held_out": 20, "test": 40}


@pytest.mark.parametrize("name", NAMES)
def test_shuffled_labels_are_at_chance(name):
    """Clips of a recording are nearly equal, so a recording on both sides would be recognized."""
    train = shuffled(recordings(200, own=3.0))
    test = shuffled(recordings(200, seed=1, own=3.0))
    outcome = evaluate(name, train, test)
    for count, scores in ((50, [c.held_out for c in outcome.candidates]),
                          (200, [c.test for c in outcome.candidates])):  # fmt: skip
        low, high = stats.binom.interval(0.9999, count, 1 / CLASSES)
        assert all(low <= count * score <= high for score in scores), scores


def test_a_split_by_clips_would_be_caught_by_that():
    """The test above can fail: with clips held out one by one, the same features look perfect."""
    train = shuffled(recordings(200, own=3.0))
    x, y = train.clips()
    by_clip = LabeledFeatures(x[:, None], y)
    outcome = evaluate("knn", by_clip, recordings(20), **{"knn.k": (1, 2)})
    assert outcome.candidates[0].held_out > 0.9


def test_no_recording_is_trained_on_and_chosen_on_or_tested_on():
    train, test = recordings(40, clips=3), recordings(20, seed=1)
    calls = []

    def fit(x, y, parts):
        calls.append((x, parts))
        for value in (1.0, 2.0):
            yield value, [np.zeros((len(part), CLASSES), np.float32) for part in parts]

    classifier = classifiers.Classifier("k", (1.0, 2.0), fit)
    selection.evaluate(train, test, divided(train), classifier, metrics.TOP1)
    (kept, [validation]), (trained, [tested]) = calls
    rows = {row.tobytes() for row in kept}
    assert not rows & {row.tobytes() for row in validation}
    assert len(kept) + len(validation) == len(trained) == 120
    assert rows | {row.tobytes() for row in validation} == {row.tobytes() for row in trained}
    np.testing.assert_array_equal(tested, test.clips()[0])
    # All three clips of a recording are on one side.
    firsts = [{clip.tobytes() for clip in recording} for recording in train.features]
    assert all(recording <= rows or not recording & rows for recording in firsts)


def scored_as(by_candidate):
    """Makes a classifier that knows the targets and gets a given share of each part right."""

    def fit(x, y, parts):
        for value, right in by_candidate.items():
            yield value, [as_scores(part, right) for part in parts]

    def as_scores(part, right):
        labels = part[:, 0].astype(int)
        wrong = np.arange(len(part)) >= round(right[len(part)] * len(part))
        return np.eye(CLASSES, dtype=np.float32)[(labels + wrong) % CLASSES]

    return classifiers.Classifier("C", tuple(by_candidate), fit)


def labeled_by_feature(count):
    labels = np.arange(count) % CLASSES
    return LabeledFeatures(
        labels[:, None, None].astype(np.float32), np.eye(CLASSES, dtype=bool)[labels]
    )


def test_the_choice_is_made_on_held_out_recordings_and_the_best_on_test_is_told_beside():
    train, validation, test = (labeled_by_feature(count) for count in (50, 20, 40))
    # Shares of correct recordings on the validation set (20) and on the test set (40).
    classifier = scored_as(
        {0.1: {20: 0.5, 40: 0.9}, 1.0: {20: 0.8, 40: 0.6}, 10.0: {20: 0.8, 40: 0.7}}
    )
    outcome = selection.evaluate(train, test, validation, classifier, metrics.TOP1)
    assert outcome.chosen == 1.0  # the first of two with the best held-out score
    assert outcome.candidates == ((0.1, 0.5, 0.9), (1.0, 0.8, 0.6), (10.0, 0.8, 0.7))
    assert metrics.top1(outcome.scores, outcome.targets) == 0.6
    assert outcome.best_on_test == (0.1, 0.5, 0.9)
    assert outcome.counts == {"train": 50, "held_out": 20, "test": 40}


def test_a_validation_split_is_not_trained_on():
    train, validation, test = recordings(40), recordings(20, seed=2), recordings(20, seed=1)
    outcome = selection.evaluate(train, test, validation, make("svm"), metrics.TOP1)
    by_hand = dict(make("svm").fit(*train.clips(), [test.clips()[0]]))[outcome.chosen][0]
    expected = by_hand.reshape(20, 3, CLASSES).mean(axis=1)
    np.testing.assert_allclose(outcome.scores, expected, rtol=1e-6)


def test_held_out_recordings_may_be_seen_in_other_clips_to_choose_on_them():
    train, test = recordings(80), recordings(40, seed=1)
    held = np.arange(80) % 4 == 0
    others = LabeledFeatures(train.features[held][:, :1] + 100, train.targets[held])
    seen = []
    kind = make("knn")

    def fit(x, y, parts):
        seen.append((len(x), [part.copy() for part in parts]))
        return kind.fit(x, y, parts)

    outcome = selection.evaluate(
        train,
        test,
        selection.Divided(train.take(~held), others),
        kind._replace(fit=fit),
        metrics.TOP1,
    )
    (kept, [chosen_on]), (everything, [tested]) = seen
    assert (kept, everything) == (60 * 3, 80 * 3)
    np.testing.assert_array_equal(chosen_on, others.features[:, 0])
    np.testing.assert_array_equal(tested, test.features.reshape(-1, WIDTH))
    assert outcome.counts == {"train": 80, "held_out": 20, "test": 40}


def test_after_the_choice_all_training_recordings_are_trained_on():
    train, test = recordings(40), recordings(20, seed=1)
    outcome = evaluate("svm", train, test)
    by_hand = dict(make("svm").fit(*train.clips(), [test.clips()[0]]))[outcome.chosen][0]
    expected = by_hand.reshape(20, 3, CLASSES).mean(axis=1)
    np.testing.assert_allclose(outcome.scores, expected, rtol=1e-6)


def test_scores_are_means_over_a_recordings_clips():
    scores = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0], [7.0, 1.0]])
    np.testing.assert_array_equal(selection.mean_over_clips(scores, 2), [[2, 1], [6, 3]])


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_several_classes_a_recording(name):
    train, test = recordings(80), recordings(40, seed=1)
    both = [
        LabeledFeatures(s.features, s.targets | np.roll(s.targets, 1, axis=1))
        for s in (train, test)
    ]
    metric = metrics.MEAN_AVERAGE_PRECISION
    outcome = selection.evaluate(*both, divided(both[0]), make(name, multi_label=True), metric)
    assert metric.overall(outcome.scores, outcome.targets) > 0.95


def test_a_single_candidate_needs_nothing_held_out():
    train, test = recordings(40), recordings(20, seed=1)
    one = make("svm", **{"svm.c": (0.1,)})
    outcome = selection.evaluate(train, test, None, one, metrics.TOP1)
    assert outcome.candidates[0].held_out is None
    assert outcome.chosen == 0.1 and outcome.counts["held_out"] == 0
    with pytest.raises(
        ValueError, match="held_out is None; allowed with 2 values of C: recordings"
    ):
        selection.evaluate(train, test, None, make("svm"), metrics.TOP1)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((4, 3), np.float32), r"features has shape \(4, 3\) and targets has"),
        (np.zeros((5, 1, 3), np.float32), r"\(5, 1, 3\) and targets has shape \(4, 2\)"),
        (np.full((4, 1, 3), np.nan, np.float32), "NaN"),
    ],
)
def test_samples_that_cannot_be(features, message):
    with pytest.raises(ValueError, match=message):
        LabeledFeatures(features, np.eye(2, dtype=bool)[[0, 1, 0, 1]])


def test_fused_features_are_of_unit_length_side_by_side():
    video = np.array([[[3.0, 4.0]], [[0.0, 0.0]]], np.float32)
    audio = np.array([[[0.0, 0.0, 2.0]], [[1.0, 0.0, 0.0]]], np.float32)
    fused = selection.fused({"video": video, "audio": audio})
    np.testing.assert_allclose(fused, [[[0.6, 0.8, 0, 0, 1]], [[0, 0, 1, 0, 0]]], rtol=1e-6)
    assert fused.dtype == np.float32
    plain = selection.fused({"video": video, "audio": audio}, unit=False)
    np.testing.assert_array_equal(plain, [[[3, 4, 0, 0, 2]], [[0, 0, 1, 0, 0]]])
    assert selection.fused({"video": video}) is video
    short = np.full_like(video, 1e-30)  # whose squares are 0
    assert np.abs(selection.fused({"video": short, "audio": audio})).max() <= 1
