"""The table of the task `compare` on the page, and files in its place that are no such table."""

import copy
import json
import os
import shutil

import numpy as np
import pytest

from tests.damage import damages
from tests.xkd_jax.report.health.conftest import judge_clips
from tests.xkd_jax.report.test_report import make
from xkd_jax.downstream import compare
from xkd_jax.downstream.selection import Candidate, Outcome
from xkd_jax.encoders import networks
from xkd_jax.report import comparison

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def outcome(right, count=4):
    """An outcome of a test with `count` recordings, of which `right` are classified correctly."""
    labels = np.arange(count) % 2
    wrong = np.arange(count) >= right
    return Outcome(
        varied="C",
        candidates=(Candidate(1.0, None, right / count),),
        chosen=1.0,
        scores=np.eye(2, dtype=np.float32)[(labels + wrong) % 2],
        targets=np.eye(2, dtype=bool)[labels],
        counts={"train": 8, "held_out": 0, "test": count},
    )


@pytest.fixture
def evaluated(run, tmp_path):
    """Returns the workdir of a run with a table, and the table as plain values."""
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    cells = {
        ("video", "svm", "pretrained"): {"1": outcome(3), "2": outcome(4)},
        ("video", "svm", "untrained"): {"1": outcome(2), "2": outcome(2)},
        ("fused", "knn", "pretrained"): {"1": outcome(2), "2": outcome(2)},
        ("fused", "knn", "untrained"): {"1": outcome(3), "2": outcome(3)},
    }
    provenance = networks.load(run).description["provenance"]
    content = {
        **compare.collect(cells, ("a", HOSTILE), False),
        "title": HOSTILE,
        "checkpoint": {"path": HOSTILE, "network": "teacher", "provenance": provenance},
    }
    (workdir / "compare").mkdir()
    write(workdir, content)
    return workdir, content


def write(workdir, content):
    (workdir / comparison.FILE).write_text(json.dumps(content))


def not_shown(workdir, tmp_path):
    """Returns the line that says why there is no evaluation, and the text of the page."""
    page, numbers = make(workdir, tmp_path / "report")
    assert "Evaluation" not in page.titles and "evaluation" not in numbers
    [line] = [x for x in numbers["verdict"]["not_shown"] if x.startswith("Evaluation: ")]
    return line, (tmp_path / "report" / "report.html").read_text()


def test_the_table_follows_the_verdict(evaluated, tmp_path):
    workdir, _ = evaluated
    page, numbers = make(workdir, tmp_path / "report")
    assert page.titles == ["Verdict", "Evaluation", "Training"]
    found = numbers["evaluation"]
    assert found["recordings"] == 8 and found["chance"] == 0.5 and found["metric"] == "top1"
    assert [row["gain"] for row in found["rows"]] == [0.375, -0.25]
    text = (tmp_path / "report" / "report.html").read_text()
    assert "the classes of 8 test recordings from features of the teachers" in text
    for cells in (
        ("video, linear SVM", "87.5 ± 17.7", "50.0 ± 0.0", "+37.5"),
        ("both, nearest neighbors", "50.0 ± 0.0", "75.0 ± 0.0", "-25.0"),
        ("chance", "50.0", "50.0", ""),
    ):
        assert "".join(f"<td>{cell}</td>" for cell in cells) in text
    assert "alert(1)" not in text
    assert not any("Evaluation" in line for line in numbers["verdict"]["not_shown"])


def test_the_table_of_a_checkpoint_is_in_the_folder_of_its_run(evaluated, tmp_path):
    [checkpoint] = (evaluated[0] / "checkpoints").glob("[0-9]*")
    page, _ = make(checkpoint, tmp_path / "report")
    assert page.titles == ["Verdict", "Evaluation", "Training"]


def test_without_a_table_the_page_says_how_to_make_it(run, tmp_path, capsys):
    line, _ = not_shown(run, tmp_path)
    assert line == (
        "Evaluation: compare/results.json is not there. To make it from labeled VIDEOS: "
        "python -m xkd_jax.main --config=configs/eval/compare.py "
        f"--config.checkpoint={run} --config.data.path=VIDEOS --workdir={run}/compare"
    )
    assert f"not shown: {line}\n" in capsys.readouterr().out


@pytest.mark.parametrize("field", ["step", "state_sha256", "source"])
def test_a_table_of_other_weights_is_left_out(evaluated, tmp_path, field):
    workdir, content = evaluated
    content["checkpoint"]["provenance"][field] = HOSTILE
    write(workdir, content)
    line, text = not_shown(workdir, tmp_path)
    assert "compare/results.json is of other weights than these. To make it" in line
    assert "alert(1)" not in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metric",), HOSTILE),
        (("metric",), []),
        (("chance",), HOSTILE),
        (("chance",), True),
        (("chance",), float("nan")),
        (("chance",), 10**400),
        (("rows",), []),
        (("rows",), {"a": 1}),
        (("rows", 0, "features"), HOSTILE),
        (("rows", 0, "classifier"), HOSTILE),
        (("rows", 0, "pretrained"), None),
        (("rows", 0, "untrained", "scores", "top1", "mean"), 1.5),
        (("rows", 0, "untrained", "scores", "top1", "spread"), HOSTILE),
        (("rows", 0, "pretrained", "partitions", "1", "recordings", "test"), HOSTILE),
        (("checkpoint", "network"), HOSTILE),
        (("checkpoint",), HOSTILE),
    ],
)
def test_a_table_with_other_values_is_left_out(evaluated, path, value):
    workdir, content = evaluated
    provenance = copy.deepcopy(content["checkpoint"]["provenance"])
    place = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    write(workdir, content)
    with pytest.raises(ValueError, match=r"^is damaged, or not what the task compare writes$"):
        comparison.read(workdir, provenance)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b"[" * 100_000, b'{"rows": [1'])
def test_a_file_that_is_no_table_is_left_out(evaluated, tmp_path, data):
    workdir, _ = evaluated
    (workdir / comparison.FILE).write_bytes(data)
    line, _ = not_shown(workdir, tmp_path)
    assert "compare/results.json is damaged, or not what the task compare writes." in line


def test_a_pipe_is_not_waited_for(evaluated):
    workdir, _ = evaluated
    (workdir / comparison.FILE).unlink()
    os.mkfifo(workdir / comparison.FILE)
    with pytest.raises(ValueError, match=r"^is damaged"):
        comparison.read(workdir, {})


@pytest.mark.faults
def test_any_damage_gives_a_table_or_is_told(evaluated):
    workdir, content = evaluated
    data = json.dumps(content).encode()
    for damaged in damages(data, 600):
        (workdir / comparison.FILE).write_bytes(damaged)
        try:
            found = comparison.read(workdir, content["checkpoint"]["provenance"])
        except ValueError as error:
            assert str(error).startswith("is ")
        else:
            assert 0 <= found.chance <= 1 and found.rows


def test_the_verdict_points_to_the_table():
    [alone] = [f.text for f in judge_clips().findings if "neighbors" in f.text]
    assert "60% of the clips by features of video (untrained: 20%); chance is 10%" in alone
    assert "the report's 100 clips vote on each other, without a training set." in alone
    [beside] = [f.text for f in judge_clips(table="Evaluation").findings if "neighbors" in f.text]
    assert beside == f"{alone} The accuracies to go by are in the table below (Evaluation)."
