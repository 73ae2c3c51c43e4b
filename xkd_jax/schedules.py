"""Scalars that change with the step: learning rate, EMA momentum, teacher temperature.

All arguments may be traced, so that one compiled program serves schedules of any length and height.
"""

import jax
import jax.numpy as jnp

Scalar = jax.typing.ArrayLike


def cosine(step: Scalar, start: Scalar, end: Scalar, steps: Scalar) -> jax.Array:
    """Goes from `start` at step 0 to `end` at step `steps` and after, along half a cosine.

    Args:
        step: () int.
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Length; 0 gives `end` at once.

    Returns:
        () float32.
    """
    share = jnp.where(steps > 0, jnp.minimum(step / jnp.where(steps > 0, steps, 1.0), 1.0), 1.0)
    return jnp.asarray(end + 0.5 * (start - end) * (1.0 + jnp.cos(jnp.pi * share)), jnp.float32)


def warmup_cosine(
    step: Scalar, peak: Scalar, warmup_steps: Scalar, steps: Scalar, final: Scalar = 0.0
) -> jax.Array:
    """Goes from 0 to `peak` on a line, then to `final` at `steps` along half a cosine.

    Args:
        step: () int.
        peak: Value at the end of the warm-up.
        warmup_steps: Length of the line; 0 starts at the peak.
        steps: Total length, the warm-up included.
        final: Value at the end; `peak` keeps it constant.

    Returns:
        () float32.
    """
    decay = cosine(jnp.maximum(step - warmup_steps, 0), peak, final, steps - warmup_steps)
    ramp = peak * step / jnp.maximum(warmup_steps, 1.0)
    return jnp.where(step < warmup_steps, ramp, decay)


def total_steps(steps: int, epochs: float, steps_per_epoch: float) -> int:
    """Length of a run: `steps` where it is not 0, else `epochs` epochs, at least one step."""
    return steps or max(1, round(epochs * steps_per_epoch))
