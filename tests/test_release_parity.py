"""One training step against the authors' release: outputs, losses, gradients, centers, teachers.

The step is the one that training runs; the release's views take the place of those that
`make_views` would make. Reads every vector file (tests/reference/README.md) of the
directories in $XKD_REFERENCE_VECTORS. The names below are the release's;
`xkd_jax.interop.release` knows what they are called here.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from configs import base
from tests import xla_flags
from xkd_jax.interop import release
from xkd_jax.method import optimizer, train_step
from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES, Views
from xkd_jax.method.state import TrainState

VARIANTS = {"ms": "xkd", "mas": "xkd_mas", "mats": "xkd_mats"}
DIRECTORIES = os.environ.get(
    "XKD_REFERENCE_VECTORS", str(Path(__file__).parent / "reference")
).split(os.pathsep)


def vector_files() -> list[Path]:
    files = [path for directory in DIRECTORIES for path in sorted(Path(directory).glob("*.npz"))]
    return [path for path in files if "meta" in np.load(path).files]


def config_of(meta: dict):
    """Our config for the model and the objective that a vector file describes."""
    config = base.get_config()
    config.batch_size = meta["batch"]
    config.views.video.global_frames = meta["frames"]
    config.views.video.global_size = meta["frame"]
    config.views.audio.mel_bands, config.views.audio.global_frames = meta["spec"]
    config.model.variant = VARIANTS[meta["variant"]]
    for m in MODALITIES:
        fields = config.model[m]
        fields.patch = tuple(meta[f"{m}_patch"])
        fields.mask_ratio = meta[f"{m}_mask_ratio"]
        for network in ("encoder", "decoder"):
            size = meta[network].get(m, meta[network])
            fields[network] = base.transformer(
                (size["embed_dim"], size["depth"], size["num_heads"])
            )
    projector = meta["projector"]
    assert projector["act"] == "gelu" and projector["norm_last_layer"]
    config.model.projector.layers = projector["nlayers"]
    config.model.projector.hidden = projector["hidden_dim"]
    config.model.projector.bottleneck = projector["bottleneck_dim"]
    config.model.projector.out = projector["out_dim"]
    norms = {("ln", "ln"): "every", (None, "ln"): "last", (None, None): "none"}
    config.model.projector.norm = norms[projector["norm"], projector["last_norm"]]
    config.xkd.cross_attention = meta["cross_attention"]
    for key in ("ae", "da", "kd"):
        config.xkd[f"lambda_{key}"] = float(meta["coeffs"][key])
    assert len(set(meta["student_temp"].values())) == 1
    config.xkd.student_temperature = meta["student_temp"]["video"]
    config.xkd.center_momentum = meta["center_momentum"]
    # The step is the 51st of a hundred, with the release's values on the way of each schedule:
    # half of the momentum's cosine is over, and a third of the temperatures'.
    for m in MODALITIES:
        config.xkd[f"ema_{m}"] = 2 * meta["ema"] - 1
        config.xkd.teacher_temperature[f"{m}_start"] = 1.1 * meta["teacher_temp"][m]
        config.xkd.teacher_temperature[f"{m}_end"] = 0.7 * meta["teacher_temp"][m]
    config.xkd.teacher_temperature.warmup_epochs = 15.0
    # Without clipping and momentum AdamW's first moment is the gradient. The optimizer itself is
    # at its first step, whose learning rate is 0: the release's teachers follow unmoved students.
    config.optimizer.clip_norm = 0.0
    config.optimizer.b1 = 0.0
    config.optimizer.warmup_epochs = 30.0
    return config


def local_views(views: np.ndarray, rank: int) -> np.ndarray:
    """(B, n, ...) from one local view (B, ...) or several."""
    return views if views.ndim == rank + 2 else views[:, None]


class Step(NamedTuple):
    """A step of training: states and metrics, and all a vector file can hold under its names."""

    before: TrainState
    after: TrainState
    metrics: dict[str, np.ndarray]
    results: dict[str, np.ndarray]


def run_step(vectors: dict[str, np.ndarray], compiler_options: dict[str, Any]) -> Step:
    """Trains for one step from the parameters and on the views of a vector file."""
    meta = json.loads(vectors["meta"].tobytes())
    config = config_of(meta)
    model = xkd.build(config)
    params = {k.removeprefix("param/"): v for k, v in vectors.items() if k.startswith("param/")}
    trees = jax.tree.map(jnp.asarray, release.from_release(params, model))
    views = {
        "video": Views(
            full=jnp.moveaxis(vectors["in/video_global"], 1, -1),
            local=jnp.moveaxis(local_views(vectors["in/video_local"], 4), 2, -1),
            noise=jnp.asarray(vectors["in/video_mask_noise"]),
            present=jnp.ones(meta["batch"]),
        ),
        "audio": Views(
            full=jnp.asarray(vectors["in/audio_global"][:, 0]),
            local=jnp.asarray(local_views(vectors["in/audio_local"], 3)[:, :, 0]),
            noise=jnp.asarray(vectors["in/audio_mask_noise"]),
            present=jnp.ones(meta["batch"]),
        ),
    }

    numbers = hyperparameters(config, total_steps=100, steps_per_epoch=10.0)
    state = TrainState(
        step=np.int32(50),
        params=trees["params"],
        teacher=trees["teacher"],
        centers=trees["centers"],
        opt_state=optimizer.for_pretraining(numbers.optimizer).init(trees["params"]),
        seed=np.uint32(0),
    )
    batch = {name: np.ones(meta["batch"], bool) for name in ("has_video", "has_audio")}
    with mock.patch.object(train_step, "make_views", lambda *_: views):
        step = jax.jit(train_step.make_train_step(model, config)).lower(state, batch, numbers)
    after, terms = step.compile(compiler_options)(state, batch, numbers)
    gradients = optax.tree.get(after.opt_state, "mu")
    teacher = jax.jit(model.teach)(state.teacher, views)
    student = jax.jit(model.study)(state.params, views)

    results = {}
    for m in MODALITIES:
        results |= {
            f"out/{m}_teacher_tokens": teacher[m].tokens,
            f"out/{m}_cls_attention": teacher[m].attention,
            f"out/{m}_cross_attention": teacher[m].cross_attention,
            f"out/{m}_refined_tokens": teacher[m].refined,
            f"out/{m}_teacher_projection": teacher[m].projections,
            f"out/{m}_student_local_tokens": student[m].local_tokens,
            f"out/{m}_mae_latent": student[m].latent,
            f"out/{m}_mask": student[m].mask.dropped,
            f"out/{m}_reconstruction": student[m].predictions,
        }
    results |= {
        "loss/vid_recon_loss": terms["reconstruction/video"],
        "loss/aud_recon_loss": terms["reconstruction/audio"],
        "loss/as2vs_align_loss": terms["alignment/student"],
        "loss/vt2at_align_loss": terms["alignment/teacher"],
        "loss/vt2as_kd_loss": terms["distillation/audio"],
        "loss/at2vs_kd_loss": terms["distillation/video"],
        # The release reports each pair's average.
        "loss/recon_loss": (terms["reconstruction/video"] + terms["reconstruction/audio"]) / 2,
        "loss/alignment_loss": (terms["alignment/student"] + terms["alignment/teacher"]) / 2,
        "loss/cmkd_loss": (terms["distillation/video"] + terms["distillation/audio"]) / 2,
        "loss/loss": terms["total"],
        "after/vt2as_center": after.centers["video"][None],
        "after/at2vs_center": after.centers["audio"][None],
    }
    for m in MODALITIES:
        results[f"sample/{m}_teacher"] = teacher[m].projections
        results[f"sample/{m}_student"] = student[m].projections.reshape(
            -1, config.model.projector.out
        )
    released = release.to_release({"params": gradients}, model)
    for name, gradient in sum_shared_norms(released, config).items():
        results[f"grad/{name}"] = gradient
    for name, tensor in release.to_release({"teacher": after.teacher}, model).items():
        results[f"after/param/{name}"] = tensor
    for m in MODALITIES:
        name = f"{release.PREFIXES[m]}_teacher.head.last_layer.weight_g"
        results[f"after/param/{name}"] = np.ones_like(params[name])  # ours is fixed there
    results = {name: np.asarray(value) for name, value in results.items() if value is not None}
    return Step(state, after, terms, results)


def sum_shared_norms(gradients: dict[str, np.ndarray], config) -> dict[str, np.ndarray]:
    """Adds up what belongs to the one LayerNorm that the release uses in every hidden place."""
    if config.model.projector.norm != "every":
        return gradients
    places = [f".head.mlp.{3 * i + 1}." for i in range(config.model.projector.layers - 1)]
    summed = dict(gradients)
    for name in gradients:
        if place := next((p for p in places if p in name), None):
            summed[name] = sum(gradients[name.replace(place, other)] for other in places)
    return summed


# Relative to each element, plus this much of the tensor's largest, since elements near zero are
# differences of larger numbers. Measured disagreement: 1e-6 of the largest, gradients 5e-5.
TOLERANCES = {"out": (1e-4, 1e-5), "loss": (1e-4, 0), "after": (1e-4, 1e-5), "grad": (1e-3, 2e-4)}
TERMS = ("reconstruction", "alignment", "distillation", "total")
ALIGNMENT = {"loss/as2vs_align_loss": "student", "loss/vt2at_align_loss": "teacher"}


def rounding_of_self_distances(samples: tuple[np.ndarray, np.ndarray]) -> float:
    """How far below the true MMD the release's can be.

    It takes a row's squared distance to itself as |x|^2 - 2 x.x + |x|^2, which rounds to a number
    between 0 and two units in the last place, not to 0; its kernels multiply that by up to 1000.
    """
    gammas = np.array(base.get_config().xkd.mmd_gammas)
    loss = 0.0
    for x in samples:
        distances = 2 * np.finfo(np.float32).eps * np.square(x).sum(axis=1, keepdims=True)
        loss += (1 - np.exp(-gammas * distances)).sum() / len(x) ** 2
    return loss


def with_the_release_rounding(results: dict, vectors: dict) -> dict[str, np.ndarray]:
    """Our losses with the release's alignment terms put in, so that the sums can be held tight."""
    results = dict(results)
    excess = sum(vectors[name] - results[name] for name in ALIGNMENT if name in vectors)
    results["loss/alignment_loss"] = results["loss/alignment_loss"] + excess / 2
    results["loss/loss"] = results["loss/loss"] + excess / 14
    return results


