"""Schedules of the learning rate, the EMA momentum and the teacher temperature.

All arguments may be traced, so one compiled program serves schedules of any length and height;
those of optax need lengths that are Python numbers.
"""

import jax
import jax.numpy as jnp

Scalar = jax.typing.ArrayLike


def cosine(step: Scalar, start: Scalar, end: Scalar, steps: Scalar) -> jax.Array:
    """Computes a schedule that follows half a cosine from `start` to `end` and then stays there.

    Args:
        step: () int, the step.
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Length of the schedule in steps; 0 gives `end` at every step.

    Returns:
        () float32, the value at the step.
    """
    share = jnp.where(steps > 0, jnp.minimum(step / jnp.where(steps > 0, steps, 1.0), 1.0), 1.0)
    return jnp.asarray(end + 0.5 * (start - end) * (1.0 + jnp.cos(jnp.pi * share)), jnp.float32)


def epochwise_linear(
    step: Scalar, start: Scalar, end: Scalar, steps: Scalar, steps_per_epoch: Scalar
) -> jax.Array:
    """Computes a schedule that goes from `start` to `end` in equal parts, with one value an epoch.

    Of E epochs, the first has `start` and the last has `end`.

    Args:
        step: () int, the step.
        start: Value in the first epoch.
        end: Value in epoch E and from then on.
        steps: Length of the schedule in steps; 0 gives `end` at every step.
        steps_per_epoch: Steps per epoch, so that E is `steps / steps_per_epoch`.

    Returns:
        () float32, the value at the step.
    """
    epochs = steps / steps_per_epoch
    epoch = jnp.floor(step / steps_per_epoch)
    share = jnp.where(epoch < epochs, epoch / jnp.maximum(epochs - 1.0, 1.0), 1.0)
    return jnp.asarray(start + (end - start) * jnp.minimum(share, 1.0), jnp.float32)


def warmup_cosine(
    step: Scalar, peak: Scalar, warmup_steps: Scalar, steps: Scalar, final: Scalar = 0.0
) -> jax.Array:
    """Computes a schedule that rises linearly from 0 and then follows half a cosine.

    Args:
        step: () int, the step.
        peak: Value at the end of the warm-up.
        warmup_steps: Length of the warm-up in steps; 0 starts at the peak.
        steps: Length of the schedule in steps, including the warm-up.
        final: Value from step `steps` on; equal to `peak`, it makes the schedule constant.

    Returns:
        () float32, the value at the step.
    """
    decay = cosine(jnp.maximum(step - warmup_steps, 0), peak, final, steps - warmup_steps)
    ramp = peak * step / jnp.maximum(warmup_steps, 1.0)
    return jnp.where(step < warmup_steps, ramp, decay)


def total_steps(steps: int, epochs: float, steps_per_epoch: float) -> int:
    """Returns the length of a run in steps: `steps`, or if it is 0, `epochs`; at least one step."""
    return steps or max(1, round(epochs * steps_per_epoch))
