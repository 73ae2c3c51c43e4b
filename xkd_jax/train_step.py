"""The training step: views -> terms -> gradients -> AdamW -> EMA -> centres, as a pure function."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import optax

from xkd_jax import augment, losses, optimizer, schedules
from xkd_jax.models.xkd import MODALITIES, XKD, Params, StudentOutput, TeacherOutput, Views
from xkd_jax.randomness import Purpose, example_keys

Metrics = OrderedDict[str, jax.Array]
OTHER = {"video": "audio", "audio": "video"}


@flax.struct.dataclass
class TrainState:
    """All that a run carries from step to step; one pytree of arrays.

    Attributes:
      step: () int32, steps done.
      params: students' parameters, float32 (see models/xkd.py).
      teacher: teachers' parameters, float32.
      centers: {"video", "audio"}: (J,) float32, the centre of each teacher's outputs.
      opt_state: of the optimizer.
      seed: () uint32, of every draw on the accelerator.
    """

    step: jax.Array
    params: Params
    teacher: Params
    centers: dict[str, jax.Array]
    opt_state: optax.OptState
    seed: jax.Array


def init_state(model: XKD, tx: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step: teachers equal to students, centres zero."""
    params = model.init(jax.random.key(seed))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy, since the step donates every buffer of the state once.
        teacher=jax.tree.map(jnp.copy, model.teacher_target(params)),
        centers=initial_centers(model),
        opt_state=tx.init(params),
        seed=jnp.asarray(seed, jnp.uint32),
    )


def initial_centers(model: XKD) -> dict[str, jax.Array]:
    """By modality, (J,) float32 zeros."""
    return {m: jnp.zeros(getattr(model, m).projector.out) for m in MODALITIES}


def make_optimizer(
    config: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: float
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """AdamW as the config says, and its learning-rate schedule of the step."""
    fields = config.optimizer

    def learning_rate(step: jax.Array) -> jax.Array:
        warmup_steps = fields.warmup_steps or fields.warmup_epochs * steps_per_epoch
        return schedules.warmup_cosine(step, fields.learning_rate, warmup_steps, total_steps)

    tx = optimizer.adamw(
        learning_rate,
        b1=fields.b1,
        b2=fields.b2,
        eps=fields.eps,
        weight_decay=fields.weight_decay,
        clip_norm=fields.clip_norm,
        clipped=lambda names: "decoder" not in names,
    )
    return tx, learning_rate


def make_views(
    model: XKD, views: ml_collections.ConfigDict, batch: dict[str, jax.Array], seed: jax.Array
) -> dict[str, Views]:
    """What the networks see of a batch: colours, blur and flips done, mask noise drawn."""

    def keys(purpose: Purpose) -> jax.Array:
        return example_keys(seed, batch["epoch"], batch["example_id"], purpose)

    def noise(purpose: Purpose, count: int) -> jax.Array:
        return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys(purpose))

    return {
        "video": Views(
            full=augment.augment_global(
                keys(Purpose.VIDEO_GLOBAL), batch["video_global"], views.video
            ),
            local=augment.augment_local(
                keys(Purpose.VIDEO_LOCAL), batch["video_local"], views.video
            ),
            noise=noise(Purpose.VIDEO_MASK, model.video.token_count),
        ),
        "audio": Views(
            full=batch["audio_global"],
            local=batch["audio_local"],
            noise=noise(Purpose.AUDIO_MASK, model.audio.token_count),
        ),
    }


def loss_terms(
    student: dict[str, StudentOutput],
    teacher: dict[str, TeacherOutput],
    centers: dict[str, jax.Array],
    temperatures: dict[str, jax.Array],
    xkd: ml_collections.ConfigDict,
) -> tuple[Metrics, Metrics]:
    """Every term of the objective, and the monitors of collapse, which nothing optimises.

    Args:
      student: by modality.
      teacher: by modality.
      centers: by the teacher's modality, (J,) float32.
      temperatures: the teachers', by modality, () float32.
      xkd: `config.xkd`.

    Returns:
      terms: `reconstruction/*`, `alignment/*`, `distillation/*` (by the student's modality) and
        their weighted `total`, () float32 each.
      monitors: `kl/*` of the teacher from the student that follows it and the entropies in nats;
        KL or distillation going to 0 is the sign of collapse.
    """
    terms, monitors = OrderedDict(), OrderedDict()
    for m in MODALITIES:
        terms[f"reconstruction/{m}"] = losses.reconstruction_loss(
            student[m].predictions, student[m].targets, student[m].mask.dropped
        )

    def mmd(x: jax.Array, y: jax.Array) -> jax.Array:
        return losses.maximum_mean_discrepancy(x, y, xkd.mmd_gammas, xkd.mmd_root)

    # All views of the global batch together make one sample of each student's outputs.
    outputs = {m: s.projections.reshape(-1, s.projections.shape[-1]) for m, s in student.items()}
    if xkd.alignment in ("da", "da2"):
        terms["alignment/student"] = mmd(outputs["audio"], outputs["video"])
        # No gradient reaches a teacher: a monitor, which the paper counts in its total.
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
            log_probs[OTHER[m]], student[m].projections, xkd.student_temperature
        )
        monitors[f"entropy/{m}_teacher"] = losses.entropy(log_probs[m])
        monitors[f"entropy/{m}_student"] = losses.entropy(
            jax.nn.log_softmax(student[m].projections / xkd.student_temperature, axis=-1)
        )
    for m in MODALITIES:
        teacher_entropy = monitors[f"entropy/{OTHER[m]}_teacher"]
        monitors[f"kl/{OTHER[m]}_to_{m}"] = terms[f"distillation/{m}"] - teacher_entropy

    weights = {
        "reconstruction": xkd.lambda_ae,
        "alignment": xkd.lambda_da,
        "distillation": xkd.lambda_kd,
    }
    left_out = {f"reconstruction/{m}" for m in MODALITIES if m not in xkd.reconstruct}
    total = sum(
        weights[name.split("/")[0]] * term for name, term in terms.items() if name not in left_out
    )
    # The release averages each pair of terms and divides by its weights' sum, 7.
    terms["total"] = total / 14.0 if xkd.total == "release" else total
    return terms, monitors


