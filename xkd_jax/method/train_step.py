"""The training step: views -> terms -> gradients -> AdamW -> EMA -> centers, as a pure function."""

import functools
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from xkd_jax.method import augment, losses, optimizer, schedules
from xkd_jax.method.models.xkd import (
    MODALITIES,
    OTHER,
    XKD,
    Params,
    StudentOutput,
    Views,
    WholeOutput,
)
from xkd_jax.method.randomness import Purpose, example_keys

Metrics = OrderedDict[str, jax.Array]


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


@flax.struct.dataclass
class Hyperparameters:
    """Numbers that the compiled step takes as inputs; see `hyperparameters`.

    Settings that change shapes or operations are not here: the model and the config hold them.
    All numbers are () float32, except `mmd_gammas`, which is (G,) float32.

    Attributes:
        optimizer: Numbers of AdamW and of the learning rate schedule.
        weights: Weights in the total loss: of each modality's reconstruction ("video", "audio"), of
            "alignment" and of "distillation".
        mmd_gammas: Widths of the MMD kernels.
        student_temperature: Softmax temperature of both students.
        teacher_temperature: Softmax temperatures of each teacher, {"start", "end"} by modality.
        temperature_warmup_steps: Steps in which the teacher temperatures go from start to end.
        steps_per_epoch: Steps per epoch.
        center_momentum: Momentum of the centers.
        ema: Momentum of each teacher over the run, {"start", "end"} by modality.
    """

    optimizer: optimizer.Hyperparameters
    weights: dict[str, Any]
    mmd_gammas: Any
    student_temperature: Any
    teacher_temperature: dict[str, dict[str, Any]]
    temperature_warmup_steps: Any
    steps_per_epoch: Any
    center_momentum: Any
    ema: dict[str, dict[str, Any]]


def hyperparameters(
    config: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: float
) -> Hyperparameters:
    """Collects the numbers of a run. Runs that differ only in these share a compiled program.

    Args:
        config: Config of the run, see xkd_jax/config/pretraining.py.
        total_steps: Number of steps of the run, where its schedules end.
        steps_per_epoch: Steps per epoch, which converts the config's epochs to steps.

    Returns:
        The hyperparameters, as float32 NumPy numbers.
    """
    xkd, adamw = config.xkd, config.optimizer
    # The release averages the two terms of each kind, and divides by 7, the sum of the weights.
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
        steps_per_epoch=steps_per_epoch,
        center_momentum=xkd.center_momentum,
        ema={m: {"start": xkd[f"ema_{m}"], "end": xkd.ema_end} for m in MODALITIES},
    )
    return jax.tree.map(np.float32, numbers, is_leaf=lambda x: isinstance(x, tuple))


def teacher_temperatures(
    numbers: Hyperparameters, step: jax.typing.ArrayLike, shape: str
) -> dict[str, jax.Array]:
    """Computes the temperature of each teacher at a step.

    Args:
        numbers: Hyperparameters of the run.
        step: () int, the step.
        shape: `cosine` or `linear`, see `config.xkd.teacher_temperature.shape`.

    Returns:
        () float32 by modality.
    """
    schedule = schedules.cosine
    if shape == "linear":
        schedule = functools.partial(
            schedules.epochwise_linear, steps_per_epoch=numbers.steps_per_epoch
        )
    return {
        m: schedule(step, **ends, steps=numbers.temperature_warmup_steps)
        for m, ends in numbers.teacher_temperature.items()
    }


def make_optimizer(numbers: Hyperparameters) -> optax.GradientTransformation:
    """Builds AdamW, which clips the gradients of encoders and projectors but not of decoders."""
    return optimizer.adamw(numbers.optimizer, clipped=lambda names: "decoder" not in names)


def init_state(model: XKD, numbers: Hyperparameters, seed: int) -> TrainState:
    """Builds the state before the first step: teachers equal the students, centers are zero."""
    params = model.init(jax.random.key(seed))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy, because the step donates the state, and must not donate a buffer twice.
        teacher=jax.tree.map(jnp.copy, model.teacher_target(params)),
        centers=initial_centers(model),
        opt_state=make_optimizer(numbers).init(params),
        seed=jnp.asarray(seed, jnp.uint32),
    )


def initial_centers(model: XKD) -> dict[str, jax.Array]:
    """Returns a center of zeros, (J,) float32, for each modality."""
    return {m: jnp.zeros(getattr(model, m).projector.out) for m in MODALITIES}


def make_views(
    model: XKD, views: ml_collections.ConfigDict, batch: dict[str, jax.Array], seed: jax.Array
) -> dict[str, Views]:
    """Augments a batch's video and draws the noise that decides the masks.

    Args:
        model: The model, which says how many tokens each modality has.
        views: `config.views`.
        batch: Batch from the loader, arrays (B, ...).
        seed: () uint32, the seed of the run.

    Returns:
        The views of each modality.
    """

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
            present=batch["has_video"].astype(jnp.float32),
        ),
        "audio": Views(
            full=batch["audio_global"],
            local=batch["audio_local"],
            noise=noise(Purpose.AUDIO_MASK, model.audio.token_count),
            present=batch["has_audio"].astype(jnp.float32),
        ),
    }


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


