"""What a run says of its health while it goes, and that the verdict at its end says the same."""

import numpy as np
import pytest

from tests.tiny import tiny_config
from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax.report import history
from xkd_jax.report.health import verdict
from xkd_jax.report.watch import Watch


def shares(video, audio=0.5):
    values = {"between_clips/video_teacher": video, "between_clips/audio_teacher": audio}
    return values | {f"schedule/teacher_temperature_{m}": 0.05 for m in ("video", "audio")}


def look(workdir, lines, config=None):
    """Lets a new process of a run look at lines, each logged before."""
    watch = Watch(workdir, config or tiny_config())
    path = workdir / "metrics.jsonl"
    earlier = path.read_text() if path.exists() else ""
    for n, line in enumerate(lines, 1):
        write_log(workdir, lines[:n])
        path.write_text(earlier + path.read_text())
        watch.look(line["step"], {name: x for name, x in line.items() if name != "step"})


def test_alike_outputs_are_said_once_for_each_teacher_and_not_of_fresh_networks(tmp_path, capsys):
    lines = [{"step": 99} | shares(0.001), {"step": 100} | shares(0.021)]
    look(tmp_path, [*lines, {"step": 120, "total": 1.0}])
    assert not any(capsys.readouterr())
    look(tmp_path, [{"step": 140} | shares(0.0196), {"step": 160} | shares(0.001, 0.3)])
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(
        "warning: step 140: The video teacher's outputs hardly depend on the clip: 1.96% of them "
        "differs between clips (between_clips/video_teacher), a deviation of 0.140 at a "
        "temperature of 0.05. Try: raise config.xkd.teacher_temperature"
    )
    assert len(err.splitlines()) == 1
    look(tmp_path, [{"step": 180} | shares(0.5, 0.0)])
    assert "The audio teacher's" in capsys.readouterr().err


def test_the_papers_signs_are_said_once_and_not_of_fresh_networks(tmp_path, capsys):
    config = tiny_config()
    config.xkd.centering = False

    def lines(*steps):
        return [log_line(s, distillation=0.01, kl=2.0, **shares(0.5)) for s in steps]

    look(tmp_path, lines(10, 50, 90), config)
    assert not capsys.readouterr().err
    look(tmp_path, lines(100, 110), config)
    video, audio = capsys.readouterr().err.splitlines()
    assert video.startswith(
        "warning: step 100: The audio teacher puts out the same single output for every clip, and "
        "the video student has learned it by heart: distillation is almost 0 "
        "(distillation/video is 0.01 nats; log J is 4.16). Try: turn centering on "
    )
    assert "distillation/audio is 0.01" in audio
    # One line is no stretch, nor is one that ends.
    path = tmp_path / "other"
    path.mkdir()
    uniform, apart = {"entropy/audio_student": 4.15}, {"entropy/audio_student": 3.0}
    kinds = (apart, uniform, apart, uniform, uniform)
    look(path, [log_line(100 + s, **kind) for s, kind in enumerate(kinds)])
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: step 104: The audio student gives every output")


@pytest.mark.parametrize("absent", ["data/with_picture", "data/with_sound"])
def test_a_run_of_one_modality_alone_has_no_pairs_to_collapse(tmp_path, capsys, absent):
    of_nothing = {"distillation": 0.0, "kl": 0.0, "entropy/video_teacher": 4.15}
    lines = [log_line(s, **of_nothing, **{absent: 0.0}) for s in (100, 120, 140)]
    look(tmp_path, lines[:1])
    look(tmp_path, lines[1:])  # resumed
    assert not capsys.readouterr().err
    look(tmp_path, [log_line(s, **of_nothing, **{absent: 1.0}) for s in (160, 180)])
    assert "heart: distillation is almost 0" in capsys.readouterr().err


def probed(values, name="rankme/audio_student", share=0.05):
    between = {f"between_clips/{m}_teacher": share for m in ("video", "audio")}
    return [log_line(100 * n, **{name: value}, **between) for n, value in enumerate(values, 1)]


@pytest.mark.parametrize("name", ["rankme/video_outputs", "lidar/audio_student"])
def test_a_rank_that_falls_is_said_when_it_falls_and_by_the_verdict(tmp_path, capsys, name):
    lines = probed([20, 30, 29, 14, 16, 15, 14, 9], name)  # low for a moment, then for good
    look(tmp_path, lines)
    [warning] = capsys.readouterr().err.splitlines()
    assert f"step 700: {'The audio student' if 'audio' in name else 'The video teacher'}" in warning
    assert f"{name} is 14, and was 30 at step 200" in warning
    assert "Try: " in warning
    log = history.read(tmp_path)
    for outputs in (64, None):
        found = [f for f in verdict.judge(log, tiny_config(), outputs, None).findings if f.remedies]
        [finding] = [f for f in found if name in f.text]
        assert (finding.level, finding.since) == ("warning", 600)
        assert f"{name} is 9, and was 30 at step 200" in finding.text


def test_ranks_that_rise_or_waver_are_not_spoken_of(tmp_path, capsys):
    lines = probed([5, 20, 30, 16, 18, 16, 29])
    look(tmp_path, lines)
    assert not capsys.readouterr().err
    judged = verdict.judge(history.read(tmp_path), tiny_config(), 64, None)
    assert judged.level == "good"
    assert "rank" not in str(judged.findings).lower()


def test_outputs_that_tell_clips_apart_may_use_fewer_directions(tmp_path, capsys):
    look(tmp_path, probed([20, 30, 12, 11, 10], "rankme/video_outputs", share=0.15))
    assert not capsys.readouterr().err
    assert verdict.judge(history.read(tmp_path), tiny_config(), 64, None).level == "good"


def test_a_resumed_run_remembers_its_highest_rank(tmp_path, capsys):
    lines = probed([20, 30, 12, 11])
    look(tmp_path, lines[:3])
    assert not capsys.readouterr().err
    look(tmp_path, lines[3:])
    assert "was 30 at step 200" in capsys.readouterr().err


def test_a_log_without_ranks_is_judged_as_before(tmp_path, capsys):
    lines = [log_line(step) for step in range(10, 110, 10)]
    look(tmp_path, lines)
    assert not capsys.readouterr().err
    judged = verdict.judge(history.read(tmp_path), tiny_config(), 64, None)
    assert judged.level == "good"
    assert "RankMe" not in str(judged.findings)
    assert not np.isnan(history.read(tmp_path).last("total"))
