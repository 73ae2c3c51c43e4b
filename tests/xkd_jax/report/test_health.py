"""The verdict: what counts as collapsed, and since which step."""

import math

import numpy as np
import pytest

from tests.tiny import tiny_config
from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax.report import health, history
from xkd_jax.report.health import Measured

OUTPUTS = 64
LOG_J = math.log(OUTPUTS)


@pytest.fixture
def judge(tmp_path):
    """Returns a function from the lines of a log, and a config, to the verdict."""

    def judge(lines, config=None, measured=None):
        write_log(tmp_path, lines)
        found = history.read(tmp_path)
        return health.judge(found, config or tiny_config(), OUTPUTS, measured)

    return judge


def steps(count=10):
    return range(10, 10 * count + 10, 10)


def of(verdict, level):
    return [finding for finding in verdict.findings if finding.level == level]


def test_a_healthy_run(judge):
    verdict = judge([log_line(step) for step in steps()])
    assert verdict.level == "good"
    assert verdict.headline.startswith("Not collapsed, and learning")


def test_distillation_gone_to_zero_is_collapse_since_it_stayed_there(judge):
    config = tiny_config()
    config.xkd.centering = False
    values = [3, 2, 0.1, 2, 1, 0.1, 0.05, 0.04, 0.03, 0.02]  # once collapsed, and back again
    lines = [log_line(s, distillation=v, kl=v / 2) for s, v in zip(steps(), values, strict=True)]
    verdict = judge(lines, config)
    assert verdict.level == "collapsed"
    assert "Collapsed, since step 60" in verdict.headline
    found = of(verdict, "collapsed")
    assert {f.since for f in found} == {60}
    assert all("distillation/" in f.text for f in found)
    assert "config.xkd.centering=True" in found[0].remedies[0]


def test_kl_gone_to_zero_is_collapse(judge):
    config = tiny_config()
    config.model.projector.norm = "none"
    values = np.geomspace(2, 0.01, 10)
    verdict = judge([log_line(s, kl=v) for s, v in zip(steps(), values, strict=True)], config)
    began = next(s for s, v in zip(steps(), values, strict=True) if v <= health.SAME * LOG_J)
    assert verdict.headline.startswith(f"Collapsed, since step {began}")
    assert "kl/" in of(verdict, "collapsed")[0].text
    assert "projector.norm='every'" in of(verdict, "collapsed")[0].remedies[0]


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_uniform_outputs_are_collapse(judge, network):
    lines = [log_line(s, **{f"entropy/audio_{network}": LOG_J - 0.01}) for s in steps()]
    [found] = of(judge(lines), "collapsed")
    assert f"audio {network}" in found.text
    assert found.since == 10


def test_what_the_config_does_already_is_not_advised(judge):
    verdict = judge([log_line(step, distillation=0.01, kl=0.005) for step in steps()])
    advice = " ".join(tip for f in verdict.findings for tip in f.remedies)
    assert "centering=True" not in advice
    assert "norm='every'" not in advice


def test_outputs_alike_for_all_clips_are_collapse_long_before_kl_shows_it(judge):
    shares = [0.5, 0.01, 0.3, 0.1, 0.05, 0.03, 0.019, 0.015, 0.01, 0.001]
    lines = [
        log_line(20 * step, **{"between_clips/video_teacher": share})
        for step, share in enumerate(shares, 1)
    ]
    [found] = of(judge(lines), "collapsed")
    assert found.since == 140
    assert found.text.startswith("The video teacher's outputs hardly depend on the clip: 0.10%")
    assert any("teacher_temperature" in tip for tip in found.remedies)
    early = [log_line(step, **{"between_clips/video_teacher": 0.001}) for step in (10, 50, 90)]
    assert not of(judge(early), "collapsed"), "networks that are fresh"


def test_on_the_way_to_collapse_is_a_warning(judge):
    def falling(share):
        between = {f"between_clips/{m}_teacher": share for m in ("video", "audio")}
        values = np.geomspace(3, 0.3, 10)
        return judge([log_line(s, kl=v, **between) for s, v in zip(steps(), values, strict=True)])

    verdict = falling(0.05)
    assert verdict.level == "warning"
    assert "on its way to collapse" in verdict.findings[0].text
    # A student that learns, of teachers that tell clips apart.
    verdict = falling(0.4)
    assert verdict.level == "good"
    assert "40% of the video teacher's and 40% of the audio teacher's" in str(verdict.findings)


