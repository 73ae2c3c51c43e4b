"""Reading of a run's log."""

import math
import os

import numpy as np
import pytest

from tests.damage import damages
from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax.report import history
from xkd_jax.run import telemetry


def test_reads_what_telemetry_writes_and_where_the_run_was_started_again(tmp_path):
    for start, steps in ((0, (2, 4)), (4, (6, 8))):
        with telemetry.Telemetry(tmp_path, start_step=start, total_steps=8) as log:
            log.begin({"seed": 1})
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
        log.begin({"seed": 1})
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


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": Infinity, "total": 1}',
        b'{"step": 1e400}',
        b'{"step": 100000000000000000000}',
        b'{"step": 3, "total": 1' + b"0" * 400 + b"}",
        b'{"step": 3, "total": ' + b"[" * 100_000,
        b'{"step": 3.5}',
        b'{"step": 3, "total": 1e39}',
        b"\xff",
    ],
)
def test_a_damaged_line_is_a_torn_one(tmp_path, line):
    write_log(tmp_path, [log_line(1), log_line(2)])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n")
    found = history.read(tmp_path)
    assert found.torn == 1
    np.testing.assert_array_equal(found.steps, [1, 2])


@pytest.mark.faults
def test_any_damage_to_a_log_can_be_read(tmp_path):
    write_log(tmp_path, [log_line(step) for step in range(1, 5)])
    path = tmp_path / "metrics.jsonl"
    for damaged in damages(path.read_bytes(), 600):
        path.write_bytes(damaged)
        found = history.read(tmp_path)
        assert set(found.steps[found.steps <= 4].tolist()) <= {0, 1, 2, 3, 4}
        telemetry.drop_lines_after(path, 4)
        assert history.read(tmp_path).torn == 0


def test_pipes_beside_a_log_are_not_waited_for(tmp_path, capsys):
    write_log(tmp_path, [log_line(step) for step in (1, 2, 3)])
    os.mkfifo(tmp_path / "starts.jsonl")
    os.mkfifo(tmp_path / "unreadable-0.json")
    assert len(history.read(tmp_path)) == 3
    assert "unreadable-0.json is damaged" in capsys.readouterr().out


def test_no_log(tmp_path):
    assert history.read(tmp_path) is None


def test_every_metric_is_in_one_chart_and_one_alone(tmp_path):
    write_log(tmp_path, [log_line(1, of_a_new_term=1.0)])
    found = history.read(tmp_path)
    shown = [name for names in history.charts(found).values() for name in names]
    assert sorted(shown) == sorted(set(found.metrics) - {"speed/seconds_per_step"})
    assert history.charts(found)["Others"] == ["of_a_new_term"]


def test_the_probes_metrics_have_a_chart_for_each_kind(tmp_path):
    names = ("probe/video_student", "linear_probe/video_student", "rankme/video_outputs")
    names += ("lidar/video_student",)
    write_log(tmp_path, [log_line(1, **dict.fromkeys(names, 0.5))])
    charts = history.charts(history.read(tmp_path))
    assert [charts[title] for title in charts if set(charts[title]) & set(names)] == [
        [name] for name in names
    ]


def test_numbers_about_a_modality_that_no_recording_has_are_left_out(tmp_path):
    values = {"data/with_sound": 1.0, "reconstruction/video": 0.0, "entropy/audio_teacher": 0.0}
    values |= {"rankme/audio_outputs": 3.0}
    sound = {"reconstruction/audio": 0.5, "entropy/audio_student": 2.0, "rankme/audio_teacher": 9.0}
    lines = [
        log_line(step, **values, **sound, **{"data/with_picture": float(step > later)})
        for step, later in ((1, 9), (2, 9))
    ]
    for name in ("sound", "some"):
        (tmp_path / name).mkdir()
    write_log(tmp_path / "sound", lines)
    metrics = history.read(tmp_path / "sound").metrics
    assert not values.keys() & metrics.keys() - {"data/with_sound"}
    assert sound.keys() <= metrics.keys()
    assert not [name for name in metrics if name.startswith(("kl", "alignment", "center"))]
    write_log(tmp_path / "some", [*lines, log_line(3, **values, **{"data/with_picture": 0.1})])
    assert values.keys() <= history.read(tmp_path / "some").metrics.keys()
