"""Measures of features and outputs over clips: spread, information, neighbors and retrieval."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from xkd_jax.downstream import ranks, retrieval_scores

NEIGHBORS = 10
_BINS = 80
_LOTS = 20  # random permutations of the classes, to estimate what few clips give by chance
_FEWEST_FOR_TSNE = 30
_PERPLEXITY = 20


class Spread(NamedTuple):
    """The spread of n features or outputs.

    Attributes:
        similarity: Mean cosine between rows of different clips; 1 if all are alike.
        rank: Effective rank (Roy and Vetterli, 2007), the number of directions really used: the
            exponential of the entropy of the singular values' shares, for centered rows.
        deviation: Standard deviation of each value over the clips, averaged over the values.
    """

    similarity: float
    rank: float
    deviation: float


class Outputs(NamedTuple):
    """The information in the distributions over J outputs of n clips, in nats.

    Attributes:
        entropy: Mean entropy of the distributions.
        marginal: Entropy of the mean distribution.
        information: `marginal` - `entropy`, the mutual information of output and clip; at most
            log n.
        used: Number of the J outputs that are the largest for some clip.
    """

    entropy: float
    marginal: float
    information: float
    used: int


class OfClass(NamedTuple):
    """How much n outputs say about the class of their clips, less what random classes would give.

    Attributes:
        information: Nats that an output says about the class; negative if random classes give more.
        entropy: Entropy of the classes in nats, the most that an output can say about them.
        outputs: Share of the outputs' variance that lies between classes.
        features: Share of the features' variance that lies between classes.
    """

    information: float
    entropy: float
    outputs: float
    features: float


class Retrieval(NamedTuple):
    """Retrieval from one modality to the other among n clips.

    Attributes:
        queries: Modality of the queries.
        similarities: (n, n) float32 cosines, queries by candidates. On the diagonal, query and
            candidate are of the same clip: the query's own partner.
        recall: Share of queries whose own partner is among the first k, by k.
        same_class: Share of the query's class among the first k candidates other than its own
            partner, by k; empty without labels.
    """

    queries: str
    similarities: np.ndarray
    recall: dict[int, float]
    same_class: dict[int, float]

    def nearest(self, query: int, count: int) -> np.ndarray:
        """Returns (count,) int, the candidates most similar to a query, the most similar first."""
        return np.argsort(-self.similarities[query], kind="stable")[:count]

    def place(self, query: int) -> int:
        """Returns the place of a query's own partner among the candidates, counted from 1."""
        return int(np.flatnonzero(self.nearest(query, len(self.similarities)) == query)[0]) + 1


def spread(rows: np.ndarray) -> Spread:
    """Measures the spread of rows (n, D), for n of 2 or more."""
    rows = np.asarray(rows, np.float64)
    unit = normalize(rows)
    count = len(rows)
    similarity = (np.square(unit.sum(axis=0)).sum() - count) / (count * (count - 1))
    singular = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    rank = ranks.effective_rank(singular, epsilon=0.0)
    return Spread(float(similarity), rank, float(rows.std(axis=0).mean()))


def outputs(log_probabilities: np.ndarray) -> Outputs:
    """Measures the information in distributions (n, J), given as log-probabilities."""
    logs = np.asarray(log_probabilities, np.float64)
    probabilities = np.exp(logs)
    entropy = float(-(probabilities * logs).sum(axis=1).mean())
    marginal = _entropy(probabilities.mean(axis=0))
    used = len(np.unique(logs.argmax(axis=1)))
    return Outputs(entropy, marginal, max(marginal - entropy, 0.0), used)


