import functools
import json
import os
import re
import signal
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.integration import runs
from tests.saved_runs import logged_lines, saved_steps
from tests.xkd_jax import toy
from xkd_jax import sharding
from xkd_jax.run import (
    checkpoint,
    data_log,
    interruption,
    loop,
    peers,
    processes,
    step_metrics,
)
from xkd_jax.run.figures import Figures

STEPS = 60


def assert_same_bits(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), b), one, other)


def wait_for(condition, process, seconds=120):
    """Waits until a condition holds; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def start(workdir, *flags, cold=False):
    flags = (f"--workdir={workdir}", f"--steps={STEPS}", "--delay=0.05", *flags)
    return runs.start_module("tests.xkd_jax.toy", *flags, cold=cold, xla=os.environ["XLA_FLAGS"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Returns the final state of an uninterrupted run in this process."""
    return jax.device_get(toy.run(tmp_path_factory.mktemp("undisturbed"), STEPS))


def test_a_whole_run(tmp_path, capsys):
    state = toy.run(tmp_path, 23, steps_per_epoch=10.0)
    assert int(state.step) == 23
    assert saved_steps(tmp_path) == [10, 20, 23]
    assert [line["step"] for line in logged_lines(tmp_path)] == [5, 10, 15, 20, 23]
    first = logged_lines(tmp_path)[0]
    assert list(first)[:6] == ["step", "epoch", "squares", "total", "gradient_norm", "a_bias"]
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 16
    said = capsys.readouterr().out
    assert re.search(r"Compiled the step in \d+\.\d s", said)
    assert "step 20/23 (87.0%) epoch 2.00 | total " in said


def test_logged_metrics_are_means_over_the_window(tmp_path):
    toy.run(tmp_path / "one", 5, config=toy.get_config(**{"log.every_steps": 1}))
    toy.run(tmp_path / "five", 5)
    each = [line["total"] for line in logged_lines(tmp_path / "one")]
    [window] = logged_lines(tmp_path / "five")
    assert len(set(each)) == 5
    assert window["total"] == pytest.approx(np.mean(each), rel=1e-12)


def test_the_step_is_traced_once(tmp_path):
    traces = []

    def step_fn(state, batch):
        traces.append(1)
        return toy.step_fn(state, batch)

    toy.run(tmp_path, 12, step_fn=step_fn)
    assert len(traces) == 1


def test_figures_are_drawn_at_intervals_and_at_the_end(tmp_path):
    seen = []

    def figures(state, batch):
        seen.append((int(state.step), np.asarray(batch["x"])))
        return Figures({"weights": np.zeros((2, 3, 3), np.uint8)})

    toy.run(tmp_path, 10, figures=figures, figures_every=4)
    assert [step for step, _ in seen] == [4, 8, 10]
    for step, x in seen:  # the batch of this step
        np.testing.assert_array_equal(x, toy.batch(step - 1)["x"])
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == [f"{step:08d}_weights.png" for step in (4, 8, 10)]
    toy.run(
        tmp_path / "never",
        2,
        figures=figures,
    )
    assert len(seen) == 3


def test_evaluations_are_made_at_intervals_and_at_the_end_and_logged_with_the_step(tmp_path):
    seen = []

    def evaluate(state, step):
        assert int(state.step) == step
        seen.append(step)
        return state, {"score": float(step)}

    looked = []

    def look(step, metrics):
        looked.append((step, metrics.get("score"), "total" in metrics))

    toy.run(tmp_path, 10, evaluate=evaluate, evaluate_every=4, look=look)
    assert seen == [4, 8, 10]
    assert looked == [(4, 4, True), (5, None, True), (8, 8, True), (10, 10, True)]
    # Each has a line in the log with the step's own metrics; 5 is the log's interval.
    assert [line["step"] for line in logged_lines(tmp_path)] == [4, 5, 8, 10]
    assert [line.get("score") for line in logged_lines(tmp_path)] == [4, None, 8, 10]
    assert all("total" in line for line in logged_lines(tmp_path))
    toy.run(tmp_path / "end", 10, evaluate=evaluate)
    assert seen[3:] == [10]


