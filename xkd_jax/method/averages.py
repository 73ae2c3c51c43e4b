"""Running averages that no gradient moves: the teachers and their centers."""

import jax
import optax

from xkd_jax.method import losses
from xkd_jax.method.models.xkd import Params


def follow(target: Params, teacher: Params, momenta: dict[str, jax.Array]) -> Params:
    """Moves the teachers towards the students: `m * teacher + (1 - m) * student`.

    Blocks that both teachers share move once, with the video's momentum. The config check requires
    equal momenta there.

    Args:
        target: Parameters of the students, in the structure of the teachers' parameters.
        teacher: Parameters of the teachers.
        momenta: Momentum m of each teacher, () float32, by modality.

    Returns:
        The new parameters of the teachers.
    """
    momenta = {**momenta, "shared": momenta["video"]}
    # The first argument's share is m, so that m is used as it is: a step of 1 - m from the teacher
    # to the student is the same but for the last bits.
    return {
        part: optax.incremental_update(teacher[part], target[part], momenta[part])
        for part in teacher
    }


def move_centers(
    centers: dict[str, jax.Array], outputs: dict[str, jax.Array], momentum: jax.Array
) -> dict[str, jax.Array]:
    """Moves each center towards the mean of its teacher's outputs (section 4.6 of docs/method.md).

    Args:
        centers: Centers that this step has used, (J,) float32, by modality.
        outputs: Mean outputs of the teachers, (J,) float32, by modality.
        momentum: () float32, the share of a center that stays.

    Returns:
        The centers for the next step, (J,) float32.
    """
    return {m: losses.update_center(centers[m], outputs[m], momentum) for m in centers}
