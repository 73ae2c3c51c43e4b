"""The check before a run: what it reports and refuses, and that it compiles the run's program."""

import importlib.util
import re

import jax
import pytest

from tests import xla_flags
from tests.integration import runs
from tests.tiny import tiny_config
from xkd_jax.measure import compile_check, compile_targets, hardware, hlo

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


@pytest.fixture(scope="module")
def program():
    return compile_check.compile_program(tiny_config(), "local", jax.devices())


def test_memory_is_of_the_state_and_of_a_share_of_the_batch(program):
    weights = 4 * sum(x.size for x in jax.tree.leaves(state_shapes()))
    memory = program.memory
    assert weights < memory["arguments"] < 1.1 * weights
    assert memory["aliased"] > 0.9 * weights, "the step does not overwrite its state"
    assert memory["temporaries"] > 0
    assert memory["peak"] == (
        memory["arguments"]
        + memory["outputs"]
        - memory["aliased"]
        + memory["temporaries"]
        + memory["code"]
    )


def state_shapes():
    from xkd_jax.method.hyperparameters import hyperparameters
    from xkd_jax.method.models import xkd
    from xkd_jax.method.state import init_state

    config = tiny_config()
    model = xkd.build(config)
    numbers = hyperparameters(config, 100, 10.0)
    return jax.eval_shape(lambda: init_state(model, numbers, 0))


def test_gradients_are_what_devices_tell_each_other(program):
    found = program.collectives
    assert {one.kind for one in found} <= {"all-reduce", "all-gather"}
    moved = sum(one.size * one.times for one in found if one.kind == "all-reduce")
    gradients = 4 * sum(x.size for x in jax.tree.leaves(state_shapes().params))
    # Encoders take local and global views one after the other, each with its own attention.
    assert gradients < moved < 2.2 * gradients


@pytest.mark.slow
def test_more_devices_do_not_make_more_communication(program):
    few = compile_check.compile_program(tiny_config(), "local", jax.devices()[:4])
    assert (few.devices, program.devices) == (4, 8)
    count, moved = (sum(x) for x in zip(*hlo.by_kind(few.collectives).values(), strict=True))
    counted, of_eight = (
        sum(x) for x in zip(*hlo.by_kind(program.collectives).values(), strict=True)
    )
    assert counted <= 1.1 * count and of_eight <= 1.01 * moved


def test_the_description_says_it_all(program):
    text = compile_check.describe(program)
    assert text.startswith("local: 8 x cpu, 8 clips a step, 1 on each; ")
    for kind in ("arguments", "outputs", "aliased", "temporaries", "code", "peak", "all-reduce"):
        assert f"\n  {kind} " in text
    assert "  fits " in text and "GFLOP a clip (teachers " in text
    assert re.search(r"\nbytes moved: [\d.e-]+ GB a clip, [\d.e-]+ GB a device and step\n", text)
    assert "time of a step" not in text, "nobody knows how fast this machine is"


def test_arithmetic_and_memory_bound_a_step_where_the_rates_are_known(program):
    chip = hardware.Chip(memory=2**30, flops=1e12, bandwidth=1e9)
    known = program._replace(
        chip=chip, devices=4, flops_per_clip={"all": 4e9}, bytes_moved=30_000_000
    )
    # 8 clips on 4 devices, 8 GFLOP for each clip.
    assert (
        "at least 10 ms of arithmetic at 1 TFLOP/s (80% of the peak in bfloat16), and 30 ms of "
        "memory at 0.001 TB/s; one after the other 40 ms, 200 clips/s"
    ) in compile_check.describe(known)


def test_what_does_not_fit_is_refused_with_what_is_left_to_try(program, monkeypatch):
    config = tiny_config()
    small = program._replace(capacity=int(program.memory["peak"] / 0.96))
    assert not small.fits and small._replace(capacity=program.memory["peak"] * 2).fits
    assert "DOES NOT FIT" in compile_check.describe(small)
    monkeypatch.setattr(compile_check, "compile_program", lambda *_: small)
    advice = r"on each cpu of local; allowed: 95% of .* GiB; try --config\.parallel\.remat=dots; "
    with pytest.raises(compile_check.DoesNotFitError, match=advice):
        compile_check.check(config, "local")
    config.parallel.remat, config.parallel.fsdp = "full", 2
    assert compile_check.advice(config).startswith("--config.parallel.fsdp=4; ")


def test_only_training_is_compiled_ahead():
    config = tiny_config()
    config.task = "probe"
    allowed = r"task is 'probe'; allowed: 'pretrain', 'finetune' or 'attentive' with --compile_for"
    with pytest.raises(ValueError, match=allowed):
        compile_check.check(config, "local")


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(compile_targets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(compile_targets.TargetError, match=r"needs libtpu, .* the extra `tpu`"):
        compile_targets.find("v5e:4x4")


@pytest.mark.parametrize("target", ["h100", "a100-80gb:8", "b200:4x8"])
def test_without_the_plugin_for_gpus_the_extra_is_named(target, monkeypatch):
    monkeypatch.setattr(compile_targets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(compile_targets.TargetError, match=r"plugin for GPUs, .* the extra `cuda`"):
        compile_targets.find(target)


@pytest.mark.parametrize("target", ["h101", "h100:0", "gpu", ""])
def test_of_an_unknown_target_all_known_ones_are_named(target, monkeypatch):
    monkeypatch.setattr(compile_targets.importlib.util, "find_spec", lambda name: None)
    allowed = r"; allowed: local; a GPU, out of a100, .* or a TPU topology such as v5e:4x4"
    with pytest.raises(compile_targets.TargetError, match=f"--compile_for={target}{allowed}"):
        compile_targets.find(target)


def run(*flags):
    return runs.run(*flags, xla=xla_flags.EIGHT_DEVICES)


@pytest.mark.slow
def test_the_program_compiles_and_trains_nothing(tmp_path):
    code, output = run("--compile_for=local", "--config.batch_size=16", f"--workdir={tmp_path}/run")
    assert code == 0, output
    assert "local: 8 x cpu, 16 clips a step, 2 on each" in output
    assert not (tmp_path / "run").exists()


@needs_libtpu
@pytest.mark.slow
def test_a_tpu_slice_that_is_not_here():
    code, output = run("--compile_for=v5e:4x4", "--config.batch_size=16")
    assert code == 0, output
    assert "v5e:4x4: 16 x TPU v5 lite, 16 clips a step, 1 on each" in output
    assert "fits 16.00 GiB of a TPU v5 lite" in output
    code, output = run("--compile_for=v5e:3x5")
    assert code == 1
    assert "error: --compile_for=v5e:3x5; allowed: local; a GPU, out of a100" in output
