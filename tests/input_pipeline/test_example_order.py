"""Which examples an epoch holds: each once, or classes by their inverse frequencies."""

import numpy as np
import pytest

from input_pipeline.example_order import (
    BalancedOrder,
    ExampleOrder,
    MixedOrder,
    class_balance,
    epoch_order,
)

# 200 examples: 170 of class 0, 25 of class 1, 5 of class 2.
SINGLE = [(0,)] * 170 + [(1,)] * 25 + [(2,)] * 5
# Speech is in almost all, and bark and rain come along with it.
SEVERAL = [(0,)] * 80 + [(0, 1)] * 15 + [(0, 1, 2)] * 3 + [(2,)] * 2


def epochs(order, count, seed=0):
    """Returns (count, N) ids of the examples in the first epochs."""
    _, ids = order.examples(np.arange(count * len(order)), seed)
    return ids.reshape(count, len(order))


def test_epochs_and_seeds_shuffle_differently():
    orders = [epoch_order(100, seed, epoch) for seed in range(3) for epoch in range(3)]
    orders.append(np.arange(100))
    for i, one in enumerate(orders):
        for other in orders[:i]:
            # Two independent orders agree in about one place.
            assert np.mean(one == other) < 0.1


def test_every_example_comes_to_every_place():
    first = [epoch_order(8, 0, epoch)[0] for epoch in range(800)]
    assert np.bincount(first, minlength=8).min() > 60


def test_the_meaning_of_a_seed_has_not_changed():
    """These numbers change only where everybody's data are meant to change."""
    np.testing.assert_array_equal(epoch_order(10, 7, 3), [7, 1, 9, 6, 0, 4, 2, 8, 3, 5])


@pytest.mark.parametrize("label_sets", [SINGLE, SEVERAL], ids=["single", "several"])
def test_examples_come_as_often_as_their_classes_are_rare(label_sets):
    label_sets = [label_sets[place] for place in epoch_order(len(label_sets), 3, 0)]
    count = len(label_sets)
    frequency = {c: sum(c in labels for labels in label_sets) for c in range(3)}
    weights = np.array([sum(1 / frequency[c] for c in labels) for labels in label_sets])
    np.testing.assert_allclose(class_balance(label_sets), weights, rtol=1e-12)
    expected = count * weights / weights.sum()
    drawn = epochs(BalancedOrder(np.arange(count), label_sets), 400)
    times = np.stack([np.bincount(epoch, minlength=count) for epoch in drawn])
    # In each epoch by less than two, and on average.
    assert np.abs(times - expected).max() < 2
    np.testing.assert_allclose(times.mean(axis=0), expected, atol=0.15)
    targets = np.array([[c in labels for c in range(3)] for labels in label_sets])
    shares = (times.mean(axis=0) @ targets) / count
    np.testing.assert_allclose(shares, (weights @ targets) / weights.sum(), atol=0.01)


def test_each_class_has_its_share_of_every_epoch():
    classes = np.array([labels[0] for labels in SINGLE])
    for epoch in epochs(BalancedOrder(np.arange(200), SINGLE), 20):
        np.testing.assert_allclose(np.bincount(classes[epoch]) / 200, 1 / 3, atol=0.011)


def test_balanced_classes_come_as_without_balance():
    ids, label_sets = np.arange(0, 60, 2), [(n % 3,) for n in range(30)]
    for seed in range(3):
        balanced = epochs(BalancedOrder(ids, label_sets), 4, seed)
        np.testing.assert_array_equal(balanced, epochs(ExampleOrder(ids), 4, seed))


def test_a_place_of_the_stream_depends_on_the_seed_alone():
    order = BalancedOrder(np.arange(200), SINGLE)
    passes, ids = order.examples(np.arange(1000), seed=7)
    for places in ([999], [3, 401, 2], np.arange(398, 402)):
        some_passes, some = order.examples(np.asarray(places), seed=7)
        np.testing.assert_array_equal(some, ids[places])
        np.testing.assert_array_equal(some_passes, passes[places])
    assert np.mean(ids[:200] == ids[200:400]) < 0.3  # another order in every epoch
    assert np.mean(order.examples(np.arange(1000), seed=8)[1] == ids) < 0.3


@pytest.mark.parametrize(
    "order",
    [
        ExampleOrder(range(200)),
        BalancedOrder(range(200), SINGLE),
        MixedOrder([range(80), range(80, 83), range(90, 170)], (2, 5, 1)),
    ],
    ids=["each", "balanced", "mixed"],
)
def test_no_example_has_the_same_pass_twice(order):
    """The pass and the example are the key of all draws."""
    passes, ids = order.examples(np.arange(1000), seed=0)
    assert len(set(zip(passes.tolist(), ids.tolist(), strict=True))) == 1000