def of_class(
    log_probabilities: np.ndarray, projections: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> OfClass:
    """Measures what outputs say about the class.

    A student can learn from the other modality's teacher only what both modalities show. If a
    teacher's outputs say little about the class, its student hardly learns to tell classes apart.

    Args:
        log_probabilities: (n, J) floats, of the outputs' distributions.
        projections: (n, J) floats, the outputs.
        features: (n, D) floats.
        labels: (n,) int, of at least two classes.
    """
    probabilities = np.exp(np.asarray(log_probabilities, np.float64))
    # With few clips, outputs seem to say something about any classes, random ones included.
    rng = np.random.default_rng(0)
    lots = [_class_information(probabilities, rng.permutation(labels)) for _ in range(_LOTS)]
    shares = np.bincount(labels) / len(labels)
    return OfClass(
        _class_information(probabilities, labels) - float(np.mean(lots)),
        _entropy(shares),
        share_between_classes(projections, labels),
        share_between_classes(features, labels),
    )


def share_between_classes(rows: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance of rows (n, D) that lies between classes (Kelley's epsilon squared).

    It is 0 on average where rows do not depend on the class, and 1 where nothing else matters.
    """
    rows = np.asarray(rows, np.float64)
    total = np.square(rows - rows.mean(axis=0)).sum()
    classes = np.unique(labels)
    within = sum(
        np.square(rows[labels == c] - rows[labels == c].mean(axis=0)).sum() for c in classes
    )
    if total == 0 or len(rows) == len(classes):
        return 0.0
    return float(1 - within / total * (len(rows) - 1) / (len(rows) - len(classes)))


def _class_information(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mutual information of class and output, in nats, of distributions (n, J)."""
    within = sum(
        (labels == c).mean() * _entropy(probabilities[labels == c].mean(axis=0))
        for c in np.unique(labels)
    )
    return _entropy(probabilities.mean(axis=0)) - float(within)


def _entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def student_log_probabilities(projections: np.ndarray, temperature: float) -> np.ndarray:
    """Computes log-probabilities (n, J) of a student's outputs (Eq. 11)."""
    return log_softmax(np.asarray(projections, np.float64) / temperature, axis=1)


def neighbor_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Computes the leave-one-out accuracy of a vote of the nearest neighbors.

    `NEIGHBORS` neighbors vote, or fewer if the classes are smaller.

    Args:
        features: (n, D) float, compared by cosine.
        labels: (n,) int.

    Returns:
        The share of clips that the vote classifies correctly.
    """
    # With more neighbors than a typical class has other members, other classes would win the vote.
    counts = np.bincount(labels)
    k = max(1, min(NEIGHBORS, int(np.median(counts[counts > 0])) - 1, len(labels) - 1))
    index = NearestNeighbors(n_neighbors=k + 1, metric="cosine", algorithm="brute").fit(features)
    nearest = index.kneighbors(features, return_distance=False)
    correct = 0
    for row, neighbors in enumerate(nearest):
        votes = np.bincount(labels[neighbors[neighbors != row][:k]])
        correct += votes.argmax() == labels[row]
    return correct / len(labels)


def chance(labels: np.ndarray) -> float:
    """Computes the accuracy of always predicting the most frequent class."""
    return float(np.bincount(labels).max() / len(labels))


def retrieve(
    queries: str, asked: np.ndarray, candidates: np.ndarray, labels: np.ndarray | None
) -> Retrieval:
    """Ranks candidates of one modality by their similarity to queries of the other.

    The mean over clips is subtracted from the outputs of each modality, as centering does.

    Args:
        queries: Modality of `asked`.
        asked: (n, J) float, outputs for the queries.
        candidates: (n, J) float, outputs of the other modality for the same clips.
        labels: (n,) int, or None.

    Returns:
        Similarities and scores.
    """
    x, y = (retrieval_scores.centered(z) for z in (asked, candidates))
    similarities = np.asarray(x @ y.T, np.float32)
    count = len(similarities)
    recall = retrieval_scores.recall(retrieval_scores.ranks(similarities))
    same_class = {}
    if labels is not None:
        order = np.argsort(-similarities, axis=1, kind="stable")
        others = np.array([row[row != n] for n, row in enumerate(order)])
        alike = labels[others] == labels[:, None]
        same_class = {k: float(alike[:, :k].mean()) for k in recall if k < count}
    return Retrieval(queries, similarities, recall, same_class)


def map_to_plane(rows: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Maps rows (n, D) to a plane such that near rows stay near.

    Args:
        rows: (n, D) float.
        seed: Seed of the method.

    Returns:
        (n, 2) float64 points, and the method's name: t-SNE, or PCA for few or equal rows.
    """
    rows = normalize(np.asarray(rows, np.float64))
    rows = rows - rows.mean(axis=0)
    if np.allclose(rows, 0):
        return np.zeros((len(rows), 2)), "PCA"
    if len(rows) < _FEWEST_FOR_TSNE:
        parts = min(2, *rows.shape)
        points = PCA(parts, random_state=seed).fit_transform(rows)
        return np.pad(points, ((0, 0), (0, 2 - parts))), "PCA"
    reduced = PCA(min(30, *rows.shape), random_state=seed).fit_transform(rows)
    points = TSNE(perplexity=_PERPLEXITY, init="pca", random_state=seed).fit_transform(reduced)
    return points.astype(np.float64), "t-SNE"


def densities(values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Computes normalized histograms over common bins.

    Args:
        values: Arrays of floats by name.

    Returns:
        (bins,) float, the centers of the bins, which span quantiles 0.001 to 0.999 of all values;
        and (bins,) float densities by name.
    """
    every = np.concatenate([np.ravel(x) for x in values.values()])
    low, high = np.quantile(every, (0.001, 0.999))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    histograms = {
        name: np.histogram(x, edges)[0] / (np.size(x) * (edges[1] - edges[0]))
        for name, x in values.items()
    }
    return (edges[:-1] + edges[1:]) / 2, histograms