def disagreements(vectors: dict[str, np.ndarray], results: dict[str, np.ndarray]) -> list[str]:
    """What a vector file holds and this package computes differently, beyond the tolerances."""
    summed = with_the_release_rounding(results, vectors)
    failures = []
    for name, expected in vectors.items():
        kind = name.split("/")[0]
        if kind not in TOLERANCES:
            continue
        if name not in results:
            failures.append(f"{name}: not computed")
            continue
        got = results[name] if name in ALIGNMENT else summed[name]
        if got.shape != expected.shape:
            failures.append(f"{name}: shape {got.shape}, not {expected.shape}")
            continue
        relative, of_largest = TOLERANCES[kind]
        bound = relative * np.abs(expected) + of_largest * np.abs(expected).max()
        high, low = got + bound, got - bound
        if name in ALIGNMENT:
            network = ALIGNMENT[name]
            samples = tuple(results[f"sample/{m}_{network}"] for m in MODALITIES)
            low = low - rounding_of_self_distances(samples)
        if not np.all((low <= expected) & (expected <= high)):
            failures.append(f"{name}: off by {np.abs(got - expected).max():.3g}")
    return failures


@pytest.fixture(scope="module", params=vector_files(), ids=lambda path: path.stem)
def vectors(request):
    vectors = dict(np.load(request.param))
    kinds = Counter(name.split("/")[0] for name in vectors)
    assert kinds["loss"] and kinds["in"] and kinds["param"], "not a vector file"
    return vectors


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({}, id="quick"),
        pytest.param(xla_flags.SHIPPED, id="shipped", marks=pytest.mark.slow),
    ],
)
def step(request, vectors):
    """The step as the tests compile programs, and as users do."""
    return run_step(vectors, request.param)


