"""Classifiers on features: linear SVM, one linear layer, nearest neighbors.

Each classifier is a generator `(train_x, train_y, test_xs) -> (candidate, scores)`. It trains on
some rows and scores others:

    train_x     (S, D) float32. Features of the training clips.
    train_y     (S, C) bool. Classes of the training clips.
    test_xs     List of (T, D) float32, one array for each set of clips to score.
    candidate   float. Value of the hyperparameter that varies: C, the epoch, or k.
    scores      List of (T, C) float32, one for each of `test_xs`. Larger for likelier classes.

Classifiers are deterministic. They never score a class without training clips highest.
"""

import collections
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import joblib
import ml_collections
import numpy as np
import optax
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import LinearSVC

from input_pipeline import cores
from input_pipeline.programs.wording import counted
from xkd_jax.config.checks import ConfigError
from xkd_jax.run import console

Scored = Iterator[tuple[float, list[np.ndarray]]]


class Classifier(NamedTuple):
    """A classifier and the values of its hyperparameter to try.

    Attributes:
        varied: Name of the hyperparameter that varies, for display: C, epoch or k.
        candidates: Its values, in the order in which `fit` yields them.
        fit: Generator as described in the module's docstring.
        conclude: Function that prints one warning about all fits so far, if one is due.
    """

    varied: str
    candidates: tuple[float, ...]
    fit: Callable[[np.ndarray, np.ndarray, Sequence[np.ndarray]], Scored]
    conclude: Callable[[], None] = lambda: None


def make(config: ml_collections.ConfigDict, multi_label: bool, seed: int) -> Classifier:
    """Makes the classifier that a config names.

    Args:
        config: Section `classifier` of the config.
        multi_label: Whether a row may have any number of classes instead of exactly one.
        seed: Seed of the random draws in fitting.

    Raises:
        ConfigError: The classifier does not support multi-label data.
    """
    if config.name == "svm":
        if multi_label:
            raise ConfigError(
                "config.classifier.name is 'svm'; allowed for multi-label data: 'linear', 'knn'"
            )
        counts = Convergence(config.svm.max_iterations)
        fit = functools.partial(linear_svm, config.svm, counts)
        return Classifier("C", tuple(config.svm.c), fit, counts.warn)
    if config.name == "linear":
        settings = LinearLayer(multi_label=multi_label, **config.linear)
        return Classifier(
            "epoch", settings.candidates, functools.partial(linear_layer, settings, seed)
        )
    k = tuple(map(float, config.knn.k))
    return Classifier("k", k, functools.partial(nearest_neighbors, config.knn))


