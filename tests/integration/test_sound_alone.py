"""A pretraining on recordings without pictures, from the flags to the report."""

import json

import pytest

from tests.input_pipeline.prepared_files import clock_record, write_prepared
from tests.integration import runs
from tests.saved_runs import logged_lines


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Returns prepared data of twelve sounds of two classes, in two splits."""
    records = [
        clock_record(f"{n}.wav", 2.0 + n / 4, picture=False, labels=(n % 2,)) for n in range(12)
    ]
    return write_prepared(tmp_path_factory.mktemp("sounds"), {"train": records, "test": records})


@pytest.mark.slow  # a run and a report in processes of their own
def test_sound_alone_trains_the_autoencoder_of_audio(sounds, tmp_path):
    flags = ["--config.data.dataset=prepared", f"--config.data.path={sounds}"]
    flags += [f"--workdir={tmp_path}", "--config.log.images_every_steps=12"]
    code, output = runs.run(*flags)
    assert code == 1
    assert output.splitlines()[-1] == (
        "error: config.data.require is 'both'; allowed: 'any': of 12 recordings, 12 without a "
        "picture"
    )

    code, output = runs.run(*flags, "--config.data.require=any", "--config.probe.every_steps=8")
    assert code == 0, output
    lines = logged_lines(tmp_path)
    assert lines[-1]["reconstruction/audio"] < lines[0]["reconstruction/audio"]
    for line in lines:
        assert line["data/with_picture"] == line["reconstruction/video"] == 0
        assert line["gradient_norm/video/encoder"] == line["gradient_norm/audio/projector"] == 0
        assert abs(line["distillation/video"]) < 1e-5
    assert "probe/audio_teacher" in lines[-1] and "probe/video_teacher" not in lines[-1]
    assert "rankme/audio_student" in lines[-1] and "lidar/video_teacher" not in lines[-1]
    assert "hardly depend" not in output and "fewer directions" not in output
    names = [path.name for path in (tmp_path / "images").iterdir()]
    assert len(names) == 2 and all("audio" in name for name in names)

    report = runs.start_module("xkd_jax.report", f"--workdir={tmp_path}", "--clips=8", "--shown=1")
    code, output = runs.ended(report)
    assert code == 0 and "Collapsed" not in output, output
    verdict = json.loads((tmp_path / "report/report.json").read_text())["verdict"]
    assert "Anything about video: none of the clips has a picture." in verdict["not_shown"]
    assert not [f for f in verdict["findings"] if "student's outputs" in f["text"]]
