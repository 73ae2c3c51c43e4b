import fcntl
import signal
import subprocess
import sys
import threading

import pytest

from xkd_jax.run import workdir

HOLDER = """
import sys
from xkd_jax.run import workdir

with workdir.claimed(sys.argv[1]):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def refusal(path):
    with pytest.raises(workdir.WorkdirError) as error, workdir.claimed(path):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_makes_the_folder_and_can_be_claimed_again(tmp_path):
    for _ in range(2):
        with workdir.claimed(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b").is_dir()


def test_another_run_is_refused_until_the_first_is_gone_even_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "claimed\n"
    assert refusal(tmp_path) == f"another run is using --workdir={tmp_path}"
    threading.Timer(0.3, holder.kill).start()
    with workdir.claimed(tmp_path, patience=60):
        pass
    assert holder.communicate() and holder.returncode == -signal.SIGKILL


def test_a_lock_that_is_a_link_makes_no_file_elsewhere(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "elsewhere")
    assert "cannot be written to: Too many levels of symbolic links" in refusal(tmp_path / "run")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with workdir.claimed(tmp_path):
        said = capsys.readouterr().err
    assert f"warning: --workdir={tmp_path} cannot be locked (Operation not supported)" in said


def test_an_empty_name_is_refused():
    assert refusal("") == "--workdir is empty; allowed: a folder, created if missing"


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("")
    assert refusal(path) == f"--workdir={path} cannot be made a folder: File exists"
    assert refusal(path / "deeper").endswith("cannot be made a folder: Not a directory")


def test_a_folder_that_cannot_be_written_to_is_refused():
    assert "--workdir=/proc cannot be written to: " in refusal("/proc")


@pytest.mark.parametrize("name", ["checkpoints", "images", "tensorboard", "wandb", "mlflow"])
def test_a_file_where_a_folder_will_be_is_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    assert f"cannot be written to: {tmp_path}/{name} is not a folder" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "trackers.json"])
def test_a_folder_where_a_file_will_be_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    assert f"cannot be written to: {tmp_path}/{name} is not a file" in refusal(tmp_path)


def test_what_a_run_leaves_is_left_as_it_is(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "images").mkdir()
    with workdir.claimed(tmp_path):
        assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"
        assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("name", ["images", "metrics.jsonl"])
def test_a_part_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "metrics.jsonl").write_text("")
    # Removing permissions would not do: if root runs the tests, they do not apply.
    monkeypatch.setattr(workdir.os, "access", lambda path, mode: path.name != name)
    assert f"cannot be written to: {tmp_path}/{name} is read-only" in refusal(tmp_path)