def test_a_new_run_rehearses_what_it_does_between_steps(tmp_path):
    calls = []

    def evaluate(state, step):
        calls.append(("evaluate", step, int(state.step)))
        return state, {"score": 1.0}

    def figures(state, batch):
        calls.append(("figures", int(state.step), batch["x"].shape[0]))
        return Figures({})

    hooks = {"evaluate": evaluate, "figures": figures, "figures_every": 2, "rehearses": True}
    toy.run(tmp_path, 2, **hooks)
    assert calls[:2] == [("figures", 0, 16), ("evaluate", 0, 0)]
    assert sorted(calls[2:]) == [("evaluate", 2, 2), ("figures", 2, 16)]
    assert [line["step"] for line in logged_lines(tmp_path) if "score" in line] == [2]
    calls.clear()
    toy.run(tmp_path, 4, **hooks)  # a resumed run has its programs
    assert sorted(calls) == [("evaluate", 4, 4), ("figures", 4, 16)]


def test_the_time_of_an_evaluation_does_not_count_as_training(tmp_path):
    def evaluate(state, step):
        time.sleep(1.0)
        return state, {"score": 0.0}

    toy.run(tmp_path, 4, evaluate=evaluate, evaluate_every=4)
    [line] = logged_lines(tmp_path)
    assert line["speed/seconds_per_step"] < 0.25


def best_so_far(traces):
    """An evaluation that changes the state: it copies the best step's weights to the teacher."""

    @jax.jit
    def keep(state):
        traces.append(1)
        better = state.params["b"][0] < state.teacher["b"][0]
        return state.replace(
            teacher=jax.tree.map(
                lambda new, old: jnp.where(better, new, old), state.params, state.teacher
            )
        )

    return lambda state, step: (keep(state), {"best": float(state.teacher["b"][0])})


def test_what_an_evaluation_keeps_in_the_state_survives_a_resume(tmp_path):
    traces, steps = [], []

    def step_fn(state, batch):
        steps.append(1)
        return toy.step_fn(state, batch)

    def run(workdir, total_steps):
        evaluate = best_so_far(traces)
        arguments = {"step_fn": step_fn, "evaluate": evaluate, "evaluate_every": 3}
        return toy.run(workdir, total_steps, **arguments)

    undisturbed = jax.device_get(run(tmp_path / "one", 18))
    assert (len(traces), len(steps)) == (1, 1), "traced more than once"
    run(tmp_path / "two", 12)
    assert_same_bits(run(tmp_path / "two", 18), undisturbed)
    one, two = (
        {x["step"]: x.get("best") for x in logged_lines(tmp_path / name)} for name in ("one", "two")
    )
    assert one == two
    without = jax.device_get(toy.run(tmp_path / "without", 18))
    assert not np.array_equal(without.teacher["b"], undisturbed.teacher["b"])


def test_an_evaluation_that_is_not_finite_stops_the_run(tmp_path):
    message = r"^Step 4: score is nan\. .* does not save this state; there is no checkpoint yet\.$"
    with pytest.raises(step_metrics.NonFiniteError, match=message):
        toy.run(tmp_path, 9, evaluate=lambda state, _: (state, {"score": np.nan}), evaluate_every=4)


def test_the_last_state_of_a_run_can_be_had_again(tmp_path):
    state = jax.device_get(toy.run(tmp_path, 7))

    def last_state(workdir):
        return loop.last_state(toy.task(7), toy.get_config(), workdir, sharding.make_mesh())

    assert_same_bits(last_state(tmp_path), state)
    assert int(last_state(tmp_path / "none").step) == 0


def test_a_run_may_begin_with_weights_that_are_given(tmp_path):
    def init(weights):
        return toy.init().replace(params={"w": weights, "b": jnp.zeros(1)})

    weights = np.arange(toy.FEATURES, dtype=np.float32)[:, None]
    task = toy.task(1, init=init, init_args=(weights,))
    state = loop.last_state(task, toy.get_config(), tmp_path, sharding.make_mesh())
    np.testing.assert_array_equal(state.params["w"], weights)


def test_a_run_in_two_parts_is_the_run_in_one(tmp_path, undisturbed):
    toy.run(tmp_path, 37)
    state = toy.run(tmp_path, STEPS)
    assert_same_bits(state, undisturbed)
    assert [line["step"] for line in logged_lines(tmp_path)] == sorted(
        [37, *range(5, STEPS + 1, 5)]
    )


