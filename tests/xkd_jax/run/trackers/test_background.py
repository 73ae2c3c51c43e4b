"""A tracker that fails or is slow costs the training nothing but a line."""

import numpy as np
import pytest

from tests.xkd_jax.run.trackers.recorder import Recorder
from xkd_jax.run.trackers import background


def test_every_call_arrives_in_order(capsys):
    inner = Recorder()
    writer = background.Background("service", inner)
    writer.write_hparams("h")
    writer.write_texts(0, "t")
    writer.write_scalars(1, "s")
    writer.write_images(2, "i")
    writer.write_videos(2, "v", frame_rate=8.0)
    writer.write_audios(2, "a", sample_rate=16000)
    writer.flush()
    writer.close(failed=True)
    assert inner.calls == [
        ("hparams", "h"),
        ("texts", 0, "t"),
        ("scalars", 1, "s"),
        ("images", 2, "i"),
        ("videos", 2, "v", 8.0),
        ("audios", 2, "a", 16000),
        ("close", True),
    ]
    assert capsys.readouterr() == ("", "")


def test_what_fails_is_said_once_and_counted_and_the_rest_is_written(capsys):
    inner = Recorder(fails=(2, 3, 5))
    writer = background.Background("service", inner)
    for step in range(1, 7):
        writer.write_scalars(step, {})
    writer.close()
    assert [call[1] for call in inner.calls] == [1, 4, 6, False]
    first, last = capsys.readouterr().err.splitlines()
    assert first == (
        "warning: service does not take a part of the log: no route to host. The run goes on, and "
        "metrics.jsonl has all of it (said once)"
    )
    assert last == "warning: service lacks a part of the log of run abc: 3 calls"


def test_a_slow_service_is_not_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(background, "_WAITING", 2)
    monkeypatch.setattr(background, "_PATIENCE", 0.1)
    inner = Recorder(waits=(1,))
    writer = background.Background("service", inner)
    for step in range(1, 8):
        writer.write_scalars(step, {})
    writer.close()
    said = capsys.readouterr().err
    assert "service does not take a part of the log: 2 calls wait for it already" in said
    assert said.splitlines()[-1].startswith("warning: service lacks a part of the log of run abc")
    inner.released.set()


def test_summaries_and_histograms_are_refused():
    with pytest.raises(NotImplementedError, match="TensorBoard"):
        Recorder().write_summaries(0, {})
    with pytest.raises(NotImplementedError, match="histograms"):
        Recorder().write_histograms(0, {"a": np.zeros(1)})
