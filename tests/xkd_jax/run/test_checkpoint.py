import collections
import contextlib
import errno
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.files import sealed
from tests.damage import damages
from tests.xkd_jax import toy
from xkd_jax import sharding
from xkd_jax.run import checkpoint, saved_checkpoint
from xkd_jax.run.saved_checkpoint import DamagedError


def open_checkpoints(workdir, config=None, **policy):
    policy = {"every_steps": 1, "keep": 3} | policy
    return checkpoint.Checkpoints(workdir, config=config or {}, **policy)


def abstract(state, mesh):
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        state,
        sharding.state_shardings(state, mesh),
    )


def steps_in(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_state_comes_back_whole_while_training_overwrote_its_buffers(tmp_path):
    mesh = sharding.make_mesh()
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = {"a": jnp.arange(200_000.0), "step": jnp.int32(0)}
    state = jax.device_put(state, sharding.state_shardings(state, mesh))
    with open_checkpoints(tmp_path) as checkpoints:
        for step in range(1, 4):
            checkpoints.save(step, state)
            state = overwrite(state)
    with open_checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(abstract(state, mesh))
    np.testing.assert_array_equal(restored["a"], np.arange(200_000.0) + 2)
    assert restored["a"].sharding.mesh == mesh


def test_containers_dtypes_and_optimizer_state_survive(tmp_path):
    mesh = sharding.make_mesh()
    state = toy.init()
    state = state.replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params))
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, state)
    with open_checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(abstract(state, mesh))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert restored.params["w"].dtype == jnp.bfloat16


