"""What a report says of a run on a mixture, and which clips it shows."""

import json

from tests.input_pipeline.prepared_files import clock_record, write_prepared
from tests.tiny import tiny_config
from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax.report import clips, history
from xkd_jax.report.sections import verdict
from xkd_jax.run import data_log


def test_the_shares_of_the_sets_are_told(tmp_path):
    write_log(tmp_path, [log_line(step) for step in (10, 20)])
    for shares, expected in (
        ({"K400": 1.0}, "30 recordings; 4 without sound"),
        (
            {"K400": 0.75, "ESC50": 0.25},
            "30 recordings; 4 without sound; of the examples, 75.0% from K400, 25.0% from ESC50",
        ),
    ):
        counts = data_log.Counts(30, 30, 4, 0, shares)
        (tmp_path / data_log.COUNTS).write_text(json.dumps(counts._asdict()))
        facts = dict(verdict.facts_of(None, history.read(tmp_path), None, "RUN"))
        assert facts["data"] == expected


def test_clips_are_of_recordings_with_a_picture(tmp_path):
    sounds = [clock_record(f"{n}.wav", 2.0, picture=False) for n in range(4)]
    videos = [clock_record(f"{n}.mp4", 2.0, sound=2.0 * (n > 0)) for n in range(3)]
    folders = [tmp_path / "sounds", tmp_path / "videos"]
    for folder, records in zip(folders, (sounds, videos), strict=True):
        write_prepared(folder, {"train": records})
    config = tiny_config()
    config.data.update({"dataset": "prepared", "sources": tuple(map(str, folders))})
    found = clips.of_run(config, 5)
    assert found.names == [f"{folders[1]}: {n}.mp4" for n in range(3)]
    assert found.has_sound.tolist() == [False, True, True] and found.labels is None
    assert found.views["video"].any(axis=(1, 2, 3, 4)).all()
    config.data.sources = (str(folders[0]),)
    assert set(clips.of_run(config, 5).views) == {"audio"}
