"""What a total loss that rises at the end of the log means."""

import numpy as np
import pytest

from tests.tiny import tiny_config
from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.report import history
from xkd_jax.report.health import verdict

COUNT = 40
HALF = np.arange(COUNT) >= COUNT // 2


@pytest.fixture
def log_of():
    """Returns a function from the values of metrics over the log to its lines.

    A metric that is not named stays as it is, and the total is that of the tiny config.
    """

    def log_of(**metrics):
        xkd = tiny_config().xkd
        weights = {
            "reconstruction": xkd.lambda_ae / 14,
            "alignment": xkd.lambda_da / 14,
            "distillation": xkd.lambda_kd / 14,
        }
        lines = []
        for n in range(COUNT):
            line = log_line(10 * (n + 1), **{f"reconstruction/{m}": 0.5 for m in MODALITIES})
            line |= {name: float(values[n]) for name, values in metrics.items()}
            line["total"] = sum(weights.get(k.split("/")[0], 0) * x for k, x in line.items())
            lines.append(line)
        return lines

    return log_of


def about_the_total(found):
    return [finding for finding in found.findings if "total loss" in finding.text]


def test_distillation_that_rises_while_outputs_tell_clips_apart_is_no_divergence(judge_log, log_of):
    rising = np.where(HALF, 5.0, 3.0)
    lines = log_of(
        **{"distillation/audio": rising, "between_clips/video_teacher": 0.3 + 0.05 * HALF}
    )
    [finding] = about_the_total(judge_log(lines))
    assert finding.level == "note" and not finding.remedies
    # 2 / 14 of a total of 5 + 2 + 6 fourteenths.
    assert "ends 15% above its lowest: 1.07, where it was 0.929 (means of 4" in finding.text
    assert "distillation/audio by 0.14. This is no divergence" in finding.text
    assert "video 30% at the lowest, 35% at the end; audio 40% at the lowest" in finding.text
    assert finding.since <= 10 * COUNT // 2


@pytest.mark.parametrize("distillation", [3.0, 5.0])
def test_reconstruction_that_rises_is_a_divergence(judge_log, log_of, distillation):
    lines = log_of(
        **{
            "reconstruction/video": np.where(HALF, 0.9, 0.5),
            "distillation/video": np.where(HALF, distillation, 3.0),
        }
    )
    [finding] = about_the_total(judge_log(lines))
    assert finding.level == "warning"
    assert "reconstruction/video by 0.14" in finding.text
    assert "Masked video is restored worse than before" in finding.text
    assert "the run diverges" in finding.text
    assert "learning_rate" in finding.remedies[0]


def test_distillation_that_rises_while_outputs_become_alike_is_a_warning(judge_log, log_of):
    lines = log_of(
        **{
            "distillation/audio": np.where(HALF, 5.0, 3.0),
            "between_clips/video_teacher": np.where(HALF, 0.2, 0.4),
        }
    )
    [finding] = about_the_total(judge_log(lines))
    assert finding.level == "warning"
    assert (
        "tell fewer clips apart (between_clips: video 40% at the lowest, 20% at the end"
        in finding.text
    )


def test_terms_are_named_by_their_weights_in_the_total(judge_log, log_of):
    """A term without weight is not in the total, whatever it does."""
    config = tiny_config()
    config.xkd.lambda_kd = 0.0
    lines = log_of(
        **{
            "distillation/audio": np.where(HALF, 5.0, 3.0),
            "alignment/teacher": np.where(HALF, 4.0, 1.0),
        }
    )
    [finding] = about_the_total(judge_log(lines, config))
    assert "these terms rose: alignment/teacher by 0.21. " in finding.text
    assert "no divergence" not in finding.text


def test_a_rise_of_some_percent_is_not_told(judge_log, log_of):
    lines = log_of(**{"distillation/audio": np.where(HALF, 3.3, 3.0)})
    assert not about_the_total(judge_log(lines))


def test_without_a_config_no_terms_are_named(tmp_path, log_of):
    write_log(tmp_path, log_of(**{"distillation/audio": np.where(HALF, 5.0, 3.0)}))
    [finding] = about_the_total(verdict.judge(history.read(tmp_path), None, 64, None))
    assert finding.level == "note"
    assert "terms" not in finding.text and "reconstruction must not rise" in finding.text