class Derivatives(NamedTuple):
    """What a step needs to know of a batch, or of a part of it. All arrays are float32.

    Attributes:
        gradients: Gradients of the total loss, in the structure of the students' parameters.
        terms: Terms of the objective, see `loss_terms`.
        monitors: Monitors of collapse, see `loss_terms`.
        outputs: Mean projection of each teacher, (J,), by modality, over the examples that have
            both modalities; the center itself if there are none.
    """

    gradients: Params
    terms: Metrics
    monitors: Metrics
    outputs: dict[str, jax.Array]


def differentiate(
    model: XKD,
    xkd: ml_collections.ConfigDict,
    state: TrainState,
    views: dict[str, Views],
    temperatures: dict[str, jax.Array],
    numbers: Hyperparameters,
) -> Derivatives:
    """Runs teachers and students on views, and differentiates the total loss.

    Args:
        model: The model.
        xkd: `config.xkd`.
        state: State before the step.
        views: Views of each modality.
        temperatures: Temperature of each teacher, () float32, by modality.
        numbers: Hyperparameters of the run.

    Returns:
        The gradients, with the terms that they are of.
    """
    teacher = model.teach(state.teacher, views)
    present = {m: v.present for m, v in views.items()}

    def objective(params: Params) -> tuple[jax.Array, tuple[Metrics, Metrics]]:
        student = model.study(params, views)
        terms, monitors = loss_terms(
            student, teacher, present, state.centers, temperatures, numbers, xkd
        )
        return terms["total"], (terms, monitors)

    gradients, (terms, monitors) = jax.grad(objective, has_aux=True)(state.params)
    paired = present["video"] * present["audio"]
    outputs = {
        m: jnp.where(paired.any(), losses.mean_output(t.projections, paired), state.centers[m])
        for m, t in teacher.items()
    }
    return Derivatives(gradients, terms, monitors, outputs)


def make_train_step(
    model: XKD, config: ml_collections.ConfigDict
) -> Callable[[TrainState, dict[str, Any], Hyperparameters], tuple[TrainState, Metrics]]:
    """Builds the training step.

    Args:
        model: The model.
        config: Config of the run, see xkd_jax/config/pretraining.py.

    Returns:
        A pure function `(state, batch, numbers) -> (state, metrics)`. `batch` has the arrays of
        `pretrain.batch_shapes` (see docs/design.md). `metrics` are () float32 each, causes before
        effects.
    """

    def train_step(
        state: TrainState, batch: dict[str, Any], numbers: Hyperparameters
    ) -> tuple[TrainState, Metrics]:
        shape = config.xkd.teacher_temperature.shape
        temperatures = teacher_temperatures(numbers, state.step, shape)
        momenta = {
            m: schedules.cosine(state.step, **ends, steps=numbers.optimizer.total_steps)
            for m, ends in numbers.ema.items()
        }

        def of_part(batch: dict[str, Any]) -> Derivatives:
            views = make_views(model, config.views, batch, state.seed)
            return differentiate(model, config.xkd, state, views, temperatures, numbers)

        gradients, terms, monitors, outputs = mean_over_microbatches(
            of_part, batch, config.parallel.accumulate
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

        # The loop reports the first metric that is not finite, so causes come before effects.
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
        metrics["data/with_picture"] = batch["has_video"].mean(dtype=jnp.float32)
        metrics["data/with_sound"] = batch["has_audio"].mean(dtype=jnp.float32)
        return new_state, metrics

    return train_step


def mean_over_microbatches(function: Callable[[Any], Any], batch: Any, count: int) -> Any:
    """Splits a batch, applies a function to one part after another, and averages the results.

    Args:
        function: Maps a batch to a pytree of float arrays.
        batch: Pytree of arrays (B, ...); `count` divides B. Part i has the rows i, i + count and so
            on, so every device already holds its share of every part.
        count: Number of parts; 1 applies the function to the whole batch.

    Returns:
        The mean of the function's results over the parts, float32 if there are several.
    """
    if count == 1:
        return function(batch)
    parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
    first_result = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), first_result)

    def add(sums: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(part)), None

    sums, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / count, sums)


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

    def move(tree: Params, old: Params, momentum: jax.Array) -> Params:
        return jax.tree.map(lambda new, x: momentum * x + (1.0 - momentum) * new, tree, old)

    momenta = {**momenta, "shared": momenta["video"]}
    return {part: move(target[part], teacher[part], momenta[part]) for part in teacher}


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


def part_norms(prefix: str, params: Params) -> Metrics:
    """Computes the Euclidean norm of each part, named such as `gradient_norm/video/encoder`."""
    return OrderedDict(
        (f"{prefix}/{owner}/{part}", optax.tree.norm(tree))
        for owner in params
        for part, tree in params[owner].items()
    )
