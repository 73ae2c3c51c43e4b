"""--dry_run of each task: what would run is said and checked, and nothing is run or written."""

import pytest

from tests import published_vits
from tests.input_pipeline import prepared_files
from tests.integration import runs
from tests.saved_runs import save_run
from xkd_jax import main
from xkd_jax.measure import dry_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dry")
    save_run(folder / "run")
    return folder


def facts(*flags, config=runs.TINY):
    code, output = runs.call(*flags, "--dry_run", config=config)
    return code, output.splitlines()


def test_every_task_has_a_check():
    assert dry_run.CHECKS.keys() == main.TASKS.keys()


def test_a_pretraining(tmp_path):
    flags = [f"--config.data.path={tmp_path / 'clips'}", f"--workdir={tmp_path / 'run'}"]
    code, lines = facts(*flags, "--config.seed=5")
    assert code == 0
    assert lines[:3] == [
        f"Task pretrain of {runs.TINY} would run; --dry_run runs nothing",
        f"data: generated, {tmp_path / 'clips'}, to be made",
        f"workdir: {tmp_path / 'run'}, new",
    ]
    assert "config.seed = 5" in lines and "config.model.video.mask_ratio = 0.85" in lines
    assert not list(tmp_path.iterdir())


def test_an_evaluation_of_a_run(folders, tmp_path):
    flags = [f"--config.checkpoint={folders / 'run'}", "--config.data.dataset=generated"]
    flags.append(f"--config.data.path={tmp_path}")
    for name in ("compare", "svm_ucf101", "finetune_hmdb51"):
        code, lines = facts(*flags, config=f"configs/eval/{name}.py")
        assert code == 0, lines
        assert lines[1] == f"data: generated, {tmp_path}"
        weights = [line for line in lines if line.startswith("weights: ")]
        assert weights[0].startswith(f"weights: {folders / 'run'}, video: width ")
        assert not any(line.startswith("workdir") for line in lines)
    code, lines = facts(f"--config.data.path={tmp_path}", f"--workdir={folders / 'run'}")
    assert code == 0 and f"workdir: {folders / 'run'}, at step 7" in lines


def test_a_published_vit_to_start_from(tmp_path):
    path = published_vits.write(tmp_path / "vit", "mae")
    flags = [f"--config.data.path={tmp_path / 'clips'}", f"--config.init_from={path}"]
    code, lines = facts(*flags)
    assert code == 0
    assert lines[2] == f"weights: {path}, MAE: width 32, depth 2, 4 heads, patches of 1x8x8"


def test_prepared_data_are_counted(tmp_path):
    record = prepared_files.clock_record
    silent = record("b", 2.0, sound=0.0)
    splits = {"train": [record("a", 2.0), silent], "val": [record("c", 2.0)]}
    prepared_files.write_prepared(tmp_path, splits)
    flags = ["--config.data.dataset=prepared", f"--config.data.path={tmp_path}"]
    code, lines = facts(*flags)
    assert code == 0 and lines[1:3] == [
        f"data: tiny, {tmp_path}, split train: 2 recordings, 1 without sound",
        f"data: tiny, {tmp_path}, split val: 1 recordings",
    ]
    (tmp_path / "index-val.npz").write_bytes(b"")
    code, lines = facts(*flags)
    assert code == 1 and lines[-1].startswith("error: index-val.npz ")


def test_a_mixture_is_counted_by_set(tmp_path):
    record = prepared_files.clock_record
    videos = [record(f"{n}.mp4", 2.0) for n in range(3)] + [record("silent.mp4", 2.0, sound=0)]
    sounds = [record(f"{n}.wav", 2.0, picture=False) for n in range(2)]
    folders = [tmp_path / "videos", tmp_path / "sounds"]
    prepared_files.write_prepared(folders[0], {"train": videos, "val": videos[:1]})
    prepared_files.write_prepared(folders[1], {"full": sounds}, dataset="noises")
    mixture = ["--config.data.dataset=prepared", *(f"--config.data.sources={f}" for f in folders)]
    code, lines = facts(*mixture)
    assert code == 1 and lines[-1] == (
        "error: config.data.require is 'both'; allowed: 'any': of 2 recordings in "
        f"{folders[1]}, 2 without a picture"
    )
    mixture.append("--config.data.require=any")
    sets = [
        f"data: tiny, {folders[0]}, split train: 4 recordings, 1 without sound",
        f"data: noises, {folders[1]}, split full: 2 recordings, 2 without a picture",
    ]
    # 24 steps of 4 examples; then 5 epochs of 6 examples, as 8 steps of 4.
    code, lines = facts(*mixture, "--config.data.weights=3,1")
    assert code == 0 and lines[1:3] == [
        f"{sets[0]}; 75.00% of the examples, 18 passes",
        f"{sets[1]}; 25.00% of the examples, 12 passes",
    ]
    code, lines = facts(*mixture, "--config.steps=0", "--config.epochs=5")
    assert code == 0 and lines[1:3] == [
        f"{sets[0]}; 66.67% of the examples, 5.333 passes",
        f"{sets[1]}; 33.33% of the examples, 5.333 passes",
    ]
    assert f"config.data.sources = {tuple(map(str, folders))}" in lines
    flags = [flag for flag in mixture if str(folders[1]) not in flag]
    code, lines = facts(*flags, f"--config.data.path={folders[1]}")
    assert code == 1 and lines[-1].endswith("; allowed: '' with config.data.sources")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--config.batch_size=0"], "config.batch_size is 0; allowed: "),
        ([], "config.data.path is ''; allowed: the folder of the media files"),
        (
            ["--config.data.dataset=folder", "--config.data.path=/nowhere"],
            "config.data.path is '/n",
        ),
        (
            ["--config.data.dataset=prepared", "--config.data.path=docs"],
            "holds no prepared.json",
        ),
        (["--config.data.path=docs", "--config.init_from=/nowhere"], "/nowhere: no such folder"),
        (["--compile_for=h100"], "--dry_run and --compile_for exclude each other"),
    ],
)
def test_what_is_wrong_is_said(flags, error):
    code, lines = facts(*flags)
    assert code == 1 and error in lines[-1] and "Traceback" not in "".join(lines)
