"""The linear classifier in closed form."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from xkd_jax.downstream import ridge


def classes(labels, count):
    return np.eye(count, dtype=bool)[labels]


def test_it_finds_linear_classes_that_neighbors_miss(rng):
    """The class is in one direction of little variance, next to many that say nothing."""
    x = rng.normal(size=(300, 40)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(int)
    x[:, 1:] *= 30
    scores = ridge.scores(x[:200], classes(labels[:200], 2), x[200:])
    assert np.mean(scores.argmax(axis=1) == labels[200:]) > 0.85
    wrong = rng.permutation(labels[:200])
    scores = ridge.scores(x[:200], classes(wrong, 2), x[200:])
    assert np.mean(scores.argmax(axis=1) == labels[200:]) < 0.7


def test_it_is_ridge_regression_with_the_penalty_of_least_leave_one_out_error(rng):
    x = rng.normal(size=(30, 6)) + 3
    y = classes(rng.integers(3, size=30), 3)
    inputs = (x - x.mean(axis=0)) / x.std(axis=0)

    def error(penalty):
        residuals = []
        for n in range(30):
            rest = np.arange(30) != n
            fit = Ridge(penalty).fit(inputs[rest], y[rest].astype(float))
            residuals.append(fit.predict(inputs[[n]])[0] - y[n])
        return np.mean(np.square(residuals))

    best = min(ridge.PENALTIES, key=error)
    expected = Ridge(best).fit(inputs, y.astype(float)).predict(inputs)
    np.testing.assert_allclose(ridge.scores(x, y, x), expected, atol=1e-8)


@pytest.mark.filterwarnings("error")
def test_a_class_without_training_clips_is_last_and_one_clip_is_enough(rng):
    x = rng.normal(size=(12, 5)).astype(np.float32)
    scores = ridge.scores(x, classes(np.arange(12) % 2 * 2, 3), x)
    assert (scores.argmin(axis=1) == 1).all()
    scores = ridge.scores(x, classes(np.zeros(12, int), 3), x)
    assert (scores.argmax(axis=1) == 0).all()
    scores = ridge.scores(x[:1], classes([1], 3), x)
    assert (scores.argmax(axis=1) == 1).all()
    alike = ridge.scores(np.ones_like(x), classes(np.arange(12) % 3, 3), np.ones_like(x))
    assert np.isfinite(alike).all()
