"""Scalars that change with the step: learning rate, EMA momentum, teacher temperature."""

import jax
import jax.numpy as jnp


def cosine(step: jax.Array, start: float, end: float, steps: float) -> jax.Array:
    """From `start` at step 0 to `end` at step `steps` and after, along half a cosine.

    Args:
      step: () int.
      start: value at step 0.
      end: value from step `steps` on.
      steps: length; 0 gives `end` at once.

    Returns:
      () float32.
    """
    share = jnp.minimum(step / steps, 1.0) if steps > 0 else 1.0
    return jnp.asarray(end + 0.5 * (start - end) * (1.0 + jnp.cos(jnp.pi * share)), jnp.float32)


def warmup_cosine(
    step: jax.Array, peak: float, warmup_steps: float, steps: float, final: float = 0.0
) -> jax.Array:
    """From 0 to `peak`, linear over the warm-up, then to `final` at `steps` along half a cosine.

    Args:
      step: () int.
      peak: value at the end of the warm-up.
      warmup_steps: its length; 0 starts at the peak.
      steps: total length, the warm-up included.
      final: value at the end; `peak` keeps it constant.

    Returns:
      () float32.
    """
    decay = cosine(jnp.maximum(step - warmup_steps, 0), peak, final, steps - warmup_steps)
    if warmup_steps <= 0:
        return decay
    return jnp.where(step < warmup_steps, peak * step / warmup_steps, decay)


def total_steps(steps: int, epochs: float, steps_per_epoch: float) -> int:
    """Length of a run: `steps` where it is not 0, else `epochs` epochs, at least one step."""
    return steps or max(1, round(epochs * steps_per_epoch))
