"""Every equation compared to its definition in plain NumPy, with loops where that is clearer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from xkd_jax.method import losses

GAMMAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def attention_rows(batch, heads, tokens, seed=0):
    return softmax(random(batch, heads, tokens + 1, seed=seed), axis=-1)[..., 1:]


def test_reconstruction_counts_dropped_patches_alone():
    predictions, targets = random(2, 3, 4), random(2, 3, 4, seed=1)
    dropped = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    errors = [
        np.mean((predictions[b, n] - targets[b, n]) ** 2) for b, n in [(0, 0), (0, 2), (1, 2)]
    ]
    loss = losses.reconstruction_loss(predictions, targets, dropped, np.ones(2, np.float32))
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)
    first = losses.reconstruction_loss(predictions, targets, dropped, np.float32([1, 0]))
    np.testing.assert_allclose(first, np.mean(errors[:2]), rtol=1e-5)
    assert losses.reconstruction_loss(predictions, targets, dropped, np.zeros(2, np.float32)) == 0


@pytest.mark.parametrize("mode", ["mean", "softmax"])
def test_cross_modal_attention_is_the_mean_of_the_outer_product(mode):
    video, audio = attention_rows(2, 3, 5), attention_rows(2, 3, 7, seed=1)
    outer = np.einsum("bhn,bhm->bhnm", video, audio).mean(axis=-1)
    expected = {
        "mean": outer / video.mean(axis=-1, keepdims=True),
        "softmax": softmax(outer, axis=-1),
    }[mode]
    result = losses.cross_modal_attention(video, audio, mode)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_cross_modal_attention_averages_the_other_heads_where_counts_differ():
    video, audio = attention_rows(2, 4, 5), attention_rows(2, 3, 7, seed=1)
    averaged = np.repeat(audio.mean(axis=1, keepdims=True), 4, axis=1)
    np.testing.assert_allclose(
        losses.cross_modal_attention(video, audio),
        losses.cross_modal_attention(video, averaged),
        rtol=1e-5,
    )


@pytest.mark.parametrize("weight", ["root", "ratio"])
def test_refine(weight):
    tokens, attention = random(2, 5, 4), attention_rows(2, 3, 5)
    refined = losses.refine(tokens, attention, weight)
    for b in range(2):
        scaled = attention[b].mean(axis=0)[:, None] * tokens[b]
        if weight == "root":
            factor = np.linalg.norm(tokens[b].mean(axis=0)) / np.linalg.norm(scaled.mean(axis=0))
        else:
            factor = np.sum(tokens[b] ** 2) / np.sum(scaled**2)
        np.testing.assert_allclose(refined[b], factor * scaled, rtol=1e-4)
    if weight == "root":  # the weight preserves the mean
        np.testing.assert_allclose(
            np.linalg.norm(refined.mean(axis=1), axis=-1),
            np.linalg.norm(tokens.mean(axis=1), axis=-1),
            rtol=1e-4,
        )


def test_refine_by_hand():
    tokens, attention = jnp.array([[[1.0, 0.0], [0.0, 2.0]]]), jnp.array([[[1.0, 0.5]]])
    ratio, root = (losses.refine(tokens, attention, weight)[0] for weight in ("ratio", "root"))
    np.testing.assert_allclose(ratio, [[2.5, 0], [0, 2.5]], rtol=1e-6)  # 5 / 2
    np.testing.assert_allclose(root, np.sqrt(2.5) * np.eye(2), rtol=1e-6)  # 1.25 / 0.5
    even = jnp.full((1, 1, 2), 0.25)
    np.testing.assert_allclose(losses.refine(tokens, even, "ratio"), 4 * tokens, rtol=1e-6)
    np.testing.assert_allclose(losses.refine(tokens, even, "root"), tokens, rtol=1e-6)


def mmd(x, y, root=False):
    return losses.maximum_mean_discrepancy(x, y, jnp.ones(len(x)), jnp.ones(len(y)), GAMMAS, root)


def plain_mmd(x, y):
    def k(a, b):
        return sum(np.exp(-gamma * np.sum((a - b) ** 2)) for gamma in GAMMAS)

    def mean(u, v):
        return np.mean([[k(a, b) for b in v] for a in u])

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_mmd(scale):
    x, y = scale * random(4, 6), scale * random(5, 6, seed=1) + 0.1
    expected = plain_mmd(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(mmd(x, y), expected, rtol=1e-4)
    np.testing.assert_allclose(mmd(x, y, root=True), np.sqrt(expected), rtol=1e-4)


@pytest.mark.parametrize("root", [False, True])
def test_mmd_leaves_out_rows_of_weight_0(root):
    x, y = random(4, 6), random(5, 6, seed=1)
    weights = np.float32([1, 0, 1, 1]), np.float32([0, 1, 1, 0, 1])
    result = losses.maximum_mean_discrepancy(x, y, *weights, GAMMAS, root)
    kept = mmd(x[weights[0] > 0], y[weights[1] > 0], root)
    np.testing.assert_allclose(result, kept, rtol=1e-5)


@pytest.mark.parametrize("root", [False, True])
def test_mmd_of_nothing_is_nothing_and_moves_nothing(root):
    x, none = random(4, 6), jnp.zeros(4)
    value, gradient = jax.value_and_grad(
        lambda x: losses.maximum_mean_discrepancy(x, x + 1, none, none, GAMMAS, root)
    )(x)
    np.testing.assert_allclose(value, 0.0, atol=2e-6)
    assert not np.any(gradient)


def test_mmd_of_wide_outputs_does_not_drown_in_rounding():
    """With terms near 8192 and gamma up to 1000, a row must have distance 0 to itself."""
    x, y = random(8, 8192), random(8, 8192, seed=1)
    exact = plain_mmd(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(mmd(x, y), exact, rtol=1e-4)


@pytest.mark.parametrize("root", [False, True])
def test_mmd_gradient_is_finite_even_where_samples_are_equal(root):
    x = jnp.asarray(random(4, 16))
    gradient = jax.grad(lambda y: mmd(x, y, root))(x)
    assert np.isfinite(gradient).all()


def test_distillation_is_cross_entropy_with_the_centered_teacher():
    teacher, student, center = random(3, 5), random(2, 3, 5, seed=1), random(5, seed=2)
    log_probs = losses.teacher_log_probabilities(teacher, center, 0.07)
    probs = softmax((teacher - center) / 0.07, axis=-1)
    np.testing.assert_allclose(np.exp(log_probs), probs, rtol=1e-3, atol=1e-6)
    expected = np.mean(
        [
            [-np.sum(probs[b] * np.log(softmax(student[v, b] / 0.1))) for b in range(3)]
            for v in range(2)
        ]
    )
    loss = losses.distillation_loss(log_probs, student, 0.1, np.ones(3, np.float32))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    some = losses.distillation_loss(log_probs, student, 0.1, np.float32([0, 1, 1]))
    every = np.ones(2, np.float32)
    alone = losses.distillation_loss(log_probs[1:], student[:, 1:], 0.1, every)
    np.testing.assert_allclose(some, alone, rtol=1e-6)


def test_distillation_less_entropy_is_the_divergence():
    log_probs = losses.teacher_log_probabilities(random(3, 5), np.zeros(5), 1.0)
    student = random(1, 3, 5, seed=1)
    all_of_them = np.ones(3, np.float32)
    entropy = losses.entropy(log_probs, all_of_them)
    divergence = losses.distillation_loss(log_probs, student, 1.0, all_of_them) - entropy
    p, q = np.exp(log_probs), softmax(student[0], axis=-1)
    np.testing.assert_allclose(divergence, np.mean(np.sum(p * np.log(p / q), axis=-1)), rtol=1e-4)
    same = losses.distillation_loss(log_probs, log_probs[None], 1.0, all_of_them) - entropy
    np.testing.assert_allclose(same, 0.0, atol=1e-6)


def test_center_follows_the_batch_mean():
    center, outputs = random(5), random(3, 5, seed=1)
    expected = 0.9 * center + 0.1 * outputs[[0, 2]].mean(axis=0)
    output = losses.mean_output(outputs, np.float32([1, 0, 1]))
    np.testing.assert_allclose(losses.update_center(center, output, 0.9), expected, rtol=1e-5)


def test_share_that_differs_between_examples():
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=64), rng.normal(size=(500, 64))
    for weight in (0.0, 0.01, 1.0):
        outputs = (common + weight * own).astype(np.float32)
        expected = outputs.var(axis=0).mean() / np.square(outputs).mean()
        share = losses.share_between(outputs, np.ones(500, np.float32))
        np.testing.assert_allclose(share, expected, rtol=1e-3, atol=1e-6)
        padded = np.concatenate([outputs, 9 * outputs[:3]])
        weights = np.float32([1] * 500 + [0] * 3)
        again = losses.share_between(padded, weights)
        np.testing.assert_allclose(again, share, rtol=1e-5, atol=1e-6)
    assert losses.share_between(np.ones((3, 4), np.float32), np.zeros(3, np.float32)) == 1
