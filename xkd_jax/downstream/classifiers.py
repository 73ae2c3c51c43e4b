"""Classifiers on features: linear SVM, one linear layer, nearest neighbors.

Each is fitted by a generator `(train_x, train_y, test_xs) -> (candidate, scores)`, which trains on
some rows and scores others:

    train_x     (S, D) float32, features of clips
    train_y     (S, C) bool, the classes of each
    test_xs     a list of (T, D) float32, one array for each set of clips to score
    candidate   a float: what was tried: C, the epoch, or k
    scores      a list of (T, C) float32, one for each of `test_xs`; larger for likelier classes

They are deterministic. A class without a row in `train_y` is never a clip's likeliest.
"""

import dataclasses
import functools
import os
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

from xkd_jax.config_check import ConfigError
from xkd_jax.config_rules import EPOCHS, above, below, number, one_of, some, whole

Scored = Iterator[tuple[float, list[np.ndarray]]]

# Of the fields of `config.classifier` (configs/eval/classifier.py).
RULES = {
    "classifier.name": one_of("svm", "linear", "knn"),
    "classifier.svm.c": some(above(0, 1e6)),
    "classifier.svm.max_iterations": whole(1, 10**9),
    "classifier.svm.jobs": whole(0, 1024),
    "classifier.linear.learning_rate": above(0, 1000),
    "classifier.linear.schedule": one_of("cosine", "constant"),
    "classifier.linear.weight_decay": number(0, 1000),
    "classifier.linear.dropout": below(1),
    "classifier.linear.batch_size": whole(1, 2**20),
    "classifier.linear.epochs": whole(1, EPOCHS),
    "classifier.knn.k": some(whole(1, 10**9)),
    "classifier.knn.temperature": above(0, 1000),
}


class Classifier(NamedTuple):
    """What to fit.

    Attributes:
        varied: What the candidates are values of, for people.
        candidates: In the order in which `fit` gives them.
        fit: The generator, see the module.
    """

    varied: str
    candidates: tuple[float, ...]
    fit: Callable[[np.ndarray, np.ndarray, Sequence[np.ndarray]], Scored]


def make(config: ml_collections.ConfigDict, multi_label: bool, seed: int) -> Classifier:
    """The classifier that a config names.

    Args:
        config: `classifier` of the config.
        multi_label: Whether rows may be of any number of classes, instead of one.
        seed: Of what is drawn in fitting.

    Raises:
        ConfigError: It cannot serve such data.
    """
    if config.name == "svm":
        if multi_label:
            raise ConfigError(
                "config.classifier.name is 'svm'; allowed for recordings of several classes: "
                "'linear', 'knn'"
            )
        return Classifier("C", tuple(config.svm.c), functools.partial(linear_svm, config.svm))
    if config.name == "linear":
        settings = LinearLayer(multi_label=multi_label, **config.linear)
        epochs = tuple(float(epoch + 1) for epoch in range(settings.epochs))
        return Classifier("epoch", epochs, functools.partial(linear_layer, settings, seed))
    k = tuple(map(float, config.knn.k))
    return Classifier("k", k, functools.partial(nearest_neighbors, config.knn))


def linear_svm(
    config: ml_collections.ConfigDict,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_xs: Sequence[np.ndarray],
) -> Scored:
    """scikit-learn's LinearSVC, one against the rest, for each C; scores are decision values.

    Prints a line for each fit that `max_iterations` ended.

    Args:
        config: `classifier.svm`.
        train_x: See the module.
        train_y: Likewise, one class a row.
        test_xs: Likewise.

    Yields:
        C and the scores.
    """
    labels = train_y.argmax(axis=1)
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(
            f"the {len(labels)} clips to train on are of {len(present)} class; an SVM needs two"
        )

    def fit(c: float) -> tuple[float, list[np.ndarray], bool]:
        # The dual's solver draws at random, and takes a multiple of the time where C is large.
        svm = LinearSVC(C=c, dual=len(train_x) < train_x.shape[1], random_state=0)
        svm.set_params(max_iter=config.max_iterations)
        svm.fit(train_x, labels)
        return c, [decisions(svm, x) for x in test_xs], svm.n_iter_ >= config.max_iterations

    def decisions(svm: LinearSVC, x: np.ndarray) -> np.ndarray:
        values = svm.decision_function(x)
        if len(present) == 2:
            values = np.stack([-values, values], axis=1)
        scores = np.full((len(x), train_y.shape[1]), values.min(initial=0.0) - 1)
        scores[:, present] = values
        return scores.astype(np.float32)

    jobs = min(config.jobs or os.cpu_count() or 1, len(config.c))
    # Threads, since liblinear runs without the interpreter's lock.
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told of below, with its C
        for c, scores, cut_short in parallel(joblib.delayed(fit)(c) for c in config.c):
            if cut_short:
                print(
                    f"warning: the SVM with C={c:g} has not converged in "
                    f"{config.max_iterations} iterations (config.classifier.svm.max_iterations)",
                    flush=True,
                )
            yield c, scores


