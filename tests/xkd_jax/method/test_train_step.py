"""The whole step: what it changes, and that devices and order make no difference."""

import fnmatch
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from configs import k400_mas
from tests.tiny import random_params, tiny_batch, tiny_config
from xkd_jax import pretrain_run, sharding
from xkd_jax.measure import hlo
from xkd_jax.method import objective, optimizer, schedules, train_step
from xkd_jax.method.gradients import mean_over_microbatches
from xkd_jax.method.hyperparameters import hyperparameters, teacher_temperatures
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.method.state import TrainState, init_state
from xkd_jax.method.views import make_views
from xkd_jax.run import loop


def make_run(config, data=1, fsdp=1):
    """Returns a state and the compiled step on a mesh of some devices."""
    mesh = jax.make_mesh(
        (data, fsdp),
        sharding.BATCH_AXES,
        axis_types=(AxisType.Auto,) * 2,
        devices=jax.devices()[: data * fsdp],
    )
    model = xkd.build(config)
    numbers = hyperparameters(config, config.steps, 10.0)
    step_fn = train_step.make_train_step(model, config)
    params = random_params(model)
    state = TrainState(
        step=np.int32(5),
        params=params,
        teacher=jax.tree.map(np.copy, model.teacher_target(params)),
        centers={m: np.zeros(64, np.float32) for m in MODALITIES},
        opt_state=jax.tree.map(
            np.asarray, jax.jit(optimizer.for_pretraining(numbers.optimizer).init)(params)
        ),
        seed=np.uint32(config.seed),
    )

    def fresh_state():
        return jax.device_put(jax.tree.map(np.copy, state), sharding.state_shardings(state, mesh))

    batch = sharding.put_batch(tiny_batch(config), mesh)
    numbers = sharding.replicate(numbers, mesh)
    compiled = loop.compile_step(step_fn, fresh_state(), batch, mesh, (numbers,))

    def run(batches):
        state, metrics = fresh_state(), []
        for batch in batches:
            state, values = compiled(state, sharding.put_batch(batch, mesh), numbers)
            metrics.append(values.to_floats(0))
        return jax.tree.map(np.asarray, state), metrics

    return run, state


@pytest.fixture(scope="module")
def config():
    return tiny_config()


@pytest.fixture(scope="module")
def one_device(config):
    return make_run(config)


def test_what_a_step_moves(config, one_device):
    run, before = one_device
    after, [metrics] = run([tiny_batch(config)])
    assert after.step == 6 and after.seed == before.seed
    momentum = metrics["schedule/ema_video"]
    model = xkd.build(config)
    for new, old, student in zip(
        jax.tree.leaves(after.teacher),
        jax.tree.leaves(before.teacher),
        jax.tree.leaves(model.teacher_target(after.params)),
        strict=True,
    ):
        np.testing.assert_allclose(
            new, momentum * old + (1 - momentum) * student, rtol=1e-5, atol=1e-6
        )
    assert all(np.abs(after.centers[m]).max() > 0 for m in MODALITIES)

    after, _ = run([tiny_batch(config)] * 2)  # the first step's learning rate is 0
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), after.params, before.params)
    assert all(jax.tree.leaves(moved))


def test_momenta_go_from_each_start_to_the_common_end():
    config = tiny_config()
    config.xkd.update({"ema_video": 0.9, "ema_audio": 0.5, "ema_end": 0.95})
    numbers = hyperparameters(config, 100, 10.0)
    for modality, start in (("video", 0.9), ("audio", 0.5)):
        momenta = [schedules.cosine(n, **numbers.ema[modality], steps=100) for n in (0, 50, 100)]
        np.testing.assert_allclose(momenta, [start, (start + 0.95) / 2, 0.95], rtol=1e-6)


def test_the_teachers_temperatures_of_mas_are_those_of_the_release():
    config = k400_mas.get_config()
    numbers = hyperparameters(config, 8000, 10.0)
    shape = config.xkd.teacher_temperature.shape
    for step, video, audio in ((9, 0.09, 0.04), (10, 0.09 + 0.02 / 29, 0.04 + 0.02 / 29),
                               (299, 0.11, 0.06)):  # fmt: skip
        found = teacher_temperatures(numbers, step, shape)
        np.testing.assert_allclose([found["video"], found["audio"]], [video, audio], rtol=1e-6)