@pytest.mark.faults
def test_killed_while_it_saves_and_resumed_it_ends_in_the_same_bits(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for(lambda: saved_steps(tmp_path), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    latest = saved_steps(tmp_path)[-1]
    assert latest < STEPS
    steps = []
    state = toy.run(tmp_path, STEPS, batches=lambda k: steps.append(k) or toy.batches(k))
    assert steps == [latest]
    assert_same_bits(state, undisturbed)
    logged = [line["step"] for line in logged_lines(tmp_path)]
    assert logged == sorted(set(logged)) and logged[-1] == STEPS


@pytest.mark.faults
@pytest.mark.slow  # it starts ten processes that import JAX
def test_a_storm_of_kills_at_random_instants(tmp_path, undisturbed):
    """Kills a process at random times: while it imports, compiles, trains, saves or ends."""
    rng = np.random.default_rng(0)
    codes, reached = [], []
    for _ in range(10):
        process = start(tmp_path, "--delay=0.3", cold=True)  # SIGKILL ends it at once
        time.sleep(rng.uniform(0.1, 8))
        process.kill()
        output, _ = process.communicate()
        assert "Traceback" not in output, output
        codes.append(process.returncode)
        reached = saved_steps(tmp_path)[-1:] or reached
    assert set(codes) == {-signal.SIGKILL}
    if reached != [STEPS]:
        toy.run(tmp_path, STEPS)
    state = jax.tree.map(np.zeros_like, undisturbed)
    with checkpoint.Checkpoints(tmp_path, config={}, every_steps=1, keep=1) as checkpoints:
        assert_same_bits(checkpoints.restore(state), undisturbed)
    logged = [line["step"] for line in logged_lines(tmp_path)]
    assert logged == sorted(set(logged)) and logged[-1] == STEPS


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, undisturbed, number):
    process = start(tmp_path, "--checkpoint_every=0")
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists(), process)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert f"{number.name}: stopping after this step" in output
    [step] = saved_steps(tmp_path)
    assert 0 < step < STEPS
    assert f"Stopped and saved at step {step} of {STEPS} in {tmp_path}. To go on, run" in output
    assert "Traceback" not in output
    assert_same_bits(toy.run(tmp_path, STEPS), undisturbed)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_before_the_first_step_a_signal_ends_it_and_nothing_is_saved(tmp_path, number):
    process = start(tmp_path, "--checkpoint_every=0", "--delay=20")
    wait_for(lambda: (tmp_path / "checkpoints").exists(), process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 128 + number, output
    assert output.splitlines()[-1].startswith(f"{number.name}: stopped. To go on, run the same")
    assert "Traceback" not in output
    assert saved_steps(tmp_path) == []


def test_a_second_sigint_aborts_at_once(tmp_path):
    process = start(tmp_path, "--checkpoint_every=1", "--delay=5")
    wait_for(lambda: saved_steps(tmp_path), process)
    process.send_signal(signal.SIGINT)
    for line in process.stdout:
        if "SIGINT: stopping after this step; once more to abort without saving" in line:
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 130, output
    assert output.splitlines()[-1] == "SIGINT: ended without saving"
    assert saved_steps(tmp_path) == [1]


def test_in_the_save_signals_change_nothing(capfd):
    with interruption.Interruption() as stop:
        assert not stop.requested(4) and not stop.requested(5)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requested(6)
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert capfd.readouterr().err.split("\n\n") == [
        "\nSIGHUP: stopping after this step",
        "SIGINT: saving; it ends by itself",
        "SIGINT: saving; it ends by itself",
        "SIGTERM: saving; it ends by itself\n",
    ]


def test_a_non_finite_metric_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path):
    config = toy.get_config(**{"saving.every_steps": 4})
    message = r"^Step 8: squares is nan\. .* does not save this state; checkpoint 4 stays\.$"
    with pytest.raises(step_metrics.NonFiniteError, match=message):
        toy.run(tmp_path, 20, config=config, batches=lambda k: toy.batches(k, nan_at=7))
    assert saved_steps(tmp_path) == [4]
    assert [line["step"] for line in logged_lines(tmp_path)] == [5]


def test_the_first_metric_at_fault_is_named_in_the_step_s_order(tmp_path):
    def step_fn(state, batch):
        state, metrics = toy.step_fn(state, batch)
        bad = jnp.where(state.step == 3, jnp.inf, 0)
        return state, {"total": metrics["total"], "z_norm": bad, "a_norm": bad}

    message = r"^Step 3: z_norm is inf\. .*; there is no checkpoint yet\.$"
    with pytest.raises(step_metrics.NonFiniteError, match=message):
        toy.run(tmp_path, 20, step_fn=step_fn)
    assert saved_steps(tmp_path) == []


