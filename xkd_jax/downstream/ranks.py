"""How many directions features use: RankMe and LiDAR, which need no labels.

Both are effective ranks, the exponential of the entropy of a normalized spectrum. In a collapse
they fall towards 1. They depend on the numbers of rows and of features, so only numbers of the same
set and width compare.
"""

import numpy as np
from scipy.special import entr

# Added to each share of a spectrum. Implementations of RankMe say that its paper (arXiv 2210.02885)
# recommends this for float32. reptrix has it for LiDAR too; stable-pretraining has 1e-5 for RankMe
# and 1e-8 for LiDAR.
EPSILON = 1e-7
# Added to the variances within recordings. An implementation of LiDAR says that its paper (arXiv
# 2312.04000) gives no value. This is stable-pretraining's; reptrix has 1e-6.
DELTA = 1e-4


def effective_rank(spectrum: np.ndarray, epsilon: float = EPSILON) -> float:
    """Computes the exponential of the entropy of a spectrum's shares.

    Args:
        spectrum: (r,) float, not negative.
        epsilon: What is added to each share. With 0, it is that of Roy and Vetterli (2007).

    Returns:
        From 1, if one value is all or all are 0, to r, if all are equal; apart from `epsilon`.
    """
    shares = spectrum / max(float(spectrum.sum()), np.finfo(np.float64).tiny) + epsilon
    return float(np.exp(entr(shares).sum()))


def rankme(features: np.ndarray) -> float:
    """Computes RankMe (Garrido et al., 2023): the effective rank of the matrix of features.

    Args:
        features: (n, D) float. Features of n clips; their mean is not subtracted.

    Returns:
        Effective rank of the singular values, from 1 to min(n, D).
    """
    return effective_rank(np.linalg.svd(features.astype(np.float64), compute_uv=False))


def lidar(features: np.ndarray) -> float:
    """Computes LiDAR (Thilak et al., 2024): the effective rank of the LDA matrix.

    Each recording is a class. The matrix is the covariance of the recordings' means, whitened by
    the covariance of the views within recordings plus `DELTA` times the identity. Covariances are
    divided by the numbers of means and of views; by one less of each, as elsewhere, `DELTA` would
    count (k - 1) / k times as much.

    Args:
        features: (n, k, D) float. Features of k views of each of n recordings, n and k at least 2.

    Returns:
        Effective rank of the matrix's eigenvalues, from 1 to min(n - 1, D).
    """
    count, _, width = features.shape
    features = features.astype(np.float64)
    means = features.mean(axis=1)
    within = (features - means[:, None]).reshape(-1, width)
    between = means - means.mean(axis=0)
    # By Woodbury's identity, with products of rows alone: D may be much larger than n.
    gram = within @ within.T + DELTA * len(within) * np.eye(len(within))
    mixed = within @ between.T
    matrix = (between @ between.T - mixed.T @ np.linalg.solve(gram, mixed)) / (DELTA * count)
    eigenvalues = np.maximum(np.linalg.eigvalsh(matrix), 0.0)[-width:]
    return effective_rank(np.pad(eigenvalues, (0, width - len(eigenvalues))))
