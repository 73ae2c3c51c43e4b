"""What a run wrote of itself, read back."""

import math

import numpy as np

from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax import telemetry
from xkd_jax.report import history


def test_reads_what_telemetry_writes_and_where_the_run_was_started_again(tmp_path):
    for start, steps in ((0, (2, 4)), (4, (6, 8))):
        with telemetry.Telemetry(tmp_path, start_step=start, total_steps=8) as log:
            for step in steps:
                speed = {"speed/seconds_per_step": 1.0, "speed/clips_per_second": 8.0}
                log.scalars(step, {"total": 1.0 / step, **speed, "speed/data_wait": 0.0})
    found = history.read(tmp_path)
    np.testing.assert_array_equal(found.steps, [2, 4, 6, 8])
    np.testing.assert_allclose(found.metrics["total"], [1 / 2, 1 / 4, 1 / 6, 1 / 8])
    assert found.resumes == [4]
    assert found.torn == 0


def test_a_run_that_was_never_interrupted_has_no_resumes(tmp_path):
    with telemetry.Telemetry(tmp_path, start_step=0, total_steps=8) as log:
        speed = {"speed/seconds_per_step": 1.0, "speed/clips_per_second": 8.0}
        log.scalars(2, {"total": 1.0, **speed, "speed/data_wait": 0.0})
    assert history.read(tmp_path).resumes == []


def test_torn_lines_are_counted_and_metrics_may_be_missing(tmp_path):
    write_log(tmp_path, [log_line(1), log_line(2, **{"probe/fused_teacher": 0.5})])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "tot')
    found = history.read(tmp_path)
    assert found.torn == 1
    np.testing.assert_array_equal(found.metrics["probe/fused_teacher"], [np.nan, 0.5])
    assert found.last("probe/fused_teacher") == 0.5
    assert math.isnan(found.last("never"))
    assert "step" not in found.metrics
    assert "epoch" not in found.metrics


def test_no_log(tmp_path):
    assert history.read(tmp_path) is None


def test_every_metric_is_in_one_chart_and_one_alone(tmp_path):
    write_log(tmp_path, [log_line(1, of_a_new_term=1.0)])
    found = history.read(tmp_path)
    shown = [name for names in history.charts(found).values() for name in names]
    assert sorted(shown) == sorted(set(found.metrics) - {"speed/seconds_per_step"})
    assert history.charts(found)["Others"] == ["of_a_new_term"]
