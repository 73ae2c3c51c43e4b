"""The command `xkd`, from this tree and from a wheel that `pip` builds of it."""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from xkd_jax import command

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("xkd_jax", "input_pipeline", "configs")


@pytest.mark.parametrize(
    ("argv", "module", "arguments"),
    [
        (
            "pretrain --data=VIDEOS --out=RUN --config.batch_size=8",
            "xkd_jax.main",
            "--config=CONFIGS/folder.py --config.data.path=VIDEOS --workdir=RUN "
            "--config.batch_size=8",
        ),
        ("pretrain --out RUN", "xkd_jax.main", "--config=CONFIGS/folder.py --workdir RUN"),
        ("pretrain --config=k400_mas", "xkd_jax.main", "--config=CONFIGS/k400_mas.py"),
        ("pretrain --out=X --config k400", "xkd_jax.main", "--config CONFIGS/k400.py --workdir=X"),
        ("pretrain --config=mine.py", "xkd_jax.main", "--config=mine.py"),
        ("pretrain --help", "xkd_jax.main", "--help"),
        (
            "evaluate --config=svm_ucf101 --checkpoint=RUN --data=UCF --out=X",
            "xkd_jax.main",
            "--config=CONFIGS/eval/svm_ucf101.py --config.checkpoint=RUN --config.data.path=UCF "
            "--workdir=X",
        ),
        (
            "ablate --base=ablation:default --rows=table4",
            "xkd_jax.ablate",
            "--base=CONFIGS/ablation.py:default --rows=table4",
        ),
        ("report --workdir=k400", "xkd_jax.report", "--workdir=k400"),
        ("import --input=A --output=B", "xkd_jax.interop.import_release", "--input=A --output=B"),
    ],
)
def test_what_a_command_runs(argv, module, arguments):
    arguments = arguments.replace("CONFIGS", str(ROOT / "configs"))
    assert command.command_line(argv.split()) == (module, arguments.split())


def test_an_unknown_command_is_told_of():
    with pytest.raises(ValueError, match="xkd pretrian: no such command; allowed: pretrain, "):
        command.command_line(["pretrian"])


def test_help_names_every_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["xkd", "--help"])
    command.run()
    said = capsys.readouterr().out
    for name, program in command.PROGRAMS.items():
        assert f"  {name} " in said and f"python -m {program.module})" in said


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("error: --workdir=FOLDER is missing", "error: --out=FOLDER is missing"),
        (
            "error: config.data.path is ''; allowed: the folder of the media files",
            "error: --data is ''; allowed: the folder of the media files",
        ),
        ("error: --config.data.path=a is new", "error: --data=a is new"),
        (
            "error: another run is using --workdir=x/--workdir",
            "error: another run is using --out=x/--workdir",
        ),
        (
            "error: config.data.paths, probe.config.data.path",
            "error: config.data.paths, probe.config.data.path",
        ),
    ],
)
def test_errors_name_the_short_flags(message, shown, monkeypatch):
    def run_module(*_, **__):
        sys.exit(message)

    monkeypatch.setattr(sys, "argv", ["xkd", "pretrain"])
    monkeypatch.setattr(command.runpy, "run_module", run_module)
    with pytest.raises(SystemExit) as end:
        command.run()
    assert end.value.code == shown


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Builds a wheel of a copy of the tree, and unpacks it as `pip install` does."""
    tree, site = (tmp_path_factory.mktemp(name) for name in ("tree", "site"))
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, f"--wheel-dir={tree}", str(tree)], check=True, timeout=300)
    [wheel] = tree.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_a_wheel_holds_all_that_the_packages_need(installed):
    def files(root, name):
        paths = [path.relative_to(root) for path in (root / name).rglob("*") if path.is_file()]
        return {path for path in paths if "__pycache__" not in path.parts}

    for name in PACKAGES:
        assert files(installed, name) == files(ROOT, name)


@pytest.mark.slow  # a program of its own
def test_its_command_runs_from_another_folder(installed, tmp_path):
    parser = configparser.ConfigParser()
    [entry_points] = installed.glob("*.dist-info/entry_points.txt")
    parser.read(entry_points)
    module, _, function = parser["console_scripts"]["xkd"].partition(":")
    script = f"import sys; from {module} import {function}; sys.argv[0] = 'xkd'; {function}()"
    flags = ["pretrain", "--data=VIDEOS", "--out=RUN", "--config=k400", "--dry_run"]
    (tmp_path / "VIDEOS").mkdir()
    (tmp_path / "VIDEOS" / "a.mp4").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *flags],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    config = installed / "configs" / "k400.py"
    assert f"Task pretrain of {config} would run" in done.stdout, done.stderr