def test_restores_to_another_mesh(tmp_path):
    array = jnp.arange(16.0)
    split = jax.device_put(array, sharding.batch_sharding(sharding.make_mesh(1)))
    target = sharding.batch_sharding(sharding.make_mesh(4))
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": split})
    with open_checkpoints(tmp_path) as checkpoints:
        wanted = {"a": jax.ShapeDtypeStruct((16,), jnp.float32, sharding=target)}
        restored = checkpoints.restore(wanted)
    np.testing.assert_array_equal(restored["a"], array)
    assert restored["a"].sharding == target


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_weights_split_over_devices_restore_to_any_split(fsdp, tmp_path):
    state = {"params": {"kernel": jnp.arange(64.0).reshape(4, 16), "bias": jnp.arange(16.0)}}
    split = jax.device_put(state, sharding.state_shardings(state, sharding.make_mesh(fsdp=4)))
    mesh = sharding.make_mesh(fsdp)
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, split)
    with open_checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(abstract(state, mesh))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert restored["params"]["kernel"].addressable_shards[0].data.shape == (4, 16 // fsdp)


def test_nothing_to_restore(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None
        assert checkpoints.restore({"a": jnp.zeros(1)}) is None


def test_keeps_the_newest_and_the_milestones(tmp_path):
    with open_checkpoints(tmp_path, keep=2, keep_every_steps=4) as checkpoints:
        for step in range(1, 12):
            checkpoints.save(step, {"a": jnp.zeros(1)})
    assert steps_in(tmp_path) == [4, 8, 10, 11]


def test_what_is_kept_for_good_is_due_too(tmp_path):
    with open_checkpoints(tmp_path, every_steps=5, keep=1, keep_every_steps=4) as checkpoints:
        due = [step for step in range(1, 13) if checkpoints.due(step)]
        for step in due:
            checkpoints.save(step, {"a": jnp.zeros(1)})
    assert due == [4, 5, 8, 10, 12]
    assert steps_in(tmp_path) == [4, 8, 12]


def test_milestones_part_a_run_of_any_length(tmp_path):
    for total, expected in ((750, [94, 188, 282, 376, 470, 564, 658]), (3, [1, 2, 3])):
        policy = {"every_steps": 0, "keep": 1, "milestones": 8, "total_steps": total}
        with open_checkpoints(tmp_path / str(total), **policy) as checkpoints:
            assert [step for step in range(1, total + 1) if checkpoints.due(step)] == expected
    # Nothing else is asked for.
    with open_checkpoints(tmp_path / "none", every_steps=0) as checkpoints:
        assert not any(checkpoints.due(step) for step in range(20))


def test_a_step_saved_twice_stays_as_it_was(tmp_path):
    for value in (1.0, 2.0):
        with open_checkpoints(tmp_path) as checkpoints:
            checkpoints.save(5, {"a": jnp.full(3, value)})
            checkpoints.save(5, {"a": jnp.full(3, value + 10)})
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore({"a": jnp.zeros(3)})["a"].tolist() == [1, 1, 1]


KILLED_WHILE_WRITING = """
import os, signal, sys, time
import jax.numpy as jnp
import numpy as np
from xkd_jax.run import checkpoint

noise = np.random.default_rng(0).random(50_000_000, np.float32)  # zeros compress to nothing
with checkpoint.Checkpoints(sys.argv[1], config={}, every_steps=1, keep=1) as checkpoints:
    checkpoints.save(1, {"a": jnp.ones(3)})
    checkpoints.save(2, {"a": jnp.asarray(noise)})
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_half_written_step_is_ignored_and_can_be_saved_again(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert "1" in left and len(left) == 2 and "2" not in left  # keep=1 did not delete the old one
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 1
        assert checkpoints.restore({"a": jnp.zeros(3)})["a"].tolist() == [1, 1, 1]
        checkpoints.save(2, {"a": jnp.full(3, 2.0)})
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore({"a": jnp.zeros(3)})["a"].tolist() == [2, 2, 2]


def test_refuses_a_folder_that_is_no_checkpoint(tmp_path):
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    for use in (open_checkpoints, checkpoint.latest_step):
        with pytest.raises(DamagedError, match="checkpoints/7 is not a checkpoint"):
            use(tmp_path)


@pytest.mark.parametrize(
    "left",
    [[], ["state"], ["state", "commit_success.txt"], ["_CHECKPOINT_METADATA"]],
    ids=lambda left: " ".join(left) or "nothing",
)
def test_a_deletion_that_was_cut_short_is_ended(tmp_path, left):
    with open_checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"a": jnp.full(3, float(step))})
    for path in (tmp_path / "checkpoints" / "1").iterdir():
        if path.name not in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore({"a": jnp.zeros(3)})["a"].tolist() == [3, 3, 3]
        checkpoints.save(4, {"a": jnp.zeros(3)})
    assert steps_in(tmp_path) == [2, 3, 4]


def test_what_is_not_the_rest_of_a_deletion_is_not_deleted(tmp_path):
    with open_checkpoints(tmp_path, keep_every_steps=4) as checkpoints:
        for step in (3, 4, 5):
            checkpoints.save(step, {"a": jnp.zeros(3)})
    folder = tmp_path / "checkpoints"

    def refuses(step, **policy):
        with pytest.raises(DamagedError, match=f"checkpoints/{step} is not a checkpoint"):
            open_checkpoints(tmp_path, **policy)
        assert (folder / str(step)).exists()

    (folder / "4" / "_CHECKPOINT_METADATA").unlink()
    refuses(4, keep_every_steps=4)  # a milestone is never deleted
    open_checkpoints(tmp_path, keep_every_steps=3)
    (folder / "1").mkdir()
    (folder / "1" / "notes.txt").write_text("of the user")
    refuses(1)
    (folder / "1").rename(folder / "7")
    refuses(7)


@contextlib.contextmanager
def flipped(path, at, bit):
    """Flips one bit of a file within the context."""
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
    yield
    path.write_bytes(content)


@pytest.mark.faults
def test_a_flipped_bit_is_told_in_one_line_or_does_no_harm(tmp_path, capfd):
    noise = jax.random.normal(jax.random.key(0), (40, 50))
    state = {"params": {"noise": noise, "ones": jnp.ones(700)}, "step": jnp.int32(2)}
    with open_checkpoints(tmp_path, {"seed": 1}) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.save(2, state)
    outcomes = collections.Counter()
    capfd.readouterr()
    for path in sorted((tmp_path / "checkpoints" / "2").rglob("*")):
        whole = path.read_bytes() if path.is_file() else b""
        for damaged in damages(whole, 4, cut=False) if whole else ():
            path.write_bytes(damaged)
            try:
                with open_checkpoints(tmp_path, {"seed": 1}) as checkpoints:
                    restored = checkpoints.restore(state)
            except DamagedError as error:
                assert "\n" not in str(error) and "checkpoints/2 cannot be used (" in str(error)
                assert str(error).endswith("; move it elsewhere to resume from checkpoint 1.")
                outcomes["told"] += 1
            else:
                jax.tree.map(np.testing.assert_array_equal, restored, state)
                told = f"RESTORED step 2 from {tmp_path}/checkpoints/2\n"
                assert capfd.readouterr().out == told, "nothing has changed in the config"
                outcomes["harmless"] += 1
        if whole:
            path.write_bytes(whole)
    gc.collect()
    assert not capfd.readouterr().err, "nothing but one line"
    assert outcomes["told"] > 15, outcomes


@pytest.mark.faults
def test_any_damage_to_a_record_is_told_or_does_no_harm(tmp_path):
    with open_checkpoints(tmp_path, {"seed": 10, "model": {"width": 32}}) as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros(3)})
    step = tmp_path / "checkpoints" / "1"
    whole = saved_checkpoint.read_record(step)
    told = 0
    for damaged in damages((step / saved_checkpoint.MARKER).read_bytes(), 300):
        (step / saved_checkpoint.MARKER).write_bytes(damaged)
        try:
            assert saved_checkpoint.read_record(step) == whole
        except DamagedError as error:
            assert "\n" not in str(error)
            told += 1
    assert told > 100


def data_file(step):
    """Returns the file with the arrays of a checkpoint: the largest."""
    return max((step / "state").rglob("*"), key=lambda path: path.stat().st_size)


def test_a_damaged_array_is_named(tmp_path):
    noise = jax.random.normal(jax.random.key(0), (1000,))
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"noise": noise, "ones": jnp.ones(3)})
    file = data_file(tmp_path / "checkpoints" / "1")
    place = file.stat().st_size // 2
    with (
        flipped(file, place, 0),
        open_checkpoints(tmp_path) as checkpoints,
        pytest.raises(DamagedError) as error,
    ):
        checkpoints.restore({"noise": noise, "ones": jnp.ones(3)})
    assert str(error.value) == (
        f"The checkpoint {tmp_path}/checkpoints/1 cannot be used (array noise is not what was "
        "saved); there is no other checkpoint beside it."
    )


def test_swapped_checkpoints_are_refused(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"a": jnp.full(3, float(step))})
    folder = tmp_path / "checkpoints"
    for old, new in (("1", "aside"), ("2", "1"), ("aside", "2")):
        (folder / old).rename(folder / new)
    with pytest.raises(DamagedError, match=r"/1 cannot be used \(it is of step 2,"):
        open_checkpoints(tmp_path)


def test_an_error_that_the_caller_handles_is_not_taken_for_the_cause():
    try:
        raise ValueError("outside")
    except ValueError:
        message = "cannot be read: KeyError: 'inside'"
        with pytest.raises(DamagedError, match=message), saved_checkpoint.reading():
            {}["inside"]


def test_a_folder_without_rights_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros(3)})

    def deny(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", deny)
    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(PermissionError):
        checkpoint.latest_step(tmp_path)
    with pytest.raises(PermissionError):
        saved_checkpoint.read_record(tmp_path / "checkpoints" / "1")


@pytest.mark.parametrize("name", ["02", "0002", "2\N{ARABIC-INDIC DIGIT ZERO}"])
def test_a_checkpoint_named_by_a_number_in_another_form_is_not_passed_over(tmp_path, name):
    with open_checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"a": jnp.zeros(3)})
    folder = tmp_path / "checkpoints"
    (folder / "2").rename(folder / name)
    for use in (open_checkpoints, checkpoint.latest_step):
        with pytest.raises(DamagedError, match=rf"/{name} .*: rename it to {int(name)},"):
            use(tmp_path)


def test_a_damaged_record_of_an_older_checkpoint_is_told_at_the_start(tmp_path):
    with open_checkpoints(tmp_path, {"seed": 10}) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"a": jnp.zeros(3)})
    file = tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
    file.write_text(file.read_text().replace('"seed": 10', '"seed": 18'))
    with pytest.raises(DamagedError, match=r"/1 cannot .* resume from checkpoint 2\.$"):
        open_checkpoints(tmp_path)


def without_digests(step):
    """Removes the digests from a checkpoint, as in those of former versions."""
    file = step / "_CHECKPOINT_METADATA"
    content = json.loads(file.read_text())
    content["custom_metadata"] = {"config": content["custom_metadata"]["config"]}
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("config", value) for value in (None, [], "x")),
        ("step", "1"),
        ("data", "x"),
        *(("arrays", value) for value in ([], {"a": 3}, {"a": ""})),
    ],
)
def test_a_record_of_other_kinds_of_values_is_refused_whoever_has_sealed_it(tmp_path, field, value):
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros(3)})
    file = tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
    content = json.loads(file.read_text())
    record = sealed.unseal(content["custom_metadata"])
    content["custom_metadata"] = sealed.seal(record | {field: value})
    file.write_text(json.dumps(content))
    with pytest.raises(DamagedError, match=f"is damaged: TypeError: its {field} "):
        saved_checkpoint.read_record(file.parent)


def test_a_checkpoint_without_digests_is_restored_and_that_is_said(tmp_path, capsys):
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.arange(3.0)})
    without_digests(tmp_path / "checkpoints" / "1")
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore({"a": jnp.zeros(3)})["a"].tolist() == [0, 1, 2]
    assert "damage to its arrays would not be noticed" in capsys.readouterr().out


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:10])


@pytest.mark.parametrize(
    ("damage", "files"),
    [
        (empty, "_METADATA"),
        (lambda path: path.unlink(), "manifest.ocdbt"),
        (empty, "d/*"),
        (truncate, "d/*"),
        (truncate, "ocdbt.process_0/d/*"),
    ],
    ids=["empty metadata", "no manifest", "empty index", "torn index", "torn arrays"],
)
def test_refuses_a_damaged_checkpoint(tmp_path, damage, files):
    state = {"weights": jnp.arange(1000.0)}
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.save(2, state)
    newest = tmp_path / "checkpoints" / "2"
    found = list((newest / "state").glob(files))
    assert found
    for file in found:
        damage(file)
    mesh = sharding.make_mesh()
    with (
        open_checkpoints(tmp_path) as checkpoints,
        pytest.raises(DamagedError, match="checkpoints/2 cannot be used") as error,
    ):
        checkpoints.restore(abstract(state, mesh))
    assert "\n" not in str(error.value) and len(str(error.value)) < 600 + len(str(tmp_path))
    assert str(error.value).endswith("; move it elsewhere to resume from checkpoint 1.")
    newest.rename(tmp_path / "aside")
    with open_checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(abstract(state, mesh))
    np.testing.assert_array_equal(restored["weights"], state["weights"])


@contextlib.contextmanager
def no_room_for(size):
    """Limits the size of files, in bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def large_state():
    return {"weights": jax.random.normal(jax.random.key(0), (1_000_000,))}


def test_a_save_that_fails_is_told_of_by_the_next_one_with_remaining(tmp_path):
    with pytest.raises(checkpoint.SaveError) as error, open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"weights": jnp.zeros(3)})
        checkpoints.finish()
        with no_room_for(2**20):
            checkpoints.save(2, large_state())
            checkpoints.save(3, large_state())
    assert str(error.value).startswith(
        f"Checkpoint 2 cannot be written to {tmp_path}/checkpoints ("
    )
    assert "File too large" in str(error.value)
    assert str(error.value).endswith("); checkpoint 1 stays.")
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 1