def test_numbers_are_inputs_of_the_program():
    """A run with other rates, weights, temperatures or length reuses the compiled step."""

    def program(config, steps_per_epoch):
        model = xkd.build(config)
        numbers = hyperparameters(config, config.steps, steps_per_epoch)
        state = jax.eval_shape(lambda: init_state(model, numbers, config.seed))
        step = jax.jit(train_step.make_train_step(model, config))
        traced = step.trace(state, jax.eval_shape(lambda: tiny_batch(config)), numbers)
        return str(traced.jaxpr), jax.tree.leaves(numbers)

    config, other = tiny_config(), tiny_config()
    other.steps *= 2
    other.optimizer.warmup_steps = 0
    other.xkd.reconstruct = ("video",)
    other.xkd.total = "sum"
    other.xkd.mmd_gammas = tuple(2 * gamma for gamma in config.xkd.mmd_gammas)
    for fields in (other.optimizer, other.xkd, other.xkd.teacher_temperature):
        fields.update({name: 1.01 * x for name, x in fields.items() if isinstance(x, float)})
    (text, numbers), (other_text, other_numbers) = program(config, 10.0), program(other, 11.0)
    assert text == other_text
    differ = [bool(np.all(a != b)) for a, b in zip(numbers, other_numbers, strict=True)]
    assert differ.count(False) == 1, "only the rate at the end is 0 in all runs"


def test_metrics_come_in_the_order_of_blame(config, one_device):
    run, _ = one_device
    _, [metrics] = run([tiny_batch(config)])
    groups = list(dict.fromkeys(name.split("/")[0] for name in metrics))
    assert groups[:5] == ["reconstruction", "alignment", "distillation", "total", "gradient_norm"]
    pairs = {"reconstruction": 5.0, "alignment": 1.0, "distillation": 1.0}
    total = sum(
        weight * metrics[f"{term}/{which}"]
        for term, weight in pairs.items()
        for which in (("student", "teacher") if term == "alignment" else MODALITIES)
    )
    assert metrics["total"] == pytest.approx(total / 14, rel=1e-5)


def test_a_run_says_how_its_total_is_made(config, one_device):
    run, _ = one_device
    _, [metrics] = run([tiny_batch(config)])
    numbers = hyperparameters(config, config.steps, 10.0)
    described = pretrain_run.describe(xkd.build(config), config, numbers.weights, 24, ())
    [line] = [line for line in described.splitlines() if "total loss" in line]
    total = 0.0
    for weight, pattern in re.findall(r"([\d.e-]+) ([a-z]+/\S+)", line.partition("=")[2]):
        total += float(weight) * sum(x for n, x in metrics.items() if fnmatch.fnmatch(n, pattern))
    assert total == pytest.approx(metrics["total"], rel=2e-3)


def test_the_order_of_the_batch_makes_no_difference(config, one_device):
    """Masks and colors depend on the example, not on its row in the batch."""
    run, _ = one_device
    batch = tiny_batch(config)
    _, [metrics] = run([batch])
    _, [reversed_metrics] = run([{name: x[::-1].copy() for name, x in batch.items()}])
    np.testing.assert_allclose(
        list(metrics.values()), list(reversed_metrics.values()), rtol=1e-3, atol=1e-5
    )


def test_epochs_mask_anew(config, one_device):
    run, _ = one_device
    batch = tiny_batch(config)
    _, [metrics] = run([batch])
    _, [later] = run([{**batch, "epoch": batch["epoch"] + 1}])
    assert metrics["reconstruction/audio"] != later["reconstruction/audio"]


