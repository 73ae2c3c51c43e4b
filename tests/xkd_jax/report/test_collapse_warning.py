"""The warning that outputs no longer depend on the clip."""

from xkd_jax.report import collapse


def line(video, audio=0.5):
    shares = {"between_clips/video_teacher": video, "between_clips/audio_teacher": audio}
    return shares | {f"schedule/teacher_temperature_{m}": 0.05 for m in ("video", "audio")}


def test_it_is_said_once_for_each_teacher_and_not_of_fresh_networks(capsys):
    watch = collapse.Watch()
    watch.look(99, line(0.001))
    watch.look(100, line(0.021))
    watch.look(120, {"total": 1.0})
    assert not any(capsys.readouterr())
    watch.look(140, line(0.0196))
    watch.look(160, line(0.001, 0.3))
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(
        "warning: step 140: the video teacher's outputs have collapsed: 1.96% of them differs "
        "between clips (a deviation of 0.140 at a temperature of 0.05); begin anew with a higher "
    )
    assert len(err.splitlines()) == 1
    watch.look(180, line(0.001, 0.0))
    assert "the audio teacher's" in capsys.readouterr().err
