"""When outputs have collapsed, so that they no longer tell clips apart; the warning about it.

LayerNorm fixes an output's mean square: the share that all clips have in common and the share that
differs between clips add up to one. In a collapse the second goes to 0. Centering removes the
first, and a sharp teacher makes distributions of the little that is left. So the paper's monitors,
KL divergence and distillation, stay large for thousands of steps.
"""

import math
from collections.abc import Mapping

from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import console

# Share of a teacher's outputs that differs between clips, at most so in a collapse.
SHARE = 0.02
FROM_STEP = 100  # before, networks that are fresh may have any share


class Watch:
    """Says once for each teacher that its outputs have collapsed, with what to do."""

    def __init__(self):
        self._once = console.Once()

    def look(self, step: int, metrics: Mapping[str, float]) -> None:
        """Looks at a line of the log."""
        for m in MODALITIES:
            share = metrics.get(f"between_clips/{m}_teacher", 1.0)
            if step < FROM_STEP or share > SHARE:
                continue
            deviation = math.sqrt(max(share, 0.0))
            temperature = metrics[f"schedule/teacher_temperature_{m}"]
            self._once.warn(
                m,
                f"step {step}: the {m} teacher's outputs have collapsed: "
                f"{share:.2%} of them differs between clips (a deviation of {deviation:.3f} at a "
                f"temperature of {temperature:g}); begin anew with a higher "
                f"config.xkd.teacher_temperature.{m}_start and _end, a config.xkd.ema_{m} nearer "
                "to 1, a larger config.batch_size, or config.xkd.lambda_da=1",
            )