class Convergence:
    """Counts the fits of an SVM, and those that stop before they converge.

    Args:
        limit: Number of iterations after which a fit stops.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fits = 0
        self._cut_short: collections.Counter[float] = collections.Counter()

    def count(self, c: float, iterations: int) -> None:
        """Counts a fit with this C, which took so many iterations."""
        self._fits += 1
        if iterations >= self._limit:
            self._cut_short[c] += 1

    def warn(self) -> None:
        """Prints a warning if some fits have been cut short, with their number for each C."""
        if not self._cut_short:
            return
        numbers = ", ".join(f"{count} with C={c:g}" for c, count in self._cut_short.items())
        console.warn(
            f"{self._cut_short.total()} of {counted(self._fits, 'SVM fit')} stopped after "
            f"{self._limit} iterations (config.classifier.svm.max_iterations) before converging: "
            f"{numbers}"
        )


def linear_svm(
    config: ml_collections.ConfigDict,
    convergence: Convergence,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_xs: Sequence[np.ndarray],
) -> Scored:
    """Fits scikit-learn's LinearSVC, one class against the rest, for each C.

    Args:
        config: Section `classifier.svm`.
        convergence: Counts of the fits; this adds to them.
        train_x: (S, D) float32. Features of the training clips.
        train_y: (S, C) bool. Their classes, exactly one per row.
        test_xs: (T, D) float32 each. Features of the clips to score.

    Yields:
        C, and (T, C) float32 decision values for each of `test_xs`.

    Raises:
        ValueError: The training clips have fewer than two classes.
    """
    labels = train_y.argmax(axis=1)
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(
            f"train_y has {len(labels)} clips of {len(present)} class; allowed for an SVM: clips "
            "of at least 2 classes"
        )

    def fit(c: float) -> tuple[float, list[np.ndarray], int]:
        # The dual's solver draws random numbers, and takes several times as long for large C.
        svm = LinearSVC(C=c, dual=len(train_x) < train_x.shape[1], random_state=0)
        svm.set_params(max_iter=config.max_iterations)
        svm.fit(train_x, labels)
        return c, [decisions(svm, x) for x in test_xs], int(svm.n_iter_)

    def decisions(svm: LinearSVC, x: np.ndarray) -> np.ndarray:
        values = svm.decision_function(x)
        if len(present) == 2:
            values = np.stack([-values, values], axis=1)
        scores = np.full((len(x), train_y.shape[1]), values.min(initial=0.0) - 1)
        scores[:, present] = values
        return scores.astype(np.float32)

    jobs = min(config.jobs or cores.count(), len(config.c))
    # Threads are enough: liblinear releases the interpreter's lock.
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `convergence` warns of all at once
        for c, scores, iterations in parallel(joblib.delayed(fit)(c) for c in config.c):
            convergence.count(c, iterations)
            yield c, scores


@dataclasses.dataclass(frozen=True)
class LinearLayer:
    """Hyperparameters of a linear layer: `multi_label` and the fields of `classifier.linear`.

    Attributes:
        multi_label: Whether to use sigmoids and binary cross-entropy instead of softmax and
            cross-entropy.
        learning_rate: Peak of the learning rate.
        schedule: After the warm-up, "cosine" (decays to 0 at the end) or "constant".
        warmup_epochs: Epochs in which the learning rate grows linearly from 0, less than `epochs`.
        weight_decay: AdamW's weight decay, applied to the weights but not to the biases.
        dropout: Dropout rate of the features.
        batch_size: Rows per step, at most all rows.
        epochs: Number of passes over the rows, each in a new order.
        epoch: "best" if every epoch is a candidate, "last" if only the last one is.
    """

    multi_label: bool
    learning_rate: float
    schedule: str
    warmup_epochs: float
    weight_decay: float
    dropout: float
    batch_size: int
    epochs: int
    epoch: str

    @property
    def candidates(self) -> tuple[float, ...]:
        """Epochs whose layers score, counted from 1."""
        first = 1 if self.epoch == "best" else self.epochs
        return tuple(float(epoch) for epoch in range(first, self.epochs + 1))

    def rate(self, steps_per_epoch: int) -> optax.Schedule:
        """Makes the schedule of the learning rate."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        left = self.epochs * steps_per_epoch - warmup
        after = optax.constant_schedule(self.learning_rate)
        if self.schedule == "cosine":
            after = optax.cosine_decay_schedule(self.learning_rate, left)
        if not warmup:
            return after
        growing = optax.linear_schedule(0.0, self.learning_rate, warmup)
        return optax.join_schedules([growing, after], [warmup])


def linear_layer(
    settings: LinearLayer,
    seed: int,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_xs: Sequence[np.ndarray],
) -> Scored:
    """Trains one linear layer with AdamW, all epochs in one compiled program.

    Args:
        settings: Hyperparameters.
        seed: Seed of the order of rows and of the dropout.
        train_x: (S, D) float32. Features of the training clips, all on the first device at once.
        train_y: (S, C) bool. Their classes.
        test_xs: (T, D) float32 each. Features of the clips to score.

    Yields:
        A candidate, and (T, C) float32 probabilities after this epoch for each of `test_xs`.
    """
    layers = _train(settings, jax.random.key(seed), train_x, train_y)
    for epoch in settings.candidates:
        layer = {name: values[round(epoch) - 1] for name, values in layers.items()}
        yield epoch, [_probabilities(layer, x, settings.multi_label) for x in test_xs]