@dataclasses.dataclass(frozen=True)
class LinearLayer:
    """How a linear layer is trained; `multi_label` and the fields of `classifier.linear`.

    Attributes:
        multi_label: Sigmoids and binary cross-entropy, instead of softmax and cross-entropy.
        learning_rate: At the first step.
        schedule: cosine (to 0 at the end) or constant.
        weight_decay: AdamW's, of the weights and not of the biases.
        dropout: Of the features.
        batch_size: At most the number of rows.
        epochs: Passes over the rows, each in an order of its own.
    """

    multi_label: bool
    learning_rate: float
    schedule: str
    weight_decay: float
    dropout: float
    batch_size: int
    epochs: int


def linear_layer(
    settings: LinearLayer,
    seed: int,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_xs: Sequence[np.ndarray],
) -> Scored:
    """One linear layer trained by AdamW in one compiled program; scores are probabilities.

    Args:
        settings: See there.
        seed: Of the rows' order and the dropout.
        train_x: See the module. It is all on the first device at once.
        train_y: Likewise.
        test_xs: Likewise.

    Yields:
        The epoch, from 1, and the scores after it.
    """
    layers = _train(settings, jax.random.key(seed), train_x, train_y)
    for epoch in range(settings.epochs):
        layer = {name: values[epoch] for name, values in layers.items()}
        yield float(epoch + 1), [_probabilities(layer, x, settings.multi_label) for x in test_xs]


@functools.partial(jax.jit, static_argnums=0)
def _train(settings: LinearLayer, key: jax.Array, x: jax.Array, y: jax.Array) -> dict:
    """The layer after each epoch: weights (epochs, D, C) and biases (epochs, C)."""
    rows = len(x)
    batch_size = min(settings.batch_size, rows)
    # An epoch ends with rows from the beginning of its order where the batches do not come out
    # even, so that every row is seen in each.
    steps = -(-rows // batch_size)
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, settings.epochs * steps)
    tx = optax.adamw(
        rate, weight_decay=settings.weight_decay, mask={"weights": True, "biases": False}
    )
    # Where no row is of a class, nothing but its bias may speak, and against it.
    absent = jnp.where(y.any(axis=0), 0.0, -jnp.inf)

    def loss(layer: dict, key: jax.Array, rows: jax.Array) -> jax.Array:
        features, targets = x[rows], y[rows].astype(jnp.float32)
        if settings.dropout:
            kept = jax.random.bernoulli(key, 1 - settings.dropout, features.shape)
            features = jnp.where(kept, features / (1 - settings.dropout), 0.0)
        logits = _logits(layer, features)
        if settings.multi_label:
            return optax.sigmoid_binary_cross_entropy(logits, targets).mean()
        return optax.softmax_cross_entropy(logits, targets).mean()

    def step(carry: tuple, drawn: tuple) -> tuple:
        layer, state = carry
        updates, state = tx.update(jax.grad(loss)(layer, *drawn), state, layer)
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
    # Exact on accelerators too, whose default is to round the features.
    product = jnp.matmul(x, layer["weights"], precision=jax.lax.Precision.HIGHEST)
    return product + layer["biases"]


def nearest_neighbors(
    config: ml_collections.ConfigDict,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_xs: Sequence[np.ndarray],
) -> Scored:
    """The nearest rows by cosine vote, each with the softmax of its similarity (DINO's kNN).

    Args:
        config: `classifier.knn`.
        train_x: See the module.
        train_y: Likewise.
        test_xs: Likewise.

    Yields:
        k, and the scores: for each class, the weight in [0, 1] of the neighbors that are of it.
        Where there are not k rows, all vote.
    """
    most = min(max(config.k), len(train_x))
    index = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(train_x)
    found = [index.kneighbors(x) for x in test_xs]
    for k in config.k:
        yield float(k), [votes(d[:, :k], i[:, :k], train_y, config.temperature) for d, i in found]


def votes(
    distances: np.ndarray, neighbors: np.ndarray, train_y: np.ndarray, temperature: float
) -> np.ndarray:
    """What neighbors say of clips.

    Args:
        distances: (T, k) floats, 1 less the cosines.
        neighbors: (T, k) int, rows of `train_y`.
        train_y: (S, C) bool.
        temperature: Of the softmax over the neighbors of a clip.

    Returns:
        (T, C) float32.
    """
    nearer = (distances.min(axis=1, keepdims=True) - distances) / temperature
    weights = np.exp(nearer, dtype=np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    ends = np.arange(len(neighbors) + 1) * neighbors.shape[1]
    sparse = scipy.sparse.csr_array(
        (weights.ravel(), neighbors.ravel(), ends), shape=(len(neighbors), len(train_y))
    )
    return sparse @ train_y.astype(np.float32)
