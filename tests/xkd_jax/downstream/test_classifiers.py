import math

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from xkd_jax.config import probing, schema
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import classifiers

NAMES = ("svm", "linear", "knn")


def section(name, **changes):
    config = schema.defaults(probing.classifier())
    config.name = name
    config.linear.epochs, config.linear.epoch = 3, "best"
    config.linear.batch_size = 16
    config.update_from_flattened_dict(changes)
    return config


def clips(rows=60, width=8, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centers = np.random.default_rng(5).normal(size=(classes, width))
    x = (centers[labels] + 0.5 * rng.normal(size=(rows, width))).astype(np.float32)
    return x, np.eye(classes, dtype=bool)[labels]


def several(targets, seed=0):
    """Turns one-hot targets into multi-label ones, some rows of which have no class."""
    more = targets | (np.random.default_rng(seed).random(targets.shape) < 0.2)
    more[::7] = False
    return more


def fitted(name, train, tests, multi_label=False, seed=0, **changes):
    classifier = classifiers.make(section(name, **changes), multi_label, seed)
    found = list(classifier.fit(*train, tests))
    assert tuple(value for value, _ in found) == classifier.candidates
    return dict(found)


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("svm", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        ("linear", (1, 2, 3)),
        ("knn", (5, 10, 20, 50, 100, 200)),
    ],
)
def test_each_gives_scores_of_every_candidate_for_every_set_of_clips(name, candidates):
    x, _ = clips(seed=1)
    found = fitted(name, clips(), [x[:7], x[:20]])
    assert tuple(found) == candidates
    for scores in found.values():
        assert [s.shape for s in scores] == [(7, 4), (20, 4)]
        assert all(s.dtype == np.float32 and np.isfinite(s).all() for s in scores)
        np.testing.assert_allclose(scores[0], scores[1][:7], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_deterministic(name):
    x, _ = clips(seed=1)
    one, two = (fitted(name, clips(), [x], **{"linear.dropout": 0.5}) for _ in range(2))
    for value, [scores] in one.items():
        np.testing.assert_array_equal(scores, two[value][0])


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_nothing_is_trained_on_is_never_the_likeliest(name):
    x, y = clips()
    x, y = x[~y[:, 2]], y[~y[:, 2]]
    far = 10 * clips(seed=1)[0]
    for [scores] in fitted(name, (x, y), [far]).values():
        assert (scores[:, 2] < scores.max(axis=1)).all()


def test_svm_is_scikit_learns_on_features_as_they_are():
    x, y = clips()
    tested = clips(seed=1)[0]
    for c, [scores] in fitted("svm", (x, y), [tested]).items():
        expected = LinearSVC(C=c, dual=False).fit(x, y.argmax(axis=1)).decision_function(tested)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_svm_of_two_classes():
    x, y = clips(classes=2)
    tested, expected = clips(classes=2, seed=1)
    [scores] = fitted("svm", (x, y), [tested])[1.0]
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_array_equal(scores[:, 0], -scores[:, 1])


def test_svm_says_once_how_many_fits_were_cut_short(capsys):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 20)).astype(np.float32), np.eye(2, dtype=bool)[np.arange(80) % 2]
    config = section("svm", **{"svm.c": (1e-5, 1e5), "svm.max_iterations": 5})
    classifier = classifiers.make(config, multi_label=False, seed=0)
    for _ in range(3):
        list(classifier.fit(x, y, [x]))
    assert capsys.readouterr().err == ""
    classifier.conclude()
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "warning: 3 of 6 SVM fits stopped after 5 iterations "
        "(config.classifier.svm.max_iterations) before converging: 3 with C=100000"
    )


def test_svm_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="allowed for multi-label data"):
        classifiers.make(section("svm"), multi_label=True, seed=0)
    x, y = clips(classes=1)
    with pytest.raises(ValueError, match="train_y has 60 clips of 1 class"):
        fitted("svm", (x, y), [x])


