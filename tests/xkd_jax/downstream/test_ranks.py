"""RankMe and LiDAR agree with their definitions, and tell collapsed features from others."""

import numpy as np
import pytest

from xkd_jax.downstream import ranks


def defined_rank(values):
    shares = values / np.abs(values).sum() + 1e-7
    return np.exp(-sum(p * np.log(p) for p in shares))


def defined_rankme(features):
    """Garrido et al. (2023), equations 1 and 2."""
    eigenvalues = np.linalg.eigvalsh(
        features.T @ features if features.shape[0] > features.shape[1] else features @ features.T
    )
    return defined_rank(np.sqrt(np.maximum(eigenvalues, 0)))


def defined_lidar(features):
    """Thilak et al. (2024), section 4, sum by sum and with a matrix root."""
    count, views, width = features.shape
    everything = features.mean(axis=(0, 1))
    between, within = np.zeros((width, width)), np.zeros((width, width))
    for recording in features:
        mean = recording.mean(axis=0)
        between += np.outer(mean - everything, mean - everything) / count
        for row in recording:
            within += np.outer(row - mean, row - mean) / (count * views)
    values, vectors = np.linalg.eigh(within + 1e-4 * np.eye(width))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    return defined_rank(np.maximum(np.linalg.eigvalsh(root @ between @ root), 0))


@pytest.mark.parametrize(("count", "width"), [(40, 12), (9, 30)])
def test_they_agree_with_their_definitions(count, width):
    rng = np.random.default_rng(0)
    decay = 0.8 ** np.arange(width)
    means = rng.normal(size=(count, 1, width)) * decay + 1
    views = (means + 0.3 * rng.normal(size=(count, 3, width))).astype(np.float32)
    rows = views[:, 0]
    assert ranks.rankme(rows) == pytest.approx(defined_rankme(rows.astype(np.float64)), rel=1e-6)
    assert ranks.lidar(views) == pytest.approx(defined_lidar(views.astype(np.float64)), rel=1e-6)


def test_rankme_counts_equal_directions_and_lidar_those_between_recordings():
    identity = np.eye(16, dtype=np.float32)
    assert ranks.rankme(identity) == pytest.approx(16, rel=1e-4)
    assert ranks.rankme(np.ones((20, 16))) == pytest.approx(1, abs=1e-3)
    assert ranks.rankme(np.zeros((20, 16))) == pytest.approx(1, abs=1e-3)
    rng = np.random.default_rng(0)
    recordings = np.zeros((50, 1, 16))
    recordings[:, 0, :3] = np.linalg.qr(rng.normal(size=(50, 4)))[0][:, 1:]
    noise = rng.normal(size=(50, 8, 16))  # fills all directions, within recordings alone
    noise -= noise.mean(axis=1, keepdims=True)
    views = 100 * recordings + noise
    assert ranks.rankme(views.reshape(-1, 16)) > 6
    assert 2.5 < ranks.lidar(views) < 3.01


def test_lidar_of_recordings_that_are_all_alike_is_small():
    views = np.ones((8, 2, 16), np.float32)
    assert ranks.lidar(views) == pytest.approx(1, abs=1e-3)
