"""The training step: views -> terms -> gradients -> AdamW -> EMA -> centres, as a pure function."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
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
        opt_state: Of the optimizer.
        seed: () uint32, of every draw on the accelerator.
    """

    step: jax.Array
    params: Params
    teacher: Params
    centers: dict[str, jax.Array]
    opt_state: optax.OptState
    seed: jax.Array


@flax.struct.dataclass
class Hyperparameters:
    """Numbers of a run that its program takes as inputs; see `hyperparameters`.

    What a number decides about shapes or about which operations there are is not here but in the
    model and the config. All are () float32 but the gammas, (G,).

    Attributes:
        optimizer: AdamW's, and the learning rate's course.
        weights: Weight of each reconstruction in the total by modality, and of `alignment` and
            `distillation`.
        mmd_gammas: Widths of MMD's kernels.
        student_temperature: The students'.
        teacher_temperature: The teachers' by modality, from `start` to `end`.
        temperature_warmup_steps: How long the teachers' takes.
        center_momentum: The centres'.
        ema: The teachers' momentum at the first step, by modality; it is 1 at the last.
    """

    optimizer: optimizer.Hyperparameters
    weights: dict[str, Any]
    mmd_gammas: Any
    student_temperature: Any
    teacher_temperature: dict[str, dict[str, Any]]
    temperature_warmup_steps: Any
    center_momentum: Any
    ema: dict[str, Any]


def hyperparameters(
    config: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: float
) -> Hyperparameters:
    """The numbers of a run. Two runs that differ in these alone share a compiled program.

    Args:
        config: See configs/base.py.
        total_steps: Steps of the run, the end of its schedules.
        steps_per_epoch: What turns epochs into steps.
    """
    xkd, adamw = config.xkd, config.optimizer
    # The release averages each pair of terms and divides by its weights' sum, 7.
    scale = 1 / 14 if xkd.total == "release" else 1.0
    temperature = xkd.teacher_temperature
    numbers = Hyperparameters(
        optimizer=optimizer.Hyperparameters(
            learning_rate=adamw.learning_rate,
            final_learning_rate=0.0,
            warmup_steps=adamw.warmup_steps or adamw.warmup_epochs * steps_per_epoch,
            total_steps=total_steps,
            b1=adamw.b1,
            b2=adamw.b2,
            eps=adamw.eps,
            weight_decay=adamw.weight_decay,
            clip_norm=adamw.clip_norm or math.inf,
        ),
        weights={
            **{m: scale * xkd.lambda_ae * (m in xkd.reconstruct) for m in MODALITIES},
            "alignment": scale * xkd.lambda_da,
            "distillation": scale * xkd.lambda_kd,
        },
        mmd_gammas=xkd.mmd_gammas,
        student_temperature=xkd.student_temperature,
        teacher_temperature={
            m: {end: temperature[f"{m}_{end}"] for end in ("start", "end")} for m in MODALITIES
        },
        temperature_warmup_steps=temperature.warmup_epochs * steps_per_epoch,
        center_momentum=xkd.center_momentum,
        ema={m: xkd[f"ema_{m}"] for m in MODALITIES},
    )
    return jax.tree.map(np.float32, numbers, is_leaf=lambda x: isinstance(x, tuple))


def make_optimizer(numbers: Hyperparameters) -> optax.GradientTransformation:
    """AdamW, which clips the gradients of encoders and projectors."""
    return optimizer.adamw(numbers.optimizer, clipped=lambda names: "decoder" not in names)


def init_state(model: XKD, numbers: Hyperparameters, seed: int) -> TrainState:
    """The state before the first step: teachers equal to students, centres zero."""
    params = model.init(jax.random.key(seed))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy, since the step donates every buffer of the state once.
        teacher=jax.tree.map(jnp.copy, model.teacher_target(params)),
        centers=initial_centers(model),
        opt_state=make_optimizer(numbers).init(params),
        seed=jnp.asarray(seed, jnp.uint32),
    )


def initial_centers(model: XKD) -> dict[str, jax.Array]:
    """By modality, (J,) float32 zeros."""
    return {m: jnp.zeros(getattr(model, m).projector.out) for m in MODALITIES}


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
    numbers: Hyperparameters,
    xkd: ml_collections.ConfigDict,
) -> tuple[Metrics, Metrics]:
    """Every term of the objective, and the monitors of collapse, which nothing optimises.

    Args:
        student: By modality.
        teacher: By modality.
        centers: By the teacher's modality, (J,) float32.
        temperatures: The teachers', by modality, () float32.
        numbers: The run's.
        xkd: `config.xkd`.

    Returns:
        terms: `reconstruction/*`, `alignment/*`, `distillation/*` (by the student's modality) and
            their weighted `total`, () float32 each.
        monitors: `kl/*` of the teacher from the student that follows it and the entropies in nats;
            KL or distillation going to 0 is the paper's sign of collapse. `between_clips/*`, the
            share of each network's outputs that differs between clips, goes to 0 long before.
    """
    terms, monitors = OrderedDict(), OrderedDict()
    for m in MODALITIES:
        terms[f"reconstruction/{m}"] = losses.reconstruction_loss(
            student[m].predictions, student[m].targets, student[m].mask.dropped
        )

    def mmd(x: jax.Array, y: jax.Array) -> jax.Array:
        return losses.maximum_mean_discrepancy(x, y, numbers.mmd_gammas, xkd.mmd_root)

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
            log_probs[OTHER[m]], student[m].projections, numbers.student_temperature
        )
        monitors[f"between_clips/{m}_teacher"] = losses.share_between(teacher[m].projections)
        # Of the local view, or the last: it is whole, as the teacher's is.
        monitors[f"between_clips/{m}_student"] = losses.share_between(student[m].projections[-1])
        monitors[f"entropy/{m}_teacher"] = losses.entropy(log_probs[m])
        monitors[f"entropy/{m}_student"] = losses.entropy(
            jax.nn.log_softmax(student[m].projections / numbers.student_temperature, axis=-1)
        )
    for m in MODALITIES:
        teacher_entropy = monitors[f"entropy/{OTHER[m]}_teacher"]
        monitors[f"kl/{OTHER[m]}_to_{m}"] = terms[f"distillation/{m}"] - teacher_entropy

    def weight(name: str) -> jax.Array:
        kind, _, which = name.partition("/")
        return numbers.weights[which if kind == "reconstruction" else kind]

    terms["total"] = sum(weight(name) * term for name, term in terms.items())
    return terms, monitors


