"""What all programs have in common: how they start, and how they refuse what they cannot read."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

from input_pipeline.programs import program
from tests.integration import runs

ROOT = pathlib.Path(__file__).parent.parent
INNER = {"measuring"}  # processes that programs start, speak with, and end
PROGRAMS = [
    path
    for package in ("xkd_jax", "input_pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
    if re.search(r"^if __name__ == .__main__.:", path.read_text(), re.M) and path.stem not in INNER
]


def test_the_programs_are_found():
    assert {"main", "features", "inspect"} <= {path.stem for path in PROGRAMS}
    packages = {path.parent.name for path in PROGRAMS if path.stem == "__main__"}
    assert packages == {"prepare", "report"}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_program_starts_in_the_same_way(path):
    """Before it imports anything: a signal may come at any instant."""
    _, first, *_ = ast.parse(path.read_text()).body
    assert ast.unparse(first).splitlines() == [
        "if __name__ == '__main__':",
        "    from input_pipeline.programs import program",
        "    program.start()",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--workdir=~/runs/x", "--workdir=/home/me/runs/x"),
        ("-workdir=~", "-workdir=/home/me"),
        ("--config=~/mine.py:name", "--config=/home/me/mine.py:name"),
        ("--config.data.path=~/videos", "--config.data.path=/home/me/videos"),
        ("~/videos", "/home/me/videos"),
        ("--output=a~b", "--output=a~b"),
        ("--output=~nobody-of-this-name/x", "--output=~nobody-of-this-name/x"),
        ("--output=./~", "--output=./~"),
        ("--dry_run", "--dry_run"),
    ],
)
def test_tilde_is_the_home_folder_in_every_flag(monkeypatch, given, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert program.expand_home([given]) == [expected]


# For each program, flags of which one is wrong, and the part of them that the error names.
WRONG = {
    "xkd_jax.main": (("--workdri=RUN",), "workdri"),
    "xkd_jax.ablate": (("--base=configs/demo.py", "--rows=xkd", "--seed=first"), "first"),
    "xkd_jax.benchmark": (("--config=configs/demo.py", "--steps=0"), "--steps=0"),
    "xkd_jax.features": (("--checkpoint=RUN", "--input=DIR"), "--output"),
    "xkd_jax.inpaint": (
        ("--checkpoint=RUN", "--input=a.mp4", "--output=b.mp4", "--mask=1"),
        "--mask: 1;",
    ),
    "xkd_jax.report": (("--workdir=RUN", "--clips=0"), "--clips: 0;"),
    "xkd_jax.interop.export": (
        ("--checkpoint=RUN", "--output=DIR", "--format=onnx"),
        "onnx",
    ),
    "xkd_jax.interop.import_release": (
        ("--input=XKD", "--output=DIR", "--video_patch=4,x"),
        "'4,x'",
    ),
    "input_pipeline.prepare": (
        ("--dataset=folder", "--source=A", "--output=B", "--frame-rate=8"),
        "--frame-rate=8",
    ),
    "input_pipeline.inspect": (("--data=DIR", "two\nlines"), "two lines"),
    "input_pipeline.benchmark": (("--config=configs/demo.py", "extra"), "extra"),
    "input_pipeline.datasets.generated": (("--output=DIR", "--val=few"), "few"),
}


def test_the_table_has_all_programs():
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PROGRAMS}
    modules = {module.removesuffix(".__main__") for module in modules}
    assert modules == WRONG.keys()


@pytest.mark.parametrize("module", WRONG)
def test_a_wrong_flag_is_one_line_and_exit_code_1(module):
    flags, part = WRONG[module]
    process = runs.start_module(module, *flags, stderr=subprocess.PIPE)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert not output
    [line] = errors.splitlines()
    assert line.startswith("error: ") and part in line


@pytest.mark.parametrize("argv", [["--output="], ["--output", ""], ["--rate=1", "--output="]])
def test_an_empty_value_is_not_the_current_folder(argv):
    parser = program.Parser("module", "")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--rate")
    assert parser.parse_args(["--output", ".", "--rate=1"]).output == pathlib.Path()
    with pytest.raises(SystemExit, match=r"^error: --output is empty; allowed: a value; see --h"):
        parser.parse_args(argv)


@pytest.mark.parametrize("module", WRONG)
def test_help_is_about_the_program(module):
    process = runs.start_module(module, "--help", stderr=subprocess.PIPE)
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert f"python -m {module} --" in output


def test_a_program_prints_names_safely_and_looks_below_home(tmp_path):
    """The quickest one, from end to end."""
    name = b"\x1b[31mred \xff"
    done = subprocess.run(
        [sys.executable, "-m", "input_pipeline.inspect", b"--data=~/" + name],
        cwd=ROOT,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
    )
    assert done.returncode == 1
    expected = f"error: --data={tmp_path}/\\x1b[31mred \\xff is not a folder;"
    assert done.stderr.decode().startswith(expected)