def test_a_last_save_that_fails_is_told_of_at_the_end(tmp_path):
    with (
        no_room_for(2**20),
        pytest.raises(checkpoint.SaveError, match=r"Checkpoint 7 .*; there is no checkpoint yet"),
        open_checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(7, large_state())


def test_a_failed_save_does_not_hide_an_error_of_the_run(tmp_path):
    with (
        no_room_for(2**20),
        pytest.raises(ZeroDivisionError),
        open_checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(7, large_state())
        _ = 1 / 0


def test_says_what_it_restored_and_what_changed(tmp_path, capsys):
    with open_checkpoints(
        tmp_path, {"seed": 1, "model": {"size": (1, 2), "old": 3}}
    ) as checkpoints:
        checkpoints.save(7, {"a": jnp.zeros(1)})
    with open_checkpoints(
        tmp_path, {"seed": 1, "model": {"size": (1, 4), "new": 5}}
    ) as checkpoints:
        checkpoints.restore({"a": jnp.zeros(1)})
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"RESTORED step 7 from {tmp_path}/checkpoints/7",
        "  changed since then: config.model.size: [1, 2] -> [1, 4]",
        "  changed since then: config.model.new: (absent) -> 5",
        "  changed since then: config.model.old: 3 -> (absent)",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: toy.init(features=9),
            r"params/w is float32\[9,1\] here and float32\[6,1\] in the checkpoint",
        ),
        (
            lambda s: s.replace(params=s.params | {"w": s.params["w"].astype(jnp.bfloat16)}),
            r"params/w is bfloat16\[6,1\] here and float32\[6,1\] in the checkpoint",
        ),
        (
            lambda s: s.replace(params=s.params | {"extra": jnp.zeros(2)}),
            r"params/extra is float32\[2\] here and missing in the checkpoint",
        ),
        (
            lambda s: s.replace(params={"w": s.params["w"]}),
            r"params/b is missing here and float32\[1\] in the checkpoint",
        ),
    ],
)
def test_refuses_another_model_by_its_first_difference(tmp_path, change, message):
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, toy.init())
    with (
        open_checkpoints(tmp_path) as checkpoints,
        pytest.raises(checkpoint.MismatchError, match=message),
    ):
        checkpoints.restore(change(toy.init()))
