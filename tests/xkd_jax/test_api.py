"""`xkd_jax.pretrain` does what the command does, on folders of videos and on prepared data."""

import os
import signal
import subprocess
import sys

import jax
import pytest

import xkd_jax
from tests import saved_runs, xla_flags
from tests.integration import runs
from xkd_jax import main, pretrain_run
from xkd_jax.run import workdir


@pytest.fixture
def seen(monkeypatch):
    """Returns the list of requested pretrainings, (config, workdir) each; none is run."""
    asked = []

    def pretrain(*arguments):
        asked.append(arguments)
        return pretrain_run.Pretrained(state=None, has_ended=True)

    monkeypatch.setattr(pretrain_run, "pretrain", pretrain)
    return asked


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


def test_importing_the_package_is_light():
    code = (
        "import sys, xkd_jax; assert callable(xkd_jax.pretrain); "
        "assert not {'jax', 'flax', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_the_command_as_a_function(seen, videos, tmp_path):
    changed = {"model.video.mask_ratio": 0.5, "log.writers": ("tensorboard", "wandb")}
    result = xkd_jax.pretrain(videos, tmp_path / "one", steps=7, **changed)
    assert result == tmp_path / "one"
    flags = ["--config=configs/folder.py", f"--config.data.path={videos}", "--config.steps=7"]
    flags += [
        "--config.model.video.mask_ratio=0.5",
        "--config.log.writers=('tensorboard','wandb')",
    ]
    assert main.call(*flags, f"--workdir={tmp_path / 'two'}") == 0
    (config, folder), (expected, other) = seen
    assert config.to_dict() == expected.to_dict()
    assert (folder, other) == (str(tmp_path / "one"), str(tmp_path / "two"))


def test_prepared_data_are_read_as_such_with_any_config(seen, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "prepared.json").write_text("{}")
    for config in ("folder", "k400"):
        xkd_jax.pretrain(str(data), tmp_path / config, config=config, prepared=tmp_path / "unused")
    assert [config.data.dataset for config, _ in seen] == ["prepared", "prepared"]
    assert [config.data.path for config, _ in seen] == [str(data)] * 2
    assert seen[1][0].epochs == 800 and not (tmp_path / "unused").exists()


def test_a_folder_of_videos_with_a_config_for_prepared_data(seen, videos, tmp_path):
    xkd_jax.pretrain(videos, tmp_path / "run", config="k400")
    assert seen[0][0].data.dataset == "folder"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stepz": 1}, r"config\.stepz is not a field; "),
        ({"steps": "many"}, r"config\.steps is 'many'; allowed: of type int"),
        ({"config": "svm_esc50"}, "config='svm_esc50' is of another task"),
        ({"config": "k401.py"}, r"--config=k401\.py: no such file"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, seen, videos, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        xkd_jax.pretrain(videos, tmp_path / "run", **arguments)
    assert "\n" not in str(error.value) and not seen


def test_data_that_do_not_exist_are_named(tmp_path):
    message = r"^config\.data\.path is '/nowhere'; allowed: an existing folder$"
    with pytest.raises(ValueError, match=message):
        xkd_jax.pretrain("/nowhere", tmp_path / "run")


def test_a_workdir_belongs_to_one_run(seen, videos, tmp_path):
    with (
        workdir.claimed(tmp_path / "run"),
        pytest.raises(workdir.WorkdirError, match="another run is using "),
    ):
        xkd_jax.pretrain(videos, tmp_path / "run")
    assert not seen


def test_an_empty_workdir_is_not_the_current_folder(seen, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(workdir.WorkdirError, match=r"^--workdir is empty; "):
        xkd_jax.pretrain(videos, "")
    assert not seen


def test_what_cannot_be_prepared_is_one_line(videos, tmp_path):
    """The real program, which finds no videos."""
    with pytest.raises(ValueError, match=r"^\S+/videos cannot be prepared: --source is ") as error:
        xkd_jax.pretrain(videos, tmp_path / "run", prepared=tmp_path / "prepared")
    assert "\n" not in str(error.value)


@pytest.mark.slow  # it compiles a step
def test_after_a_signal_a_script_does_not_go_on_as_if_the_run_had_ended(tmp_path):
    script = (
        f"import xkd_jax; xkd_jax.pretrain({str(runs.clips())!r}, {str(tmp_path / 'run')!r}, "
        f"config={runs.TINY!r}, steps=100_000); print('went on')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"XLA_FLAGS": xla_flags.ONE_DEVICE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    runs.wait_for_step(process, tmp_path / "run", 5)
    process.send_signal(signal.SIGINT)
    code, output = runs.ended(process)
    assert code != 0 and "went on" not in output
    assert output.splitlines()[-1] == (
        f"KeyboardInterrupt: stopped and saved in {tmp_path / 'run'}; the same call goes on from "
        "there"
    )
    *_, last = saved_runs.saved_steps(tmp_path / "run")
    assert f"Stopped and saved at step {last} of 100000" in output


@pytest.mark.parametrize("chosen", [None, "/chosen"])
def test_what_it_compiles_is_kept_as_the_program_keeps_it(
    chosen, seen, videos, tmp_path, monkeypatch
):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", chosen)
        xkd_jax.pretrain(videos, tmp_path / "run")
        kept = jax.config.jax_compilation_cache_dir
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert kept == (chosen or str(tmp_path / "xkd_jax" / "compiled"))