def make_train_step(
    model: XKD,
    config: ml_collections.ConfigDict,
    tx: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    total_steps: int,
    steps_per_epoch: float,
) -> Callable[[TrainState, dict[str, Any]], tuple[TrainState, Metrics]]:
    """The step `(state, batch) -> (state, metrics)` of a run; the batch is README's contract."""
    xkd = config.xkd

    def teacher_temperature(step: jax.Array, m: str) -> jax.Array:
        fields = xkd.teacher_temperature
        warmup_steps = fields.warmup_epochs * steps_per_epoch
        return schedules.cosine(step, fields[f"{m}_start"], fields[f"{m}_end"], warmup_steps)

    def train_step(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, Metrics]:
        temperatures = {m: teacher_temperature(state.step, m) for m in MODALITIES}
        momenta = {
            m: schedules.cosine(state.step, xkd[f"ema_{m}"], 1.0, total_steps) for m in MODALITIES
        }

        def of_microbatch(batch: dict[str, Any]):
            """Gradients, terms, monitors and the teachers' mean outputs, by modality (1, J)."""
            views = make_views(model, config.views, batch, state.seed)
            teacher = model.teach(state.teacher, views)

            def objective(params: Params) -> tuple[jax.Array, tuple[Metrics, Metrics]]:
                student = model.study(params, views)
                terms, monitors = loss_terms(student, teacher, state.centers, temperatures, xkd)
                return terms["total"], (terms, monitors)

            gradients, (terms, monitors) = jax.grad(objective, has_aux=True)(state.params)
            outputs = {m: t.projections.mean(axis=0, keepdims=True) for m, t in teacher.items()}
            return gradients, terms, monitors, outputs

        gradients, terms, monitors, outputs = mean_over_microbatches(
            of_microbatch, batch, config.parallel.accumulate
        )
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new_state = state.replace(
            step=state.step + 1,
            params=params,
            teacher=follow(model.teacher_target(params), state.teacher, momenta),
            centers=move_centers(state.centers, outputs, xkd) if xkd.centering else state.centers,
            opt_state=opt_state,
        )

        # The loop names the first of these that is not finite, so causes come before effects.
        metrics = OrderedDict(terms)
        metrics |= part_norms("gradient_norm", gradients)
        metrics |= part_norms("update_norm", updates)
        metrics |= part_norms("parameter_norm", params)
        metrics |= monitors
        metrics["schedule/learning_rate"] = learning_rate(state.step)
        for m in MODALITIES:
            metrics[f"schedule/ema_{m}"] = momenta[m]
            metrics[f"schedule/teacher_temperature_{m}"] = temperatures[m]
        metrics["data/with_sound"] = batch["has_audio"].mean(dtype=jnp.float32)
        return new_state, metrics

    return train_step


def mean_over_microbatches(function: Callable[[Any], Any], batch: Any, count: int) -> Any:
    """The mean of what a function makes of each of `count` parts of a batch, one after another.

    Args:
      function: of a batch, to a pytree of float arrays.
      batch: pytree of arrays (B, ...); `count` divides B. Part i is rows i, i + count and so on, so
        that each device has a share of every part already.
      count: of the parts; with 1, this is the function.
    """
    if count == 1:
        return function(batch)
    parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
    of_first = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), of_first)

    def add(sums: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(part)), None

    sums, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / count, sums)


def follow(target: Params, teacher: Params, momenta: dict[str, jax.Array]) -> Params:
    """`m teacher + (1 - m) student` for every parameter, each modality with its momentum.

    Blocks that both teachers share are moved once, with the video's momentum (the config check
    asks for equal ones there).
    """

    def move(tree: Params, old: Params, momentum: jax.Array) -> Params:
        return jax.tree.map(lambda new, x: momentum * x + (1.0 - momentum) * new, tree, old)

    momenta = {**momenta, "shared": momenta["video"]}
    return {part: move(target[part], teacher[part], momenta[part]) for part in teacher}


def move_centers(
    centers: dict[str, jax.Array], outputs: dict[str, jax.Array], xkd: ml_collections.ConfigDict
) -> dict[str, jax.Array]:
    """Each teacher's centre after it has been used (section 4.6 of docs/method.md).

    `outputs` are the teachers' (B, J), or their means over the batch (1, J), by modality.
    """
    return {m: losses.update_center(centers[m], outputs[m], xkd.center_momentum) for m in centers}


def part_norms(prefix: str, params: Params) -> Metrics:
    """Euclidean norms by part, such as `gradient_norm/video/encoder`."""
    return OrderedDict(
        (f"{prefix}/{owner}/{part}", optax.tree.norm(tree))
        for owner in params
        for part, tree in params[owner].items()
    )