def make_train_step(
    model: XKD, config: ml_collections.ConfigDict
) -> Callable[[TrainState, dict[str, Any], Hyperparameters], tuple[TrainState, Metrics]]:
    """The step `(state, batch, numbers) -> (state, metrics)`; docs/design.md has the batch."""

    def train_step(
        state: TrainState, batch: dict[str, Any], numbers: Hyperparameters
    ) -> tuple[TrainState, Metrics]:
        temperatures = {
            m: schedules.cosine(state.step, **ends, steps=numbers.temperature_warmup_steps)
            for m, ends in numbers.teacher_temperature.items()
        }
        momenta = {
            m: schedules.cosine(state.step, start, 1.0, numbers.optimizer.total_steps)
            for m, start in numbers.ema.items()
        }

        def of_microbatch(batch: dict[str, Any]):
            """Gradients, terms, monitors and the teachers' mean outputs, by modality (1, J)."""
            views = make_views(model, config.views, batch, state.seed)
            teacher = model.teach(state.teacher, views)

            def objective(params: Params) -> tuple[jax.Array, tuple[Metrics, Metrics]]:
                student = model.study(params, views)
                terms, monitors = loss_terms(
                    student, teacher, state.centers, temperatures, numbers, config.xkd
                )
                return terms["total"], (terms, monitors)

            gradients, (terms, monitors) = jax.grad(objective, has_aux=True)(state.params)
            outputs = {m: t.projections.mean(axis=0, keepdims=True) for m, t in teacher.items()}
            return gradients, terms, monitors, outputs

        gradients, terms, monitors, outputs = mean_over_microbatches(
            of_microbatch, batch, config.parallel.accumulate
        )
        updates, opt_state = make_optimizer(numbers).update(
            gradients, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        centers = state.centers
        if config.xkd.centering:
            centers = move_centers(centers, outputs, numbers.center_momentum)
        new_state = state.replace(
            step=state.step + 1,
            params=params,
            teacher=follow(model.teacher_target(params), state.teacher, momenta),
            centers=centers,
            opt_state=opt_state,
        )

        # The loop names the first of these that is not finite, so causes come before effects.
        metrics = OrderedDict(terms)
        metrics |= part_norms("gradient_norm", gradients)
        metrics |= part_norms("update_norm", updates)
        metrics |= part_norms("parameter_norm", params)
        metrics |= monitors
        for m in MODALITIES:
            metrics[f"center_norm/{m}"] = jnp.sqrt(jnp.square(state.centers[m]).mean())
        metrics["schedule/learning_rate"] = numbers.optimizer.learning_rate_at(state.step)
        for m in MODALITIES:
            metrics[f"schedule/ema_{m}"] = momenta[m]
            metrics[f"schedule/teacher_temperature_{m}"] = temperatures[m]
        metrics["data/with_sound"] = batch["has_audio"].mean(dtype=jnp.float32)
        return new_state, metrics

    return train_step


def mean_over_microbatches(function: Callable[[Any], Any], batch: Any, count: int) -> Any:
    """The mean of what a function makes of each of `count` parts of a batch, one after another.

    Args:
        function: Of a batch, to a pytree of float arrays.
        batch: Pytree of arrays (B, ...); `count` divides B. Part i is rows i, i + count and so on,
            so that each device has a share of every part already.
        count: Of the parts; with 1, this is the function.
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
    centers: dict[str, jax.Array], outputs: dict[str, jax.Array], momentum: jax.Array
) -> dict[str, jax.Array]:
    """Each teacher's centre after it has been used (section 4.6 of docs/method.md).

    `outputs` are the teachers' (B, J), or their means over the batch (1, J), by modality.
    """
    return {m: losses.update_center(centers[m], outputs[m], momentum) for m in centers}


def part_norms(prefix: str, params: Params) -> Metrics:
    """Euclidean norms by part, such as `gradient_norm/video/encoder`."""
    return OrderedDict(
        (f"{prefix}/{owner}/{part}", optax.tree.norm(tree))
        for owner in params
        for part, tree in params[owner].items()
    )
