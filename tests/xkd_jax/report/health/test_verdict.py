"""What the findings come to in one sentence."""

from tests.tiny import tiny_config
from tests.xkd_jax.report.conftest import log_line
from tests.xkd_jax.report.health.conftest import OUTPUTS, judge_clips, steps
from xkd_jax.report import history
from xkd_jax.report.health import verdict
from xkd_jax.report.health.outputs import Measured
from xkd_jax.report.representations import OfClass


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


def test_each_thing_is_said_once(judge_log, tmp_path):
    log = [log_line(step) for step in steps()]
    of_class = OfClass(0.5, 2.0, 0.7, 0.6)
    teachers = [("teacher", "video"), ("teacher", "audio")]
    measured = Measured(
        clips=100,
        information=dict.fromkeys(teachers, 2.0),
        errors={"video": 0.5, "audio": 0.6},
        baselines={"video": 1.0, "audio": 1.0},
        accuracies={"video": (0.6, 0.2, 0.1), "audio": (0.7, 0.3, 0.1)},
        classes=dict.fromkeys(teachers, of_class),
    )
    judge_log(log)
    found = verdict.judge(history.read(tmp_path), tiny_config(), OUTPUTS, measured)
    beginnings = (
        "The log shows no collapse: outputs change with the clip (between_clips: 40% of the video "
        "teacher's and 40% of the audio teacher's outputs differ between clips; collapsed: 2% or "
        "less) and students still differ from their teachers (KL divergence: 48% for the video "
        "student and 48% for the audio student, in shares of log J for J outputs; collapsed: 2% or "
        "less).",
        "Outputs tell clips apart. Of the information that identifies one of the report's 100 "
        "clips, they carry a part: the video teacher's 43%, the audio teacher's 43%",
        "Reconstruction of masked video is learned: on the report's clips",
        "Reconstruction of masked audio is learned: on the report's clips",
        "The nearest neighbors name the class of 60% of the clips by features of video (untrained: "
        "20%) and 70% of the clips by features of audio (untrained: 30%); chance is 10%. A crude",
        "Of what it takes to name a clip's class, the video teacher's outputs say 25% (the "
        "class makes 70% of their variance) and the audio teacher's outputs say 25%",
    )
    assert len(found.findings) == len(beginnings)
    for finding, beginning in zip(found.findings, beginnings, strict=True):
        assert finding.text.startswith(beginning)


def test_nothing_to_judge():
    assert verdict.judge(None, None, None, None).level == "note"