@pytest.mark.parametrize(("modality", "flag"), [("video", "has_video"), ("audio", "has_audio")])
def test_a_missing_modality_teaches_nothing(config, one_device, modality, flag):
    """Whatever stands in its place changes no loss, no gradient, no center and no monitor."""
    run, _ = one_device
    batch = tiny_batch(config)
    batch[flag][[0, 2]] = False
    other = {name: np.copy(x) for name, x in batch.items()}
    for name in (f"{modality}_global", f"{modality}_local"):
        other[name][[0, 2]] = other[name][[1, 1]]
    (state, [metrics]), (same_state, [same]) = run([batch]), run([other])
    assert metrics == same
    jax.tree.map(np.testing.assert_array_equal, state, same_state)
    del other[flag]
    _, [taught] = run([other | {flag: np.ones_like(batch[flag])}])
    for name in (f"reconstruction/{modality}", "alignment/student", "distillation/video"):
        assert taught[name] != metrics[name]


def test_without_any_pair_only_reconstruction_teaches(config, one_device):
    run, before = one_device
    silent = tiny_batch(config) | {"has_audio": np.zeros(config.batch_size, bool)}
    after, [metrics] = run([silent])
    assert metrics["reconstruction/video"] > 0
    assert metrics["reconstruction/audio"] == 0
    for name, value in metrics.items():
        if name.startswith(("alignment", "distillation", "kl", "entropy/video_teacher")):
            np.testing.assert_allclose(value, 0.0, atol=1e-5, err_msg=name)
        if name.startswith("gradient_norm/audio"):
            assert value == 0, name
    jax.tree.map(np.testing.assert_array_equal, after.centers, before.centers)


def test_a_mixture_of_what_sets_lack_trains(config, one_device, tmp_path):
    """Half the examples have both, a quarter no sound, a quarter no picture."""
    # Imported here because these import TensorFlow.
    from input_pipeline.datasets import open_dataset
    from input_pipeline.example_order import MixedOrder
    from input_pipeline.loader import Loader
    from tests.input_pipeline.prepared_files import clock_record, write_prepared

    folders = [tmp_path / name for name in ("both", "silent", "sounds")]
    forms = {}, {"sound": 0}, {"picture": False, "sound": 2.0}
    for folder, form in zip(folders, forms, strict=True):
        write_prepared(folder, {"train": [clock_record(f"{n}", 2.0, **form) for n in range(3)]})
    config = config.copy_and_resolve_references()
    config.data.update({"dataset": "prepared", "sources": tuple(map(str, folders))})
    source = open_dataset(config.data, config.views, picture=False)
    order = MixedOrder([*source.sets.values()], (2, 1, 1))
    batches = list(Loader(source, config.views, 8, config.seed, order=order).batches(0, 3))
    run, _ = one_device
    state, metrics = run(batches)
    for values in metrics:
        assert all(np.isfinite(value) for value in values.values())
        assert values["data/with_picture"] == values["data/with_sound"] == 0.75
        assert all(values[f"gradient_norm/{m}/encoder"] > 0 for m in MODALITIES)
    noise = tiny_batch(config, seed=9)
    other = []
    for batch in batches:
        absent = {"video": ~batch["has_video"], "audio": ~batch["has_audio"]}
        filled = {
            name: np.where(absent[m].reshape(-1, *[1] * (batch[name].ndim - 1)), noise[name], x)
            for name, x in batch.items()
            if (m := name.split("_")[0]) in absent
        }
        other.append(batch | filled)
    same_state, same = run(other)
    assert same == metrics
    jax.tree.map(np.testing.assert_array_equal, state, same_state)


@pytest.mark.slow  # trains
def test_learns_to_reconstruct_a_pattern(config, one_device):
    run, _ = one_device
    batch = tiny_batch(config)
    rows = np.arange(config.views.video.global_size)
    batch["video_global"][:] = (64 + 4 * rows)[:, None, None].astype(np.uint8)
    time = np.arange(config.views.audio.global_frames)
    batch["audio_global"][:] = np.sin(2 * np.pi * time / 16)
    _, metrics = run([batch] * 80)
    for m in MODALITIES:
        name = f"reconstruction/{m}"
        assert metrics[-1][name] < 0.5 * metrics[0][name]