@pytest.fixture(scope="module")
def results(step):
    return step.results


def test_release(vectors, results):
    assert not disagreements(vectors, results)


def norms(prefix: str, tree) -> dict[str, float]:
    """Euclidean norms of each network of each modality."""
    return {
        f"{prefix}/{owner}/{part}": np.sqrt(
            sum(np.square(x).sum() for x in jax.tree.leaves(leaves))
        )
        for owner, parts in tree.items()
        for part, leaves in parts.items()
    }


def test_what_the_vectors_do_not_tell_of_a_step(vectors, step):
    """The step's number, its seed and its metrics."""
    before, after, metrics, results = step
    assert after.step == before.step + 1 and after.seed == before.seed
    moment = optax.tree.get(after.opt_state, "mu")
    expected = {
        **norms("gradient_norm", moment),
        **norms("parameter_norm", before.params),
        **dict.fromkeys(norms("update_norm", before.params), 0.0),
        "data/with_picture": 1.0,
        "data/with_sound": 1.0,
        "schedule/learning_rate": 1e-4 * 50 / 300,
    }
    meta = json.loads(vectors["meta"].tobytes())
    centered = {m: before.centers[m] for m in MODALITIES}
    for m in MODALITIES:
        expected[f"schedule/ema_{m}"] = meta["ema"]
        expected[f"schedule/teacher_temperature_{m}"] = meta["teacher_temp"][m]
        teacher = softmax(
            (results[f"sample/{m}_teacher"] - centered[m]) / meta["teacher_temp"][m], axis=-1
        )
        student = softmax(results[f"sample/{m}_student"] / meta["student_temp"][m], axis=-1)
        for network, outputs in (
            ("teacher", results[f"sample/{m}_teacher"]),
            ("student", results[f"sample/{m}_student"][-len(results[f"sample/{m}_teacher"]) :]),
        ):
            expected[f"between_clips/{m}_{network}"] = (
                outputs.var(axis=0).mean() / np.square(outputs).mean()
            )
        expected[f"center_norm/{m}"] = np.sqrt(np.square(centered[m]).mean())
        expected[f"entropy/{m}_teacher"] = entropy(teacher, axis=-1).mean()
        expected[f"entropy/{m}_student"] = entropy(student, axis=-1).mean()
    for teacher, student in (MODALITIES, MODALITIES[::-1]):
        expected[f"kl/{teacher}_to_{student}"] = (
            metrics[f"distillation/{student}"] - expected[f"entropy/{teacher}_teacher"]
        )
    terms = {name for name in metrics if name.partition("/")[0] in TERMS}
    assert set(metrics) == {*expected, *terms}
    for name, value in expected.items():
        atol = 0 if name.startswith("schedule/") else 1e-5
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=atol, err_msg=name)


def test_shared_norm_is_one_tensor_in_the_release(vectors):
    """What the converter relies on when it copies the first of them into each of ours."""
    for name in (n for n in vectors if n.startswith("param/") and ".head.mlp.4." in n):
        np.testing.assert_array_equal(vectors[name], vectors[name.replace("mlp.4", "mlp.1")])


def test_any_wrong_number_is_seen(vectors, results):
    """Moves one number of every entry, in turn, by a hundredth of the entry's largest."""
    rng = np.random.default_rng(0)
    missed = []
    for name, expected in vectors.items():
        if name.split("/")[0] not in TOLERANCES:
            continue
        wrong = np.array(expected)
        wrong[tuple(rng.integers(n) for n in wrong.shape)] += 0.01 * np.abs(wrong).max() or 1.0
        if not disagreements({name: wrong, "meta": vectors["meta"]}, results):
            missed.append(name)
    assert not missed


def test_there_are_vectors():
    assert vector_files(), f"no vector files in {DIRECTORIES}"
