"""Each start of a run leaves a line: after which step, with which code and packages."""

import json
import subprocess

import numpy as np
import pytest

from xkd_jax.run import starts


def test_a_start_names_code_and_packages(tmp_path):
    path = tmp_path / "starts.jsonl"
    start = starts.append(path, 0)
    assert start["code"].startswith("xkd_jax 0.")
    assert start["packages"]["numpy"] == np.__version__
    assert list(start["packages"])[:2] == ["python", "absl-py"]
    starts.append(path, 7)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == start and [line["step"] for line in lines] == [0, 7]
    assert starts.steps(path) == [0, 7]


def test_a_part_of_a_line_spoils_no_other(tmp_path):
    path = tmp_path / "starts.jsonl"
    starts.append(path, 3)
    with path.open("ab") as file:
        file.write(b'{"step": 5, "co')
    starts.append(path, 9)
    assert starts.steps(path) == [3, 9]
    assert starts.steps(tmp_path / "none") == []


@pytest.mark.parametrize("line", ["5", "[]", "null", "{}", '{"step": "5"}', '{"step": -1}', "\x00"])
def test_a_line_of_another_kind_is_left_out(tmp_path, line):
    path = tmp_path / "starts.jsonl"
    path.write_text(line + "\n")
    starts.append(path, 2)
    assert starts.steps(path) == [2]


def test_the_commit_is_that_of_the_clone_and_says_if_files_have_changed(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(starts, "_ROOT", tmp_path)
    assert "commit" not in starts.code()
    git("init", "--quiet")
    assert "commit" not in starts.code()  # there is none yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "--message=one")
    assert starts.code().endswith(f", commit {git('rev-parse', 'HEAD')}")
    (tmp_path / "a").write_text("2")
    assert starts.code().endswith(f", commit {git('rev-parse', 'HEAD')}, changed since")
