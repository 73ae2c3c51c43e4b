"""The equations of XKD as pure functions: one equation, one function, all in float32.

Numbers are those of the paper (arXiv 2211.13929); where the authors' release differs, the
function says so, and `docs/method.md` section 6 has the whole table. `B` is the global batch, `N`
tokens, `D` width, `H` heads and `J` the projector's outputs.

Not every example has both modalities. `weights` are 1 for the examples that count and 0 for the
others, which then change no value and get no gradient. If no example counts, a mean is 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Averages over the examples that count.

    Args:
        values: (..., B) float32.
        weights: (B,) float32, 1 for an example that counts, otherwise 0.

    Returns:
        () float32.
    """
    return _over(values, jnp.broadcast_to(weights, values.shape))


def _over(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the mean of values with weights of the same shape; 0 if all weights are 0."""
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def reconstruction_loss(
    predictions: jax.Array, targets: jax.Array, dropped: jax.Array, weights: jax.Array
) -> jax.Array:
    """Computes the mean squared error of the dropped patches (Eqs. 1-2).

    Args:
        predictions: (B, N, P) float.
        targets: (B, N, P) float, each patch normalized by its own mean and standard deviation.
        dropped: (B, N) float, 1 where the student did not see the patch.
        weights: (B,) float32.

    Returns:
        () float32.
    """
    error = jnp.square(predictions.astype(jnp.float32) - targets).mean(axis=-1)
    return _over(error, dropped * weights[:, None])


def cross_modal_attention(attention: jax.Array, other: jax.Array, mode: str = "mean") -> jax.Array:
    """Weighs each token of one modality by what matters to the other modality (Eq. 4).

    `mean over N' of (A outer A')`, over `mean over N of A`; the mean of the outer product is
    `A * mean(A')`, so the outer product is never built.

    Args:
        attention: A (B, H, N), the CLS row of this modality's last attention map.
        other: A' (B, H', N'), that of the other modality. Where H' is not H, it is averaged over
          its heads.
        mode: `mean`, Eq. 4; `softmax`, a softmax over tokens instead of the division (Eq. S3).

    Returns:
        (B, H, N) float32.
    """
    level = other.mean(axis=-1, keepdims=True)
    if other.shape[1] != attention.shape[1]:
        level = level.mean(axis=1, keepdims=True)
    if mode == "softmax":
        return jax.nn.softmax(attention * level, axis=-1)
    return attention * level / attention.mean(axis=-1, keepdims=True)


def refine(tokens: jax.Array, attention: jax.Array, weight: str = "root") -> jax.Array:
    """Scales tokens by their cross-modal attention and keeps their energy (Eqs. 5-6).

    `f' = w a f` with `a` the attention averaged over heads, and `w` from the energies before and
    after weighting, per example. Eq. 6 is their ratio, of all tokens: `|f|^2 / |a f|^2`. The
    release takes the root of the ratio of those of the mean tokens, `|mean_n f|^2` and
    `|mean_n (a f)|^2`, so that the mean token keeps its norm.

    Args:
        tokens: f (B, N, D) float, without CLS.
        attention: (B, H, N) float, from `cross_modal_attention`.
        weight: `root`, the release's; `ratio`, the paper's.

    Returns:
        (B, N, D) float32.
    """
    tokens = tokens.astype(jnp.float32)
    weighted = attention.mean(axis=1)[..., None] * tokens
    if weight == "ratio":
        energy, weighted_energy = (jnp.sum(jnp.square(x), axis=(1, 2)) for x in (tokens, weighted))
        scale = energy / weighted_energy
    else:
        energy = jnp.sum(jnp.square(tokens.mean(axis=1)), axis=-1)
        weighted_energy = jnp.sum(jnp.square(weighted.mean(axis=1)), axis=-1)
        scale = jnp.sqrt(energy / weighted_energy)
    return scale[:, None, None] * weighted


def squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns squared Euclidean distances (n, m) float32 between rows of x (n, J) and y (m, J)."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    # Full precision on accelerators too: the terms are near J = 8192 and their difference matters.
    product = jnp.dot(x, y.T, precision=jax.lax.Precision.HIGHEST)
    norms = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :]
    return jnp.maximum(norms - 2.0 * product, 0.0)


def maximum_mean_discrepancy(
    x: jax.Array,
    y: jax.Array,
    x_weights: jax.Array,
    y_weights: jax.Array,
    gammas: Sequence[float],
    root: bool = False,
) -> jax.Array:
    """Estimates the squared MMD between two samples, with bias (Eqs. 7-8; Gretton et al. 2012).

    `mean k(x, x') + mean k(y, y') - 2 mean k(x, y)` with `k(x, y) = sum over gamma of
    exp(-gamma |x - y|^2)`.

    Args:
        x: (n, J) float, over the global batch.
        y: (m, J) float, over the global batch.
        x_weights: (n,) float32.
        y_weights: (m,) float32.
        gammas: Inverse widths of the kernels.
        root: Whether to return the distance itself (the paper writes the norm) and not its square.

    Returns:
        () float32.
    """

    def kernel(distances: jax.Array) -> jax.Array:
        return sum(jnp.exp(-gamma * distances) for gamma in gammas)

    def within(z: jax.Array, weights: jax.Array) -> jax.Array:
        # A row's distance to itself is exactly 0; rounding would make it some 1e-3, which the
        # narrowest kernel would take for far away.
        distances = squared_distances(z, z)
        distances = jnp.where(jnp.eye(len(z), dtype=bool), 0.0, distances)
        return _over(kernel(distances), jnp.outer(weights, weights))

    between = _over(kernel(squared_distances(x, y)), jnp.outer(x_weights, y_weights))
    squared = within(x, x_weights) + within(y, y_weights) - 2.0 * between
    if root:
        # The gradient of a root at 0 is infinite.
        return jnp.sqrt(jnp.maximum(squared, 1e-12))
    return squared


def teacher_log_probabilities(
    projections: jax.Array, center: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """Returns `log softmax((t - c) / tau_t)`, the centered and sharpened teacher (Eq. 10).

    Args:
        projections: t (B, J) float32, unnormalized.
        center: c (J,) float32.
        temperature: tau_t.

    Returns:
        (B, J) float32.
    """
    return jax.nn.log_softmax((projections - center) / temperature, axis=-1)


def distillation_loss(
    teacher_log_probs: jax.Array, student: jax.Array, temperature: float, weights: jax.Array
) -> jax.Array:
    """Computes the cross-entropy from one modality's teacher to the other's student (Eq. 11).

    Args:
        teacher_log_probs: (B, J) float32, from `teacher_log_probabilities`.
        student: s (V, B, J) float32, the projections of V student views of the same examples.
        temperature: tau_s.
        weights: (B,) float32.

    Returns:
        () float32, averaged over views and batch.
    """
    log_probs = jax.nn.log_softmax(student / temperature, axis=-1)
    return mean(-jnp.sum(jnp.exp(teacher_log_probs) * log_probs, axis=-1), weights)


def entropy(log_probs: jax.Array, weights: jax.Array) -> jax.Array:
    """Computes the mean entropy of distributions, in nats.

    Args:
        log_probs: (..., B, J) float32, their logarithms.
        weights: (B,) float32.

    Returns:
        () float32.
    """
    return mean(-jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1), weights)


def mean_output(outputs: jax.Array, weights: jax.Array) -> jax.Array:
    """Averages outputs (B, J) float32 over the examples that count, (B,) float32, to (J,)."""
    return jnp.sum(weights[:, None] * outputs, axis=0) / jnp.maximum(jnp.sum(weights), 1.0)


def share_between(outputs: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the share of the outputs' mean square that differs between examples.

    Args:
        outputs: (B, J) float32, of a batch.
        weights: (B,) float32.

    Returns:
        () float32 in [0, 1 - 1 / B]: 0 where all outputs are the same; 1 if no example counts.
    """
    common = jnp.square(mean_output(outputs, weights)).mean()
    total = mean(jnp.square(outputs).mean(axis=-1), weights)
    return 1 - common / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)


def update_center(center: jax.Array, output: jax.Array, momentum: float) -> jax.Array:
    """Moves a teacher's center (J,) towards its mean output over the global batch, (J,)."""
    return momentum * center + (1.0 - momentum) * output
