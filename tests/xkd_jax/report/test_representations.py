"""Measures of features and outputs in cases with known answers."""

import math

import numpy as np
import pytest

from xkd_jax.report import representations


def test_spread_of_features_that_are_all_alike(rng):
    rows = np.ones((20, 8)) + 1e-6 * rng.normal(size=(20, 8))
    assert representations.spread(rows).similarity == pytest.approx(1)
    assert representations.spread(rows).deviation < 1e-5


def test_spread_of_orthogonal_features():
    found = representations.spread(np.concatenate([np.eye(6), -np.eye(6)]))
    assert found.similarity == pytest.approx(-1 / 11)
    assert found.rank == pytest.approx(6)


def test_outputs_of_one_output_each_tell_everything_and_uniform_ones_nothing():
    sure = np.log(np.eye(8) + 1e-12)
    assert representations.outputs(sure).information == pytest.approx(math.log(8), abs=1e-6)
    assert representations.outputs(sure).used == 8
    uniform = np.full((8, 8), -math.log(8))
    found = representations.outputs(uniform)
    assert found.entropy == pytest.approx(math.log(8))
    assert found.information == pytest.approx(0, abs=1e-9)
    same = np.log(np.eye(8)[[3] * 8] + 1e-12)
    assert representations.outputs(same).information == pytest.approx(0, abs=1e-6)
    assert representations.outputs(same).used == 1


def test_outputs_that_tell_the_class_and_nothing_else(rng):
    labels = np.arange(200) % 4
    sure = np.log(np.eye(4)[labels] + 1e-12)
    found = representations.of_class(sure, sure, np.ones((200, 3)), labels)
    assert found.entropy == pytest.approx(math.log(4))
    assert found.information == pytest.approx(math.log(4), abs=0.05)
    assert found.outputs == pytest.approx(1) and found.features == 0


def test_outputs_that_tell_the_clip_but_not_the_class(rng):
    """By themselves, classes of five clips would seem to tell a nat or more."""
    labels = rng.integers(0, 10, 50)
    sure = np.log(np.eye(50) + 1e-12)
    found = representations.of_class(sure, sure, rng.normal(size=(50, 64)), labels)
    assert representations.outputs(sure).information == pytest.approx(math.log(50), abs=1e-6)
    assert found.information == pytest.approx(0, abs=0.05)
    assert abs(found.outputs) < 0.02 and abs(found.features) < 0.05


def test_the_share_between_classes_is_that_of_the_variance(rng):
    labels = np.arange(5000) % 5
    rows = rng.normal(size=5)[labels, None] * np.ones(64) + 2 * rng.normal(size=(5000, 64))
    means = np.array([rows[labels == c].mean(axis=0) for c in range(5)])
    plain = np.square(means - means.mean(axis=0)).mean() / rows.var(axis=0).mean()
    assert representations.share_between_classes(rows, labels) == pytest.approx(plain, abs=2e-3)


def test_retrieval_of_partners_that_agree(rng):
    rows = rng.normal(size=(20, 16))
    found = representations.retrieve("audio", rows, rows + 0.01 * rng.normal(size=(20, 16)), None)
    assert found.recall == {1: 1.0, 5: 1.0, 10: 1.0}
    assert found.same_class == {}
    assert found.nearest(3, 2)[0] == 3


def test_retrieval_of_strangers_is_chance(rng):
    x, y = rng.normal(size=(2, 400, 16))
    found = representations.retrieve("audio", x, y, None)
    assert found.recall[10] == pytest.approx(10 / 400, abs=0.03)


def test_retrieval_by_outputs_that_are_all_the_same_finds_nothing():
    found = representations.retrieve("video", np.ones((40, 4)), np.ones((40, 4)), None)
    assert found.recall[1] == 0


def test_retrieval_of_the_same_class_leaves_the_partner_out():
    labels = np.repeat([0, 1], 6)
    rows = np.eye(2)[labels] + 1e-3 * np.arange(12)[:, None]
    found = representations.retrieve("audio", rows, rows, labels)
    assert found.same_class[5] == 1.0
    assert 12 not in found.recall


def test_neighbor_accuracy(rng):
    labels = np.repeat(np.arange(3), 15)
    features = 3 * np.eye(3)[labels] + 0.1 * rng.normal(size=(45, 3))
    assert representations.neighbor_accuracy(features, labels) == 1.0
    noise = rng.normal(size=(45, 3))
    assert representations.neighbor_accuracy(noise, labels) < 0.7
    assert representations.chance(labels) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("count", "method"), [(3, "PCA"), (40, "t-SNE")])
def test_maps_keep_groups_together(rng, count, method):
    labels = np.arange(count) % 2
    rows = 10 * np.eye(8)[labels] + 0.1 * rng.normal(size=(count, 8))
    points, found = representations.map_to_plane(rows)
    assert found == method
    assert points.shape == (count, 2)
    centers = np.stack([points[labels == n].mean(axis=0) for n in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - centers, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, labels)


def test_a_map_of_features_that_are_all_the_same():
    points, _ = representations.map_to_plane(np.ones((40, 4)))
    assert np.isfinite(points).all()


def test_densities_integrate_to_one(rng):
    x, made = representations.densities({"a": rng.normal(size=10_000), "b": rng.random(10_000)})
    for density in made.values():
        assert density.sum() * (x[1] - x[0]) == pytest.approx(1, abs=0.01)
    x, made = representations.densities({"constant": np.ones(10)})
    assert np.isfinite(made["constant"]).all()
