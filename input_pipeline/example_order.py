"""Which examples come when: the endless stream that a loader cuts into batches.

The stream runs epoch after epoch. An epoch of N examples has N places, and what is at a place
depends on the seed, the epoch and the place alone. All draws rank or scale the raw output of a bit
generator. NumPy keeps that output the same in all versions, which it does not promise for the
methods of a `Generator`.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

_PERMUTATION, _JITTER = 0, 1  # what an epoch draws


class ExampleOrder:
    """A stream in which each epoch is a permutation of all examples.

    Args:
        example_ids: (N,) ids of the examples.
        number: Number of the stream, from 0. Streams of other numbers are shuffled differently.

    Raises:
        ValueError: There are no examples.
    """

    def __init__(self, example_ids: Sequence[int], number: int = 0) -> None:
        if not len(example_ids):
            raise ValueError("the source has no examples")
        self._example_ids = np.array(example_ids, np.int64)
        # A batch spans few epochs, and neighboring batches span the same ones.
        self._epoch_order = functools.lru_cache(maxsize=4)(
            functools.partial(epoch_order, len(example_ids), number=number)
        )

    def __len__(self) -> int:
        """Returns the number N of places in an epoch."""
        return len(self._example_ids)

    def examples(self, places: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the examples at some places of the stream.

        Args:
            places: (B,) int64 places, from 0.
            seed: Seed of the run, not negative.

        Returns:
            Passes (B,) int64 and example ids (B,) int64. The pass is the epoch, from 0. No two
            places with the same example have the same pass, so that both together key all draws.
        """
        epochs, within = np.divmod(places, len(self))
        chosen = np.empty_like(places)
        for epoch in np.unique(epochs):
            rows = epochs == epoch
            chosen[rows] = self._in_epoch(within[rows], seed, int(epoch))
        return self._passes(places, epochs), self._example_ids[chosen]

    def _in_epoch(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Returns the indices of the examples at some places of an epoch."""
        return self._epoch_order(seed, epoch)[places]

    def _passes(self, places: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Returns the pass that each place of the stream belongs to."""
        del places
        return epochs


class MixedOrder(ExampleOrder):
    """A stream that takes examples from several sets in fixed proportions.

    Each set is a stream of its own, as in `ExampleOrder`: it is shuffled again when all its
    examples have come. Which set a place of the mixed stream belongs to depends on the weights
    alone, with their common divisor taken out. Any `sum(weights)` places in a row hold each set as
    often as its weight says. The sets are spread evenly: the first one has place p if its share of
    p + 1 places, rounded, is more than its share of p places. The second one has its share of the
    other places in the same way, and so on. The number of a set's examples in a batch therefore
    differs from its share by a few at most, and by less than one if there are two sets.

    With one set, the stream is that of `ExampleOrder`. An epoch has as many places as there are
    examples in all sets.

    Args:
        sets: Ids of the examples of each set.
        weights: Weight of each set, at least 1.

    Raises:
        ValueError: A set has no examples.
    """

    def __init__(self, sets: Sequence[Sequence[int]], weights: Sequence[int]) -> None:
        super().__init__(np.concatenate(sets))
        self._sets = [ExampleOrder(ids, number) for number, ids in enumerate(sets)]
        divisor = math.gcd(*weights)
        self._weights = [weight // divisor for weight in weights]

    @property
    def sizes(self) -> list[int]:
        """Number of examples of each set."""
        return [len(order) for order in self._sets]

    def examples(self, places: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the examples at some places of the stream.

        Args:
            places: (B,) int64 places, from 0.
            seed: Seed of the run, not negative.

        Returns:
            Passes (B,) int64 and example ids (B,) int64. The pass is the epoch of the example's
            set.
        """
        passes, ids = np.empty_like(places), np.empty_like(places)
        rows, left = np.arange(len(places)), places  # those of this set and of later ones
        for number, order in enumerate(self._sets):
            before = self._count(number, left)
            own = self._count(number, left + 1) > before
            passes[rows[own]], ids[rows[own]] = order.examples(before[own], seed)
            rows, left = rows[~own], (left - before)[~own]
        return passes, ids

    def _count(self, number: int, places: np.ndarray) -> np.ndarray:
        """Counts a set's examples in the first places of a stream without the sets before it."""
        weight, all_weights = self._weights[number], sum(self._weights[number:])
        periods, within = np.divmod(places, all_weights)  # the product of all would overflow
        return periods * weight + (within * weight + all_weights // 2) // all_weights


class BalancedOrder(ExampleOrder):
    """A stream in which each epoch holds the classes about equally often.

    `class_balance` gives the examples' weights, which divide the interval [0, N) among them. An
    epoch takes one point of each [n, n + 1), shuffles the points, and holds the examples in whose
    parts they lie. So an example whose expected number is c comes at least floor(c) - 1 times and
    at most ceil(c) + 1 times. With equal weights each comes once, as in `ExampleOrder`.

    An epoch may hold an example several times, so the pass is the place in the stream.

    Args:
        example_ids: (N,) ids of the examples.
        label_sets: N tuples with the classes of each example, at least one.

    Raises:
        ValueError: There are no examples, or some have no class.
    """

    def __init__(self, example_ids: Sequence[int], label_sets: Sequence[tuple[int, ...]]) -> None:
        super().__init__(example_ids)
        if unlabeled := sum(not labels for labels in label_sets):
            raise ValueError(
                f"{unlabeled} of {len(label_sets)} examples have no class; allowed: examples with "
                "at least one, or another sampling than 'balanced'"
            )
        ends = np.cumsum(class_balance(label_sets))
        self._ends = ends * (len(self) / ends[-1])
        self._ends[-1] = np.inf  # so that rounding leaves no gap

    def _in_epoch(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        points = super()._in_epoch(places, seed, epoch)
        points = points + _jitter(len(self), seed, epoch)[points]
        return np.searchsorted(self._ends, points, side="right")

    def _passes(self, places: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        del epochs
        return places


def class_balance(label_sets: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Returns the weights with which all classes come about equally often.

    The weight of an example is the sum, over its classes, of the inverse number of examples that
    have the class, as is usual on AudioSet. With one class per example, all classes come equally
    often; with several, those that come along with others come more often.

    Args:
        label_sets: N tuples with the classes of each example.

    Returns:
        (N,) float64 weights; 0 for an example without a class.
    """
    labels = np.array([label for labels in label_sets for label in labels], np.int64)
    examples = np.repeat(np.arange(len(label_sets)), [len(labels) for labels in label_sets])
    return np.bincount(examples, weights=1 / np.bincount(labels)[labels], minlength=len(label_sets))


def epoch_order(count: int, seed: int, epoch: int, number: int = 0) -> np.ndarray:
    """Shuffles the places of one epoch.

    Args:
        count: Number of places.
        seed: Seed of the run, not negative.
        epoch: Index of the epoch, from 0.
        number: Number of the stream, from 0.

    Returns:
        (count,) int64 permutation of range(count), read-only.
    """
    words = [seed, epoch, _PERMUTATION, number]  # NumPy takes those at the end that are 0 for none
    bits = np.random.Philox(np.random.SeedSequence(words)).random_raw(count)
    order = np.argsort(bits, kind="stable")
    order.flags.writeable = False
    return order


@functools.lru_cache(maxsize=4)
def _jitter(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns (count,) float64 numbers in [0, 1) for one epoch, read-only."""
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch, _JITTER])).random_raw(count)
    numbers = (bits >> np.uint64(11)) * 2.0**-53
    numbers.flags.writeable = False
    return numbers
