"""What the log shows of losses, gradients and data."""

import json

import pytest

from tests.xkd_jax.report.conftest import log_line
from tests.xkd_jax.report.health.conftest import findings_of, steps
from xkd_jax.report import history
from xkd_jax.run import data_log


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data/with_sound": 0.1}, "only 10% of the clips"),
        ({"gradient_norm/video/encoder": 5.0}, "the gradient of the encoder of video is 50 times"),
        ({"gradient_norm/audio/encoder": 0.0}, "No gradient reaches the encoder of audio"),
        ({"reconstruction/audio": 1.0}, "masked audio is not learned"),
        ({"speed/data_wait": 0.8}, "wait for data 80%"),
    ],
)
def test_warnings(judge_log, changes, words):
    verdict = judge_log([log_line(step, **changes) for step in steps()])
    assert verdict.level == "warning"
    assert any(words in f.text for f in findings_of(verdict, "warning")), verdict.findings


def test_a_mixture_without_much_sound_is_to_be_weighted_otherwise(judge_log, tmp_path):
    lines = [log_line(step, **{"data/with_sound": 0.2}) for step in steps()]
    counts = data_log.Counts(30, 30, 20, 0)
    for shares, remedy in (({"A": 1.0}, "data.require='both'"), ({"A": 0.2, "B": 0.8}, "weights")):
        counts = counts._replace(shares=shares)
        (tmp_path / data_log.COUNTS).write_text(json.dumps(counts._asdict()))
        [warning] = findings_of(judge_log(lines), "warning")
        assert remedy in warning.remedies[0]


def test_a_rising_loss_is_a_warning_with_its_step(judge_log):
    totals = [3, 2, 1, 1, 1, 2, 3, 4, 5, 6]
    verdict = judge_log([log_line(s, total=t) for s, t in zip(steps(), totals, strict=True)])
    [warning] = findings_of(verdict, "warning")
    assert warning.since == 40
    assert "The total loss ends 400% above its lowest" in warning.text


def test_clips_of_other_recordings_are_a_warning_with_the_names(judge_log, tmp_path):
    lines = [log_line(step) | {"data/replaced": 0.0} for step in steps()]
    assert judge_log(lines).level == "good"
    assert "data/replaced" not in str(history.charts(history.read(tmp_path)))
    lines[3]["data/replaced"], lines[5]["data/replaced"] = 4.0, 3.0
    (tmp_path / "unreadable-00000.json").write_text('{"a/\\u001b.mp4": "truncated"}')
    [warning] = findings_of(judge_log(lines), "warning")
    assert warning.since == 40
    assert warning.text == (
        "7 clips taken from other recordings than the requested ones; 1 recording could not be "
        "read: a/\\x1b.mp4 (truncated)."
    )
    assert "data/replaced" in str(history.charts(history.read(tmp_path)))