def test_one_low_value_is_no_collapse(judge):
    values = [*[3.0] * 9, 0.01]
    verdict = judge([log_line(s, distillation=v) for s, v in zip(steps(), values, strict=True)])
    assert not of(verdict, "collapsed")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"data/with_sound": 0.1}, "only 10% of the clips"),
        ({"gradient_norm/video/encoder": 5.0}, "Modality imbalance: the gradient of the encoder"),
        ({"gradient_norm/audio/encoder": 0.0}, "No gradient reaches the encoder of audio"),
        ({"reconstruction/audio": 1.0}, "masked audio is not learned"),
        ({"speed/data_wait": 0.8}, "wait for data 80%"),
    ],
)
def test_warnings(judge, more, words):
    verdict = judge([log_line(step, **more) for step in steps()])
    assert verdict.level == "warning"
    assert any(words in f.text for f in of(verdict, "warning")), verdict.findings


def test_a_rising_loss_is_a_warning_with_its_step(judge):
    totals = [3, 2, 1, 1, 1, 2, 3, 4, 5, 6]
    verdict = judge([log_line(s, total=t) for s, t in zip(steps(), totals, strict=True)])
    [found] = of(verdict, "warning")
    assert found.since == 40
    assert "risen" in found.text


def measured(**more):
    networks = [("teacher", "video"), ("teacher", "audio"), ("student", "video")]
    fields = {
        "clips": 100,
        "information": dict.fromkeys(networks, 2.0),
        "similarity": dict.fromkeys(networks, 0.5),
        "errors": {"video": 0.5},
        "baselines": {"video": 1.0},
        "accuracies": {"video": (0.6, 0.2, 0.1)},
    }
    return Measured(**(fields | more))


def test_without_a_log_the_outputs_decide():
    assert health.judge(None, None, OUTPUTS, measured()).level == "good"
    collapsed = health.judge(
        None, None, OUTPUTS, measured(information={("teacher", "video"): 0.01})
    )
    assert collapsed.level == "collapsed"
    assert "hardly depend on the clip" in collapsed.headline
    alike = health.judge(None, None, None, measured(similarity={("student", "audio"): 0.9999}))
    assert alike.level == "collapsed"


def test_a_student_that_does_not_follow_yet_is_a_warning():
    verdict = health.judge(None, None, OUTPUTS, measured(information={("student", "video"): 0.01}))
    assert verdict.level == "warning"


def test_few_clips_are_not_judged_by_their_outputs():
    few = measured(clips=4, information={("teacher", "video"): 0.01})
    assert health.judge(None, None, OUTPUTS, few).level == "good"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"silent": 0.9}, "90% of the clips looked at have no sound"),
        ({"dark": 1.0}, "show one color"),
        ({"still": 0.5}, "do not move"),
        ({"errors": {"video": 1.0}}, "no better"),
        (
            {"information": {("teacher", "video"): 4.0, ("teacher", "audio"): 0.6}},
            "Modality imbalance: the video teacher tells",
        ),
    ],
)
def test_warnings_of_what_was_looked_at(more, words):
    verdict = health.judge(None, None, OUTPUTS, measured(**more))
    assert verdict.level == "warning"
    assert any(words in f.text for f in of(verdict, "warning")), verdict.findings


def test_features_no_better_than_untrained_ones_are_no_evidence():
    verdict = health.judge(None, None, OUTPUTS, measured(accuracies={"video": (0.6, 0.6, 0.1)}))
    [found] = [f for f in verdict.findings if "Nearest neighbors" in f.text]
    assert found.level == "note"
    assert "no better than without training" in found.text


def test_nothing_to_judge():
    assert health.judge(None, None, None, None).level == "note"


def test_clips_of_other_recordings_are_told_of_with_the_names(judge, tmp_path):
    lines = [log_line(step) | {"data/replaced": 0.0} for step in steps()]
    assert judge(lines).level == "good"
    assert "data/replaced" not in str(history.charts(history.read(tmp_path)))
    lines[3]["data/replaced"], lines[5]["data/replaced"] = 4.0, 3.0
    (tmp_path / "unreadable-00000.json").write_text('{"a/\\u001b.mp4": "truncated"}')
    [found] = of(judge(lines), "warning")
    assert found.since == 40
    assert "7 clips were of other recordings" in found.text
    assert "since 1 could not be read: a/\\x1b.mp4 (truncated)." in found.text
    assert "data/replaced" in str(history.charts(history.read(tmp_path)))