def test_examples_without_a_class_cannot_be_balanced():
    with pytest.raises(ValueError, match="1 of 3 examples have no class; allowed: examples with"):
        BalancedOrder(range(3), [(0,), (), (1,)])
    with pytest.raises(ValueError, match="has no examples"):
        BalancedOrder([], [])


# Mixtures of several sets. The ids of set n begin at 1000 n.

MIXTURES = {
    (1,): 0,
    (1, 1): 1,
    (7, 2): 1,
    (1, 1000): 1,
    (20, 3, 9): 2,
    (1, 1, 1, 1, 1): 3,
    (100, 1, 50, 7, 30, 2, 2, 90): 4,
}


def mixed(weights, size=11):
    return MixedOrder([1000 * n + np.arange(size + n) for n in range(len(weights))], weights)


@pytest.mark.parametrize(("weights", "nearness"), MIXTURES.items())
def test_every_stretch_has_each_sets_share(weights, nearness):
    period, places = sum(weights), np.arange(5 * sum(weights))
    _, ids = mixed(weights).examples(places, seed=3)
    counts = np.cumsum(ids[:, None] // 1000 == np.arange(len(weights)), axis=0)
    in_a_row = counts[period:] - counts[:-period]
    np.testing.assert_array_equal(in_a_row, np.tile(weights, (len(in_a_row), 1)))
    np.testing.assert_array_equal(counts[period - 1], weights)
    drift = counts - (places + 1)[:, None] * np.array(weights) / period
    assert np.max(drift.max(axis=0) - drift.min(axis=0)) <= nearness


def test_batches_hold_the_shares():
    """Of 3 batches of 8, two thirds are 16 examples."""
    _, ids = mixed((2, 1)).examples(np.arange(72).reshape(9, 8).ravel(), seed=0)
    first = (ids.reshape(9, 8) < 1000).sum(axis=1)
    assert set(first) == {5, 6}
    np.testing.assert_array_equal(first.reshape(3, 3).sum(axis=1), 16)


def test_a_set_is_exhausted_before_it_begins_again():
    weights = (1, 30, 4)
    passes, ids = mixed(weights).examples(np.arange(4000), seed=5)
    for number in range(3):
        own = ids // 1000 == number
        size = 11 + number
        drawn, epoch = ids[own] - 1000 * number, passes[own]
        np.testing.assert_array_equal(epoch, np.arange(len(drawn)) // size)
        orders = drawn[: len(drawn) // size * size].reshape(-1, size)
        np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(size), (len(orders), 1)))
        assert len({tuple(order) for order in orders}) == len(orders) > 5


def test_a_mixture_by_size_has_each_example_once_in_an_epoch():
    sizes = (11, 12, 13)
    order = mixed(sizes)
    assert len(order) == 36 and order.sizes == [11, 12, 13]
    np.testing.assert_array_equal(
        np.sort(epochs(order, 3)), np.tile(np.sort(np.concatenate(epochs(order, 1))), (3, 1))
    )
    assert len(set(epochs(order, 1).ravel())) == 36


def test_sets_of_one_size_are_shuffled_differently():
    _, ids = MixedOrder([range(200), range(1000, 1200)], (1, 1)).examples(np.arange(400), seed=0)
    first, second = ids[ids < 1000], ids[ids >= 1000] - 1000
    assert np.mean(first == second) < 0.05


def test_a_mixture_of_one_is_no_mixture():
    ids = np.arange(0, 60, 2)
    for one, other in zip(
        MixedOrder([ids], (5,)).examples(np.arange(100), 7),
        ExampleOrder(ids).examples(np.arange(100), 7),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("weights", [(2, 1, 4), (2_000_003, 250_007, 999_999_937)])
@pytest.mark.parametrize("start", [0, 12_345, 2**45])
def test_a_place_of_a_mixture_depends_on_the_seed_alone(weights, start):
    order = mixed(weights)
    passes, ids = order.examples(start + np.arange(300), seed=7)
    assert set(ids // 1000) <= {0, 1, 2} and np.all(passes >= 0)
    for places in (np.array([299, 5]), np.arange(40, 48)):
        some_passes, some = mixed(weights).examples(start + places, seed=7)
        np.testing.assert_array_equal(some, ids[places])
        np.testing.assert_array_equal(some_passes, passes[places])


def test_a_set_without_examples_is_refused():
    with pytest.raises(ValueError, match="has no examples"):
        MixedOrder([range(3), []], (1, 1))
