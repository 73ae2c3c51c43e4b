"""What all programs have in common: terminals are safe from them, and `~` is the home folder."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

from input_pipeline import program

ROOT = pathlib.Path(__file__).parent.parent
INNER = {"probing"}  # processes that programs start, speak with, and end
PROGRAMS = [
    path
    for package in ("xkd_jax", "input_pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
    if re.search(r"^if __name__ == .__main__.:", path.read_text(), re.M) and path.stem not in INNER
]


def test_the_programs_are_found():
    assert {"main", "prepare", "features", "inspect"} <= {path.stem for path in PROGRAMS}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_program_starts_in_the_same_way(path):
    """Before it imports anything: a signal may come at any instant."""
    _, first, *_ = ast.parse(path.read_text()).body
    assert ast.unparse(first).splitlines() == [
        "if __name__ == '__main__':",
        "    from input_pipeline import program",
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
