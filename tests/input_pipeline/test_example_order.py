"""Which examples an epoch holds: each once, or classes by their inverse frequencies."""

import numpy as np
import pytest

from input_pipeline.example_order import BalancedOrder, ExampleOrder, class_balance, epoch_order

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
    "order", [ExampleOrder(range(200)), BalancedOrder(range(200), SINGLE)], ids=["each", "balanced"]
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
