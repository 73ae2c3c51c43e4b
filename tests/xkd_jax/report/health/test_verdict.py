"""What the findings come to in one sentence."""

from tests.xkd_jax.report.conftest import log_line
from tests.xkd_jax.report.health.conftest import judge_clips, steps
from xkd_jax.report.health import verdict


def test_a_healthy_run(judge_log):
    healthy = judge_log([log_line(step) for step in steps()])
    assert healthy.level == "good"
    assert healthy.headline == (
        "Not collapsed, and learning; judged by the monitors that the run logged."
    )


def test_the_worst_finding_decides_and_comes_first():
    mixed = judge_clips(silent=0.9, still=0.5, accuracies={"video": (0.1, 0.1, 0.1)})
    levels = [finding.level for finding in mixed.findings]
    assert levels == ["warning", "warning", "good", "good", "note"]
    assert mixed.headline == (
        "Not collapsed, with 2 warnings; judged by what its networks make of clips."
    )
    assert "with a warning;" in judge_clips(silent=0.9).headline


def test_the_headline_names_the_collapse_that_began_first(judge_log):
    lines = [
        log_line(
            step,
            distillation=0.01 if step > 50 else 3.0,
            **{"entropy/audio_student": 4.15 if step > 20 else 1.0},
        )
        for step in steps()
    ]
    headline = judge_log(lines).headline
    assert headline.startswith("Collapsed, since step 30. The audio student gives every output")


def test_nothing_to_judge():
    assert verdict.judge(None, None, None, None).level == "note"