@functools.partial(jax.jit, static_argnums=0)
def _train(settings: LinearLayer, key: jax.Array, x: jax.Array, y: jax.Array) -> dict:
    """Returns the layer after each epoch: weights (epochs, D, C) and biases (epochs, C)."""
    rows = len(x)
    batch_size = min(settings.batch_size, rows)
    # The last batch of an epoch is filled up with the first rows of its order, so that each epoch
    # sees every row.
    steps = -(-rows // batch_size)
    tx = optax.adamw(
        settings.rate(steps),
        weight_decay=settings.weight_decay,
        mask={"weights": True, "biases": False},
    )
    # The bias of a class without training rows makes its probability zero.
    absent = jnp.where(y.any(axis=0), 0.0, -jnp.inf)

    def loss(layer: dict, key: jax.Array, rows: jax.Array) -> jax.Array:
        features, targets = x[rows], y[rows].astype(jnp.float32)
        if settings.dropout:
            mask = jax.random.bernoulli(key, 1 - settings.dropout, features.shape)
            features = jnp.where(mask, features / (1 - settings.dropout), 0.0)
        logits = _logits(layer, features)
        if settings.multi_label:
            return optax.sigmoid_binary_cross_entropy(logits, targets).mean()
        return optax.softmax_cross_entropy(logits, targets).mean()

    def step(carry: tuple, key_and_rows: tuple) -> tuple:
        layer, state = carry
        updates, state = tx.update(jax.grad(loss)(layer, *key_and_rows), state, layer)
        return (optax.apply_updates(layer, updates), state), None

    def epoch(carry: tuple, key: jax.Array) -> tuple:
        order_key, dropout_key = jax.random.split(key)
        order = jnp.resize(jax.random.permutation(order_key, rows), (steps, batch_size))
        carry, _ = jax.lax.scan(step, carry, (jax.random.split(dropout_key, steps), order))
        layer = carry[0]
        return carry, {**layer, "biases": layer["biases"] + absent}

    layer = {"weights": jnp.zeros((x.shape[1], y.shape[1])), "biases": jnp.zeros(y.shape[1])}
    return jax.lax.scan(epoch, (layer, tx.init(layer)), jax.random.split(key, settings.epochs))[1]


@functools.partial(jax.jit, static_argnums=2)
def _predict(layer: dict, x: jax.Array, multi_label: bool) -> jax.Array:
    logits = _logits(layer, x)
    return jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits)


def _probabilities(layer: dict, x: np.ndarray, multi_label: bool) -> np.ndarray:
    return np.asarray(_predict(layer, x, multi_label))


def _logits(layer: dict, x: jax.Array) -> jax.Array:
    # Full float32 on accelerators too, which round the features by default.
    product = jnp.matmul(x, layer["weights"], precision=jax.lax.Precision.HIGHEST)
    return product + layer["biases"]


def nearest_neighbors(
    config: ml_collections.ConfigDict,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_xs: Sequence[np.ndarray],
) -> Scored:
    """Classifies by the votes of the k nearest rows in cosine similarity (DINO's kNN).

    Votes are weighted by the softmax of the similarities. All rows vote if there are fewer than k.

    Args:
        config: Section `classifier.knn`.
        train_x: (S, D) float32. Features of the training clips.
        train_y: (S, C) bool. Their classes.
        test_xs: (T, D) float32 each. Features of the clips to score.

    Yields:
        k, and for each of `test_xs` (T, C) float32 in [0, 1], the weight of the neighbors that
        have a class.
    """
    most = min(max(config.k), len(train_x))
    index = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(train_x)
    neighbors = [index.kneighbors(x) for x in test_xs]
    for k in config.k:
        scores = [votes(d[:, :k], i[:, :k], train_y, config.temperature) for d, i in neighbors]
        yield float(k), scores


def votes(
    distances: np.ndarray, neighbors: np.ndarray, train_y: np.ndarray, temperature: float
) -> np.ndarray:
    """Computes the weight of each class among the neighbors of each clip.

    Args:
        distances: (T, k) float. Cosine distances (1 - similarity) of the neighbors.
        neighbors: (T, k) int. Row of each neighbor in `train_y`.
        train_y: (S, C) bool. Classes of the training clips.
        temperature: Temperature of the softmax over a clip's neighbors.

    Returns:
        (T, C) float32 in [0, 1].
    """
    logits = (distances.min(axis=1, keepdims=True) - distances) / temperature
    weights = np.exp(logits, dtype=np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    ends = np.arange(len(neighbors) + 1) * neighbors.shape[1]
    sparse = scipy.sparse.csr_array(
        (weights.ravel(), neighbors.ravel(), ends), shape=(len(neighbors), len(train_y))
    )
    return sparse @ train_y.astype(np.float32)