@pytest.mark.slow
def test_eight_devices_agree_with_one(config, one_device):
    """MMD and centers use the global batch, however it and the weights are sharded."""
    run, _ = one_device
    run_on_eight, _ = make_run(config, data=2, fsdp=4)
    batches = [tiny_batch(config, seed=seed) for seed in range(3)]
    state, metrics = run(batches)
    state_of_eight, metrics_of_eight = run_on_eight(batches)
    for one, eight in zip(metrics, metrics_of_eight, strict=True):
        np.testing.assert_allclose(list(one.values()), list(eight.values()), rtol=2e-3, atol=1e-4)
    for m in MODALITIES:
        np.testing.assert_allclose(
            state.centers[m], state_of_eight.centers[m], rtol=1e-3, atol=1e-4
        )


@pytest.mark.slow
def test_a_batch_in_parts_is_the_batch():
    """Gradients, centers and metrics are the whole batch's, except MMD, which is each part's."""
    config = tiny_config()
    config.xkd.lambda_da = 0.0
    batches = [tiny_batch(config, seed=seed) for seed in range(2)]
    state, metrics = make_run(config)[0](batches)
    config.parallel.accumulate = 2
    run, before = make_run(config, data=2, fsdp=2)
    state_of_parts, metrics_of_parts = run(batches)
    assert state_of_parts.step == before.step + 2, "one update a batch"
    for whole, parts in zip(metrics, metrics_of_parts, strict=True):
        assert list(parts) == list(whole)
        for name, value in whole.items():
            # Metrics that compare clips see only those of their part.
            if not name.startswith(("alignment", "between_clips")):
                np.testing.assert_allclose(parts[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert metrics_of_parts[0]["alignment/student"] != metrics[0]["alignment/student"]
    moments = (optax.tree.get(s.opt_state, "mu") for s in (state_of_parts, state))
    for parts, whole in zip(*map(jax.tree.leaves, moments), strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-5 * np.abs(whole).max())
    for m in MODALITIES:
        np.testing.assert_allclose(state_of_parts.centers[m], state.centers[m], rtol=1e-4)
    again, _ = run(batches)
    jax.tree.map(np.testing.assert_array_equal, again, state_of_parts)


def test_parts_of_a_batch_stay_on_their_devices():
    mesh = sharding.make_mesh()
    batch = sharding.put_batch({"x": np.arange(48, dtype=np.float32).reshape(24, 2)}, mesh)
    seen = []

    def largest(part):
        seen.append(part["x"].shape)
        return {"largest": part["x"].max(axis=0)}

    compiled = jax.jit(lambda batch: mean_over_microbatches(largest, batch, 3))
    compiled = compiled.lower(batch).compile()
    assert set(seen) == {(8, 2)}
    # The parts are rows 0, 3, ... 21; 1, ... 22; and 2, ... 23.
    np.testing.assert_array_equal(compiled(batch)["largest"], [44, 45])
    assert {one.kind for one in hlo.collectives(compiled.as_text())} == {"all-reduce"}


@pytest.mark.slow
def test_bfloat16_leaves_losses_in_float32_and_near(config):
    """Only matrix products are in bfloat16; results are float32 and close."""
    views = jax.jit(
        lambda batch: make_views(xkd.build(config), config.views, batch, jnp.uint32(0))
    )(tiny_batch(config))
    present = {m: v.present for m, v in views.items()}
    temperatures = {"video": 0.1, "audio": 0.07}
    centers = {m: jnp.zeros(64) for m in MODALITIES}
    numbers = hyperparameters(config, config.steps, 10.0)
    losses = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model = xkd.build(config, dtype)
        params = random_params(model)

        @jax.jit
        def terms(params, model=model):
            student = model.study(params, views)
            teacher = model.teach(model.teacher_target(params), views)
            return objective.loss_terms(
                student, teacher, present, centers, temperatures, numbers, config.xkd
            )[0]

        losses[dtype] = terms(params)
    for name, exact in losses[jnp.float32].items():
        rounded = losses[jnp.bfloat16][name]
        assert rounded.dtype == jnp.float32
        np.testing.assert_allclose(rounded, exact, rtol=0.1)