def test_nothing_left_to_train_is_refused(tmp_path):
    toy.run(tmp_path, 4)
    with pytest.raises(ValueError, match=r"config\.steps=4 ends at step 4, and .* step 4 already"):
        toy.run(tmp_path, 4)
    with pytest.raises(ValueError, match=r"config\.epochs=0\.5 ends at step 3, and .* step 4"):
        toy.run(tmp_path, 3, config=toy.get_config(epochs=0.5))


def test_another_model_s_workdir_is_refused(tmp_path):
    toy.run(tmp_path, 4)
    with pytest.raises(checkpoint.MismatchError, match=r"params/w is float32\[7,1\] here"):
        toy.run(tmp_path, 9, init=lambda: toy.init(7))


def test_a_batch_that_the_mesh_does_not_divide_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config\.batch_size=12 "):
        toy.run(tmp_path, 4, config=toy.get_config(batch_size=12))


def test_batches_that_end_too_early_are_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no batch for step 4"):
        toy.run(tmp_path, 9, batches=lambda k: iter([toy.batch(0), toy.batch(1), toy.batch(2)]))


class Source:
    """A source for the toy's batches: one recording for each, some of which may be unreadable."""

    def __init__(self, recordings=12):
        self.inventory = {"recordings": recordings, "digest": f"of {recordings}"}
        self.failed = {}
        self.replaced = 0
        self.has_video = np.ones(recordings, bool)
        self.has_audio = np.arange(recordings) > 1

    def __len__(self):
        return len(self.has_video)


def test_processes_with_different_data_are_refused(tmp_path, monkeypatch):
    """Otherwise, the batches would be of other clips than the seed says, without a word."""
    texts = []
    monkeypatch.setattr(processes, "check_same", lambda text, subject: texts.append(text))
    for recordings in (12, 12, 11):
        log = data_log.DataLog(Source(recordings), tmp_path)
        toy.run(tmp_path / f"{len(texts)}", 1, data_log=log)
    first, same, other = texts
    assert first == same != other

    def refuse(text, subject):
        raise processes.GroupError(f"{subject} of process 1 differs from that of process 0")

    monkeypatch.setattr(processes, "check_same", refuse)
    with pytest.raises(processes.GroupError, match="the data of process 1 differs"):
        toy.run(tmp_path / "refused", 1, data_log=data_log.DataLog(Source(), tmp_path))
    assert saved_steps(tmp_path / "refused") == []


def test_a_run_keeps_the_numbers_of_its_recordings(tmp_path):
    toy.run(tmp_path, 1, data_log=data_log.DataLog(Source(), tmp_path, used=10))
    assert data_log.read_counts(tmp_path) == data_log.Counts(12, 10, 2, 0)
    shares = {"A": 0.75, "B": 0.25}
    toy.run(tmp_path / "mixed", 1, data_log=data_log.DataLog(Source(), tmp_path, shares=shares))
    assert data_log.read_counts(tmp_path) == data_log.Counts(12, 12, 2, 0, shares)
    counts = {"recordings": 12, "used": 12, "without_sound": 2, "without_picture": 0}
    for wrong in ({"used": "x"}, {"shares": ["A"]}, {"shares": {"A": "all"}}, {"more": 1}):
        (tmp_path / data_log.COUNTS).write_text(json.dumps(counts | wrong))
        assert data_log.read_counts(tmp_path) is None, wrong


def test_data_that_end_the_reading_end_the_run_after_a_save(tmp_path, undisturbed, capsys):
    def batches(start):
        for k, batch in enumerate(toy.batches(start), start):
            if k == 17:
                raise OSError("7 of 12 files cannot be used")
            yield batch

    with pytest.raises(loop.DataError, match=r"^7 of 12 files .* used\. Saved at step 17: once"):
        toy.run(tmp_path, STEPS, batches=batches)
    assert saved_steps(tmp_path) == [10, 17]
    assert [line["step"] for line in logged_lines(tmp_path)] == [5, 10, 15, 17]
    assert_same_bits(toy.run(tmp_path, STEPS), undisturbed)


