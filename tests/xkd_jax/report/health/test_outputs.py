"""What the networks' outputs for clips show, and the clips themselves."""

import pytest

from tests.xkd_jax.report.health.conftest import findings_of, judge_clips


def test_without_a_log_the_outputs_decide():
    assert judge_clips().level == "good"
    collapsed = judge_clips(information={("teacher", "video"): 0.01})
    assert collapsed.level == "collapsed"
    assert "hardly depend on the clip" in collapsed.headline
    assert judge_clips(similarity={("student", "audio"): 0.9999}).level == "collapsed"


def test_a_student_that_does_not_follow_yet_is_a_warning():
    verdict = judge_clips(information={("student", "video"): 0.01})
    assert verdict.level == "warning"
    assert "hardly depend on the clip (yet)" in verdict.findings[0].text


def test_few_clips_are_not_judged_by_their_outputs():
    assert judge_clips(clips=4, information={("teacher", "video"): 0.01}).level == "good"


@pytest.mark.parametrize(
    ("changes", "words"),
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
def test_warnings(changes, words):
    verdict = judge_clips(**changes)
    assert verdict.level == "warning"
    assert any(words in f.text for f in findings_of(verdict, "warning")), verdict.findings


def test_features_no_better_than_untrained_ones_are_no_evidence():
    verdict = judge_clips(accuracies={"video": (0.6, 0.6, 0.1)})
    [finding] = [f for f in verdict.findings if "nearest neighbors" in f.text]
    assert finding.level == "note"
    assert "no better than without training" in finding.text
