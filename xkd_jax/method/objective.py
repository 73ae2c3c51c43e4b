"""The objective: its terms and their weighted total, and monitors of collapse beside them."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import ml_collections

from xkd_jax.method import losses
from xkd_jax.method.hyperparameters import Hyperparameters
from xkd_jax.method.models.xkd import MODALITIES, OTHER, StudentOutput, WholeOutput

Metrics = OrderedDict[str, jax.Array]


def loss_terms(
    student: dict[str, StudentOutput],
    teacher: dict[str, WholeOutput],
    present: dict[str, jax.Array],
    centers: dict[str, jax.Array],
    temperatures: dict[str, jax.Array],
    numbers: Hyperparameters,
    xkd: ml_collections.ConfigDict,
) -> tuple[Metrics, Metrics]:
    """Computes every term of the objective, and monitors of collapse that are not optimized.

    An example counts only where it has the modalities that a number is about: both of them for
    alignment, distillation and whatever is measured on the teachers, whose outputs are refined by
    the other modality.

    Args:
        student: Outputs of each student, by modality.
        teacher: Outputs of each teacher, by modality.
        present: (B,) float32 by modality, 1 if the example has it, otherwise 0.
        centers: Center of each teacher's outputs, (J,) float32, by modality.
        temperatures: Temperature of each teacher, () float32, by modality.
        numbers: Hyperparameters of the run.
        xkd: `config.xkd`.

    Returns:
        terms: `reconstruction/*`, `alignment/*`, `distillation/*` (named by the student's modality)
            and their weighted `total`, () float32 each.
        monitors: () float32 each. `kl/*` is the KL divergence of a teacher from the student that it
            teaches, and `entropy/*` the entropy of each network's outputs, both in nats. A KL or a
            distillation loss that goes to 0 is the paper's sign of collapse. `between_clips/*`, the
            share of each network's outputs that differs between clips, goes to 0 much earlier.
    """
    terms, monitors = OrderedDict(), OrderedDict()
    paired = present["video"] * present["audio"]
    for m in MODALITIES:
        terms[f"reconstruction/{m}"] = losses.reconstruction_loss(
            student[m].predictions, student[m].targets, student[m].mask.dropped, present[m]
        )

    def mmd(x: jax.Array, y: jax.Array) -> jax.Array:
        weights = [jnp.tile(paired, len(z) // len(paired)) for z in (x, y)]
        return losses.maximum_mean_discrepancy(x, y, *weights, numbers.mmd_gammas, xkd.mmd_root)

    # All views of the global batch together are the sample of a student's outputs in the MMD.
    outputs = {m: s.projections.reshape(-1, s.projections.shape[-1]) for m, s in student.items()}
    if xkd.alignment in ("da", "da2"):
        terms["alignment/student"] = mmd(outputs["audio"], outputs["video"])
        # No gradient reaches the teachers. It is a monitor that the paper includes in the total.
        terms["alignment/teacher"] = mmd(teacher["audio"].projections, teacher["video"].projections)
    if xkd.alignment in ("da1", "da2"):
        for m in MODALITIES:
            terms[f"alignment/{m}_student"] = mmd(teacher[OTHER[m]].projections, outputs[m])

    log_probs = {
        m: losses.teacher_log_probabilities(teacher[m].projections, centers[m], temperatures[m])
        for m in MODALITIES
    }
    for m in MODALITIES:
        terms[f"distillation/{m}"] = losses.distillation_loss(
            log_probs[OTHER[m]], student[m].projections, numbers.student_temperature, paired
        )
        monitors[f"between_clips/{m}_teacher"] = losses.share_between(
            teacher[m].projections, paired
        )
        # The last local view: like the teacher's view, it is not masked.
        monitors[f"between_clips/{m}_student"] = losses.share_between(
            student[m].projections[-1], present[m]
        )
        monitors[f"entropy/{m}_teacher"] = losses.entropy(log_probs[m], paired)
        monitors[f"entropy/{m}_student"] = losses.entropy(
            jax.nn.log_softmax(student[m].projections / numbers.student_temperature, axis=-1),
            present[m],
        )
    for m in MODALITIES:
        teacher_entropy = monitors[f"entropy/{OTHER[m]}_teacher"]
        monitors[f"kl/{OTHER[m]}_to_{m}"] = terms[f"distillation/{m}"] - teacher_entropy

    def weight(name: str) -> jax.Array:
        kind, _, modality = name.partition("/")
        return numbers.weights[modality if kind == "reconstruction" else kind]

    terms["total"] = sum(weight(name) * term for name, term in terms.items())
    return terms, monitors
