"""Runs that are made to collapse get the verdict collapsed, with a step; others do not."""

import json

import pytest

from tests.integration import runs
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.report import __main__ as program

# The demo's regime, see docs/demo.md.
SOFT = (
    "--config.xkd.student_temperature=0.5",
    *(
        f"--config.xkd.teacher_temperature.{m}_{end}=0.05"
        for m in ("video", "audio")
        for end in ("start", "end")
    ),
    "--config.xkd.ema_video=0.99",
    "--config.xkd.ema_audio=0.99",
    "--config.xkd.ema_end=0.998",
)
# Teachers with a low momentum, without the alignment that holds up what differs between clips,
# collapse within the few steps of a test.
FAST = ("--config.xkd.ema_video=0.9", "--config.xkd.ema_audio=0.9", "--config.xkd.lambda_da=0.0")


@pytest.fixture(scope="module")
def report_of(tmp_path_factory):
    """Returns a function from flags to the output and report.json of a run of 150 steps."""

    def report_of(*flags):
        workdir = tmp_path_factory.mktemp("run")
        code, output = runs.run(
            f"--workdir={workdir}",
            f"--config.data.path={runs.clips(32, 24)}",
            "--config.data.generated.train=32",
            "--config.data.generated.test=24",
            "--config.steps=150",
            "--config.saving.every_steps=150",
            "--config.log.every_steps=10",
            "--config.probe.every_steps=25",
            *flags,
        )
        assert code == 0, output
        program.main([f"--workdir={workdir}", "--shown=1"])
        found = json.loads((workdir / "report" / "report.json").read_text())
        assert (workdir / "report" / "report.html").is_file()
        return output, found

    return report_of


def warned(output):
    """Returns the warnings about the run's health in its output."""
    lines = [line for line in output.splitlines() if line.startswith("warning: step")]
    return [line for line in lines if "teacher" in line or "student" in line]


def collapsed(verdict):
    return [f for f in verdict["findings"] if f["level"] == "collapsed"]


@pytest.mark.slow
def test_a_run_that_learns(report_of):
    output, report = report_of(*SOFT)
    verdict = report["verdict"]
    assert not collapsed(verdict), verdict
    assert not any("hardly depend" in line for line in warned(output))
    assert not any("nats" in line for line in warned(output))
    # RankMe and LiDAR of features, and both classifiers.
    last = report["training"]["last"]
    for kind in ("rankme", "lidar"):
        for m in MODALITIES:
            assert all(1 < last[f"{kind}/{m}_{n}"] < 24 for n in ("teacher", "student"))
    assert {"probe/fused_teacher", "linear_probe/fused_teacher"} <= set(last)
    assert any(
        "Reconstruction of masked video is learned" in f["text"] for f in verdict["findings"]
    )
    [line] = verdict["not_shown"]
    assert line.startswith("Evaluation: compare/results.json is not there")


@pytest.mark.slow
def test_no_centering(report_of):
    output, report = report_of("--config.xkd.centering=False", *FAST)
    verdict = report["verdict"]
    assert verdict["headline"].startswith("Collapsed, since step ")
    by_monitor = [f for f in collapsed(verdict) if f["since_step"] is not None]
    assert min(f["since_step"] for f in by_monitor) <= 100
    assert any("distillation" in f["text"] for f in by_monitor)
    assert any("config.xkd.centering=True" in tip for f in by_monitor for tip in f["try"])
    # The run has said so while it went, with the same advice.
    for sign in ("video teacher's outputs hardly", "video student has learned it by heart"):
        [warning] = [line for line in warned(output) if sign in line]
        assert warning.startswith("warning: step 100: ")
        assert "config.xkd.centering=True" in warning
    # The outputs hardly use more than one direction; the features have not collapsed.
    last = report["training"]["last"]
    assert all(last[f"rankme/{m}_outputs"] < 2 < last[f"rankme/{m}_teacher"] for m in MODALITIES)
    # The networks' outputs for the clips show it as well.
    assert any("hardly depend on the clip" in f["text"] for f in collapsed(verdict))


@pytest.mark.slow
def test_no_projector_norm(report_of):
    # Outputs use fewer directions from the first steps on.
    output, report = report_of(
        "--config.model.projector.norm=none", "--config.probe.every_steps=10"
    )
    verdict = report["verdict"]
    assert verdict["headline"].startswith("Collapsed, since step ")
    by_monitor = [f for f in collapsed(verdict) if f["since_step"] is not None]
    assert min(f["since_step"] for f in by_monitor) <= 100
    assert any("norm='every'" in tip for f in by_monitor for tip in f["try"])
    # The outputs have come to use fewer directions, as the run has said while it went.
    [finding] = [f for f in verdict["findings"] if "rankme/audio_outputs is" in f["text"]]
    [warning] = [line for line in warned(output) if "rankme/audio_outputs is" in line]
    for text in (finding["text"], warning):
        assert "The audio teacher's outputs use fewer and fewer directions" in text
    assert "norm='every'" in warning
    # So it has of outputs that are all equally likely, once they have been for two logged lines.
    [warning] = [line for line in warned(output) if "entropy/video_teacher" in line]
    assert warning.startswith("warning: step 100: The video teacher gives every output the same")