def test_the_first_step_of_the_linear_layer_by_hand():
    """At zero all classes are equally likely, and Adam's first step is the sign of the gradient."""
    x = np.array([[1.0, -2.0], [3.0, 1.0], [1.0, 0.0]], np.float32)
    y = np.eye(2, dtype=bool)[[0, 1, 1]]
    settings = {"linear.epochs": 1, "linear.schedule": "constant", "linear.learning_rate": 0.1}
    [scores] = fitted("linear", (x, y), [x], **settings)[1.0]
    # Class 1's weights have the gradient x.T @ (p - y) = (-1.5, -1.5) and its bias has -0.5, so all
    # three become +0.1. Those of class 0 become -0.1.
    logits = 0.1 * (x.sum(axis=1) + 1)
    np.testing.assert_allclose(scores[:, 1], 1 / (1 + np.exp(-2 * logits)), rtol=1e-5)
    [scores] = fitted("linear", (x, y), [x], multi_label=True, **settings)[1.0]
    np.testing.assert_allclose(scores[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_the_linear_layer_is_one_program_for_the_whole_training():
    before = classifiers._train._cache_size()
    x, y = clips(rows=61)  # no batch size divides a prime
    found = fitted("linear", (x, y), [x], **{"linear.epochs": 40})
    assert classifiers._train._cache_size() == before + 1
    assert (found[40.0][0].argmax(axis=1) == y.argmax(axis=1)).mean() > 0.95


def test_schedule_weight_decay_and_dropout_are_used():
    x, y = clips()
    plain, constant, decayed, dropped = (
        fitted("linear", (x, y), [x], **changes)
        for changes in (
            {},
            {"linear.schedule": "constant"},
            {"linear.weight_decay": 50.0},
            {"linear.dropout": 0.9},
        )
    )
    last_steps = [np.abs(found[3.0][0] - found[2.0][0]).max() for found in (plain, constant)]
    assert last_steps[0] < 0.5 * last_steps[1], "the cosine goes to rest"
    confidence = [found[3.0][0].max(axis=1).mean() for found in (plain, decayed, dropped)]
    assert len(set(confidence)) == 3 and max(confidence) == confidence[0]


def test_only_the_last_epoch_may_be_a_candidate():
    x, y = clips()
    every = fitted("linear", (x, y), [x])
    last = fitted("linear", (x, y), [x], **{"linear.epoch": "last"})
    assert tuple(last) == (3.0,)
    np.testing.assert_array_equal(last[3.0][0], every[3.0][0])


def test_the_learning_rate_by_hand():
    def rates(**changes):
        fields = section("linear", **{f"linear.{name}": x for name, x in changes.items()}).linear
        schedule = classifiers.LinearLayer(multi_label=False, **fields).rate(steps_per_epoch=4)
        return np.array([schedule(step) for step in range(13)])

    cosine = 0.01 * (1 + np.cos(np.pi * np.arange(13) / 12)) / 2
    np.testing.assert_allclose(rates(), cosine, atol=1e-8)
    np.testing.assert_allclose(rates(schedule="constant"), 0.01)
    warm = rates(warmup_epochs=1.0)
    np.testing.assert_allclose(warm[:5], [0, 0.0025, 0.005, 0.0075, 0.01], atol=1e-8)
    left = 0.01 * (1 + np.cos(np.pi * np.arange(9) / 8)) / 2
    np.testing.assert_allclose(warm[4:], left, atol=1e-8)
    warm = rates(warmup_epochs=1.0, schedule="constant")
    np.testing.assert_allclose(warm[[2, 4, 12]], [0.005, 0.01, 0.01])


def test_neighbors_by_hand():
    x = np.array([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 4.0]], np.float32)
    y = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    tested = np.array([[1.0, 0.0]], np.float32)  # cosines 1, 0, -1 and 0.6
    settings = {"knn.k": (1, 2, 3, 9), "knn.temperature": 0.5}
    found = fitted("knn", (x, y), [tested], multi_label=True, **settings)
    np.testing.assert_allclose(found[1][0], [[1, 0, 0]], atol=1e-6)
    first, second, third = math.exp(1 / 0.5), math.exp(0.6 / 0.5), math.exp(0)
    total = first + second
    np.testing.assert_allclose(found[2][0], [[1, second / total, 0]], atol=1e-6)
    total += third
    expected = [[(first + second) / total, (second + third) / total, 0]]
    np.testing.assert_allclose(found[3][0], expected, atol=1e-6)
    total += math.exp(-1 / 0.5)  # k is 9, but there are only four rows
    np.testing.assert_allclose(found[9][0][0, 2], math.exp(-1 / 0.5) / total, rtol=1e-5)


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_several_classes_a_row(name):
    x, y = clips(rows=200)
    y = several(y)
    scores = list(fitted(name, (x, y), [x], multi_label=True).values())[-1][0]
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[y].mean() > scores[~y].mean() + 0.1
