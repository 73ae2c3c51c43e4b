"""What the logged monitors show: collapse, since when, and what comes before it."""

import numpy as np
import pytest

from tests.tiny import tiny_config
from tests.xkd_jax.report.conftest import log_line
from tests.xkd_jax.report.health.conftest import LOG_J, findings_of, steps
from xkd_jax.report.health import monitors


def test_distillation_gone_to_zero_is_collapse_since_it_stayed_there(judge_log):
    config = tiny_config()
    config.xkd.centering = False
    values = [3, 2, 0.1, 2, 1, 0.1, 0.05, 0.04, 0.03, 0.02]  # once collapsed, and back again
    lines = [log_line(s, distillation=v, kl=v / 2) for s, v in zip(steps(), values, strict=True)]
    verdict = judge_log(lines, config)
    assert verdict.level == "collapsed"
    assert "Collapsed, since step 60" in verdict.headline
    collapses = findings_of(verdict, "collapsed")
    assert {f.since for f in collapses} == {60}
    assert all("distillation/" in f.text for f in collapses)
    assert "config.xkd.centering=True" in collapses[0].remedies[0]


def test_kl_gone_to_zero_is_collapse(judge_log):
    config = tiny_config()
    config.model.projector.norm = "none"
    values = np.geomspace(2, 0.01, 10)
    verdict = judge_log([log_line(s, kl=v) for s, v in zip(steps(), values, strict=True)], config)
    began = next(s for s, v in zip(steps(), values, strict=True) if v <= monitors.KL_GONE * LOG_J)
    assert verdict.headline.startswith(f"Collapsed, since step {began}")
    assert "kl/" in findings_of(verdict, "collapsed")[0].text
    assert "projector.norm='every'" in findings_of(verdict, "collapsed")[0].remedies[0]


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_uniform_outputs_are_collapse(judge_log, network):
    lines = [log_line(s, **{f"entropy/audio_{network}": LOG_J - 0.01}) for s in steps()]
    [collapse] = findings_of(judge_log(lines), "collapsed")
    assert f"audio {network}" in collapse.text
    assert collapse.since == 10


def test_what_the_config_does_already_is_not_advised(judge_log):
    verdict = judge_log([log_line(step, distillation=0.01, kl=0.005) for step in steps()])
    advice = " ".join(tip for f in verdict.findings for tip in f.remedies)
    assert "teacher_temperature" in advice
    assert "centering=True" not in advice
    assert "norm='every'" not in advice


def test_outputs_alike_for_all_clips_are_collapse_long_before_kl_shows_it(judge_log):
    shares = [0.5, 0.01, 0.3, 0.1, 0.05, 0.03, 0.019, 0.015, 0.01, 0.001]
    lines = [
        log_line(20 * step, **{"between_clips/video_teacher": share})
        for step, share in enumerate(shares, 1)
    ]
    [collapse] = findings_of(judge_log(lines), "collapsed")
    assert collapse.since == 140
    assert collapse.text.startswith("The video teacher's outputs hardly depend on the clip: 0.10%")
    assert any("teacher_temperature" in tip for tip in collapse.remedies)
    early = [log_line(step, **{"between_clips/video_teacher": 0.001}) for step in (10, 50, 90)]
    assert not findings_of(judge_log(early), "collapsed"), "networks that are fresh"


def test_on_the_way_to_collapse_is_a_warning(judge_log):
    def falling(share):
        between = {f"between_clips/{m}_teacher": share for m in ("video", "audio")}
        values = np.geomspace(3, 0.3, 10)
        lines = [log_line(s, kl=v, **between) for s, v in zip(steps(), values, strict=True)]
        return judge_log(lines)

    verdict = falling(0.05)
    assert verdict.level == "warning"
    assert "on its way to collapse" in verdict.findings[0].text
    # A student that learns, of teachers that tell clips apart.
    verdict = falling(0.4)
    assert verdict.level == "good"
    assert "40% of the video teacher's and 40% of the audio teacher's" in str(verdict.findings)


def test_one_low_value_is_no_collapse(judge_log):
    values = [*[3.0] * 9, 0.01]
    lines = [log_line(s, distillation=v) for s, v in zip(steps(), values, strict=True)]
    assert not findings_of(judge_log(lines), "collapsed")
