"""Scores of retrieval from one modality to the other: recall and median rank.

Row n of the queries and row n of the candidates are of the same recording: each query has one
partner. The rank of a partner is the number of candidates more similar to the query, so 0 is best;
a candidate that is as similar counts half, so that equal outputs for all do not find their
partners.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.preprocessing import normalize

RECALL_AT = (1, 5, 10)
_ROWS = 1024  # queries at a time


def centered(outputs: np.ndarray) -> np.ndarray:
    """Subtracts the mean over recordings, as centering does, and scales rows to unit length.

    Args:
        outputs: (n, J) float, outputs of one network.

    Returns:
        (n, J) float. Products of rows are cosines.
    """
    return normalize(outputs - outputs.mean(axis=0))


def ranks(similarities: np.ndarray, first: int = 0) -> np.ndarray:
    """Ranks the partners of some queries.

    Args:
        similarities: (q, n) float, of q successive queries to all n candidates.
        first: Place of the first of these queries among all n.

    Returns:
        (q,) float64 in [0, n - 1].
    """
    rows = np.arange(len(similarities))
    own = similarities[rows, first + rows][:, None]
    ahead = (similarities > own).sum(axis=1)
    return ahead + 0.5 * ((similarities == own).sum(axis=1) - 1)


def ranks_of(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Ranks the partners of all queries, without all similarities at once.

    Args:
        queries: (n, J) float from `centered`.
        candidates: (n, J) float from `centered`, of the other modality.

    Returns:
        (n,) float64, as from `ranks`.
    """
    starts = range(0, len(queries), _ROWS)
    parts = [ranks(queries[n : n + _ROWS] @ candidates.T, n) for n in starts]
    return np.concatenate(parts)


def recall(rank: np.ndarray, depths: Sequence[int] = RECALL_AT) -> dict[int, float]:
    """Computes the share of queries whose partner is among the first k candidates, by k.

    Args:
        rank: (n,) float from `ranks`.
        depths: Values of k. Those above n are left out.
    """
    return {k: float((rank < k).mean()) for k in depths if k <= len(rank)}


def median_rank(rank: np.ndarray) -> float:
    """Computes the median rank of the partners, counted from 1."""
    return float(np.median(rank)) + 1


def chance(count: int, depths: Sequence[int] = RECALL_AT) -> tuple[dict[int, float], float]:
    """Returns the recall by depth and the median rank of random orders of n candidates."""
    return {k: k / count for k in depths if k <= count}, (count + 1) / 2
