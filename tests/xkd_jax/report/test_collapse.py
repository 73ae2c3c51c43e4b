"""Runs that are made to collapse get the verdict collapsed, with a step; others do not."""

import json

import pytest

from tests.integration import runs
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
    "--config.xkd.ema_end=0.99",
)
# Teachers with a low momentum collapse within the few steps of a test.
FAST = ("--config.xkd.ema_video=0.9", "--config.xkd.ema_audio=0.9")


@pytest.fixture(scope="module")
def verdict_of(tmp_path_factory):
    """Returns a function from flags to the verdict in report.json on a run of 150 steps."""

    def verdict_of(*flags):
        workdir = tmp_path_factory.mktemp("run")
        code, output = runs.run(
            f"--workdir={workdir}",
            f"--config.data.path={runs.clips(32, 24)}",
            "--config.data.generated.train=32",
            "--config.data.generated.test=24",
            "--config.steps=150",
            "--config.saving.every_steps=150",
            "--config.log.every_steps=10",
            *flags,
        )
        assert code == 0, output
        program.main([f"--workdir={workdir}", "--shown=1"])
        found = json.loads((workdir / "report" / "report.json").read_text())
        assert (workdir / "report" / "report.html").is_file()
        return found["verdict"]

    return verdict_of


def collapsed(verdict):
    return [f for f in verdict["findings"] if f["level"] == "collapsed"]


@pytest.mark.slow
def test_a_run_that_learns(verdict_of):
    verdict = verdict_of(*SOFT)
    assert not collapsed(verdict), verdict
    assert any(
        "Reconstruction of masked video is learned" in f["text"] for f in verdict["findings"]
    )
    assert not verdict["not_shown"]


@pytest.mark.slow
def test_no_centering(verdict_of):
    verdict = verdict_of("--config.xkd.centering=False", *FAST)
    assert verdict["headline"].startswith("Collapsed, since step ")
    by_monitor = [f for f in collapsed(verdict) if f["since_step"] is not None]
    assert min(f["since_step"] for f in by_monitor) <= 100
    assert any("distillation" in f["text"] for f in by_monitor)
    assert any("config.xkd.centering=True" in tip for f in by_monitor for tip in f["try"])
    # The networks' outputs for the clips show it as well.
    assert any("hardly depend on the clip" in f["text"] for f in collapsed(verdict))


@pytest.mark.slow
def test_no_projector_norm(verdict_of):
    verdict = verdict_of("--config.model.projector.norm=none")
    assert verdict["headline"].startswith("Collapsed, since step ")
    by_monitor = [f for f in collapsed(verdict) if f["since_step"] is not None]
    assert min(f["since_step"] for f in by_monitor) <= 100
    assert any("norm='every'" in tip for f in by_monitor for tip in f["try"])