def test_clips_of_other_recordings_are_counted_and_named(tmp_path, capsys):
    source = Source()

    def batches(start):
        for k, batch in enumerate(toy.batches(start), start):
            if start <= k < start + 3:
                source.failed[f"\x1b{k}.mp4"] = "truncated"
                source.replaced += 2
            yield batch

    run = functools.partial(toy.run, tmp_path, batches=batches)
    run(10, data_log=data_log.DataLog(source, tmp_path))
    assert [line["data/replaced"] for line in logged_lines(tmp_path)] == [6, 0]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "6 clips taken from other recordings than the requested ones; 3 recordings could not be "
        "read: \\x1b0.mp4 (truncated), \\x1b1.mp4 (truncated), \\x1b2.mp4 (truncated) "
        f"(all in {tmp_path}/unreadable-00000.json)"
    )
    source = Source()
    run(20, data_log=data_log.DataLog(source, tmp_path))
    assert sum(line["data/replaced"] for line in logged_lines(tmp_path)) == 12
    expected = {f"\x1b{k}.mp4": "truncated" for k in (0, 1, 2, 10, 11, 12)}
    assert data_log.read(tmp_path) == expected


def test_a_damaged_list_of_unreadable_recordings_hinders_nothing(tmp_path, capsys):
    for damaged in (b"{", b"[1]", b"\xff", b"[" * 100_000):
        (tmp_path / "unreadable-00000.json").write_bytes(damaged)
        assert data_log.read(tmp_path) == {}
        assert "is damaged" in capsys.readouterr().out


def test_a_resume_says_that_the_data_have_changed(tmp_path, capsys):
    toy.run(tmp_path, 3, data_log=data_log.DataLog(Source(12), tmp_path))
    toy.run(tmp_path, 5, data_log=data_log.DataLog(Source(12), tmp_path))
    assert "changed since then: data." not in capsys.readouterr().out
    toy.run(tmp_path, 7, data_log=data_log.DataLog(Source(11), tmp_path))
    said = capsys.readouterr().out
    assert "  changed since then: data.recordings: 12 -> 11\n" in said
    assert "  changed since then: data.digest: of 12 -> of 11\n" in said


def start_two(tmp_path, *flags, each=((), ()), **options):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = ("--processes=2", f"--coordinator={address}", *flags)
    return [
        start(tmp_path, *flags, *each[index], f"--process={index}", **options) for index in range(2)
    ]


@pytest.mark.slow  # real processes; their loss takes seconds to notice
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda n: n.name)
def test_a_process_that_is_lost_ends_the_other_in_a_line(tmp_path, number):
    flags = ("--checkpoint_every=0", "--delay=0.5", "--peer_seconds=6")
    processes = start_two(tmp_path, *flags, cold=True)  # which the test stops
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists(), processes[0])
    started = time.monotonic()
    processes[1].send_signal(number)
    output, _ = processes[0].communicate(timeout=60)
    assert processes[0].returncode == peers.LOST, output
    assert time.monotonic() - started < 30
    assert output.splitlines()[-1] == (
        "error: process 1 has sent no sign of life for 6 s: it has died or hangs"
    )
    assert "Traceback" not in output and "    @  " not in output
    processes[1].kill()


@pytest.mark.slow  # real processes
def test_a_signal_before_the_first_step_ends_both(tmp_path):
    processes = start_two(tmp_path, "--checkpoint_every=0", "--delay=100")
    wait_for(lambda: (tmp_path / "checkpoints").exists(), processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    assert outputs[0].splitlines()[-1] == "error: process 1: stopped by SIGTERM"
    assert outputs[1].splitlines()[-1].startswith("SIGTERM: stopped.")


@pytest.mark.slow  # real processes, and the seconds that a stuck one is given
def test_a_signal_to_one_that_waits_for_the_other_ends_both(tmp_path):
    late, stuck = start_two(tmp_path, each=(["--late=100"], []))
    assert any("joined" in line for line in iter(stuck.stdout.readline, ""))
    time.sleep(1)  # in the comparison of what the processes train on, until the other one comes
    stuck.send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=30)[0] for process in (late, stuck)]
    assert [process.returncode for process in (late, stuck)] == [143, 143], outputs
    assert outputs[0].splitlines()[-1] == "error: process 1: stopped by SIGTERM"
    assert outputs[1].splitlines()[-1].startswith("SIGTERM: stopped.")


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_when_one_is_told_to(tmp_path):
    # Slow, so that they take long to agree, as they do by chance on a busy machine.
    processes = start_two(tmp_path, "--checkpoint_every=0", "--latency=0.02")
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists(), processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    [step] = saved_steps(tmp_path)
    assert f"Stopped and saved at step {step} of {STEPS}" in outputs[0]
    assert "Stopped" not in outputs[1]
    processes = start_two(tmp_path, "--checkpoint_every=0")
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert f"RESTORED step {step} " in outputs[0]
    assert saved_steps(tmp_path) == [step, STEPS]
