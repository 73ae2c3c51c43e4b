"""What a run carries from step to step, and what it begins with."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xkd_jax.method import optimizer
from xkd_jax.method.hyperparameters import Hyperparameters
from xkd_jax.method.models.xkd import MODALITIES, XKD, Params


@flax.struct.dataclass
class TrainState:
    """Everything that a run carries from step to step, as one pytree of arrays.

    Attributes:
        step: () int32, the number of steps done.
        params: Float32 parameters of the students (see models/xkd.py).
        teacher: Float32 parameters of the teachers.
        centers: Running mean of each teacher's outputs, (J,) float32, by modality.
        opt_state: State of the optimizer.
        seed: () uint32, the seed of every random draw on the accelerator.
    """

    step: jax.Array
    params: Params
    teacher: Params
    centers: dict[str, jax.Array]
    opt_state: optax.OptState
    seed: jax.Array


def init_state(model: XKD, numbers: Hyperparameters, seed: int) -> TrainState:
    """Builds the state before the first step: teachers equal the students, centers are zero."""
    params = model.init(jax.random.key(seed))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy, because the step donates the state, and must not donate a buffer twice.
        teacher=jax.tree.map(jnp.copy, model.teacher_target(params)),
        centers=initial_centers(model),
        opt_state=optimizer.for_pretraining(numbers.optimizer).init(params),
        seed=jnp.asarray(seed, jnp.uint32),
    )


def initial_centers(model: XKD) -> dict[str, jax.Array]:
    """Returns a center of zeros, (J,) float32, for each modality."""
    return {m: jnp.zeros(getattr(model, m).projector.out) for m in MODALITIES}
