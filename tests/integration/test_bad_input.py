"""Every mistake of a user gives one clear line and a non-zero exit code, and no traceback."""

import shutil

import pytest

from tests.integration import runs
from tests.media_files import write_media

# The eight devices of the tests' process divide the batch.
FOLDER = ("--config.data.dataset=folder", "--config.batch_size=8")


def refusal(*flags, run=runs.call, **options):
    """Returns the program's last line. It runs within this process unless `run` is another one."""
    code, output = run(*flags, **options)
    assert code == 1, output
    assert "Traceback" not in output
    last = output.splitlines()[-1]
    assert last.startswith("error: "), output
    assert "XKD_TRACEBACK" not in output  # the mistake is the user's, not the program's
    return last


def command_line(*flags, **options):
    """Runs the program as a user does."""
    return runs.run(*flags, cold=True, **options)


def test_missing_path(tmp_path):
    flags = (*FOLDER, f"--config.data.path={tmp_path}/none", f"--workdir={tmp_path}/run")
    for run in (runs.call, command_line):
        last = refusal(*flags, run=run)
        assert "config.data.path" in last and f"{tmp_path}/none" in last


def test_empty_folder(tmp_path):
    (tmp_path / "videos").mkdir()
    last = refusal(*FOLDER, f"--config.data.path={tmp_path}/videos", f"--workdir={tmp_path}/run")
    assert "config.data.path" in last


def test_nothing_decodable(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("not a video")
    last = refusal(*FOLDER, f"--config.data.path={tmp_path}/videos", f"--workdir={tmp_path}/run")
    assert "config.data" in last


@pytest.mark.parametrize(
    ("flag", "part"),
    [
        ("--config.optimizer.learning_rat=1", "learning_rat"),
        ("--config.model.video.patch=(4,15,16)", "config.model.video.patch is (4, 15, 16)"),
        ("--config.batch_size=many", "many"),
        ("--config.task=dance", "config.task is 'dance'; allowed: pretrain, probe"),
    ],
)
def test_wrong_fields(flag, part, tmp_path):
    assert part in refusal(flag, f"--config.data.path={tmp_path}", f"--workdir={tmp_path}/run")


def test_a_wrong_field_on_the_command_line(tmp_path):
    last = refusal("--config.optimizer.learning_rat=1", f"--workdir={tmp_path}", run=command_line)
    assert "no such field in the config: " in last and "learning_rat" in last


def test_missing_config_file(tmp_path):
    for run in (runs.call, command_line):
        last = refusal(f"--workdir={tmp_path}", run=run, config="configs/nowhere.py")
        assert "nowhere.py" in last


@pytest.mark.parametrize("flags", [(), ("--config.batch_size=2",)])
def test_no_config_at_all(flags, tmp_path):
    process = runs.start_module("xkd_jax.main", *flags, f"--workdir={tmp_path}/run")
    code, output = runs.ended(process)
    assert code == 1
    assert output.splitlines()[-1].startswith("error: --config=FILE is missing; the shipped ones")


def test_a_folder_for_a_config_file(tmp_path):
    last = refusal(f"--workdir={tmp_path}", "--config.batch_size=2", config="configs")
    assert "--config=configs: a folder; the shipped ones are configs/*.py and configs/eval" in last


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("x = 1", ": has no function get_config"),
        ("def get_config(:", ": invalid syntax (own.py, line 1)"),
        ("import nowhere", ", line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("def get_config():\n    raise ValueError('no luck')", ", line 2: ValueError: no luck"),
        ("def get_config():\n    return {}", ": get_config() returns dict; allowed: a ConfigDict"),
    ],
)
def test_a_config_file_that_is_wrong(tmp_path, program, reason):
    file = tmp_path / "own.py"
    file.write_text(program)
    last = refusal(f"--workdir={tmp_path}/run", config=str(file))
    assert f"error: --config={file}{reason}" in last


def test_a_word_for_a_config_that_takes_none(tmp_path):
    flag = "configs/eval/svm_ucf101.py:release"
    last = refusal(f"--workdir={tmp_path}/run", config=flag)
    assert "error: --config=configs/eval/svm_ucf101.py: takes nothing after a colon" in last


def test_an_empty_config(tmp_path):
    assert "--config is empty" in refusal(f"--workdir={tmp_path}/run", config="")


def test_a_config_file_with_nothing_in_it(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("import ml_collections\nget_config = ml_collections.ConfigDict")
    last = refusal(f"--workdir={tmp_path}/run", config=str(file))
    assert "config.task is None; allowed: pretrain" in last


@pytest.mark.parametrize("run", [runs.call, command_line])
def test_help_is_no_error(run):
    code, output = run("--help")
    assert code == 0
    assert "--config.FIELD=VALUE" in output and "--workdir=FOLDER" in output


def test_missing_workdir():
    assert refusal() == "error: --workdir=FOLDER is missing"


def test_flags_that_exclude_each_other():
    last = refusal("--dry_run", "--compile_for=local")
    assert last == "error: --dry_run and --compile_for exclude each other"


def test_a_workdir_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    assert f"--workdir={tmp_path}/run" in refusal(f"--workdir={tmp_path}/run")


@pytest.mark.slow
def test_good_and_broken_files(tmp_path):
    """The run trains on the good files, and prints how many it left out and why."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(3):
        write_media(videos / f"good {i}.mp4", seconds=2.0)
    whole = (videos / "good 0.mp4").read_bytes()
    (videos / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "empty.mkv").write_bytes(b"")
    code, output = runs.run(
        *FOLDER,
        f"--config.data.path={videos}",
        f"--workdir={tmp_path}/run",
        "--config.batch_size=4",
        "--config.steps=2",
        "--config.log.every_steps=1",
    )
    assert code == 0, output
    assert "left out 2 of 5 files" in output
    assert "1 empty file" in output
    assert "step 2/2" in output


@pytest.mark.slow
def test_files_that_vanish_in_mid_run(tmp_path):
    """11 of 12 files are deleted: the run saves and ends, and resumes when they are back."""
    videos, workdir = tmp_path / "videos", tmp_path / "run"
    shutil.copytree(runs.clips() / "train", videos)
    flags = (*FOLDER, f"--config.data.path={videos}", "--config.data.split=")
    flags = (*flags, f"--workdir={workdir}", "--config.steps=2000")
    process = runs.start(*flags)
    runs.wait_for_step(process, workdir, 4)
    files = sorted(videos.rglob("*.mp4"))
    hidden = [file.rename(tmp_path / file.name) for file in files[:-1]]
    code, output = runs.ended(process)
    assert code == 1 and "Traceback" not in output, output
    last = output.splitlines()[-1]
    assert last.startswith("error: config.data.max_bad_fraction is 0.5, but by now ")
    assert " of 12 files" in last and " cannot be accessed. Saved at step " in last
    step = max(runs.saved_steps(workdir))
    assert f"Saved at step {step}: " in last
    assert "could not be read: " in output and (workdir / "unreadable-00000.json").is_file()
    for file, back in zip(files[:-1], hidden, strict=True):
        back.rename(file)
    code, output = runs.run(*flags, f"--config.steps={step + 2}")
    assert code == 0 and f"RESTORED step {step}" in output
    assert "changed since then: data." not in output
