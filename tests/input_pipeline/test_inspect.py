"""The table of a report, and a picture of clips, for any prepared data."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from input_pipeline import inspect
from input_pipeline.prepared import preparation_report
from tests.input_pipeline.prepared_files import clock_record, write_prepared

REASONS = ["corrupt"] * 4 + ["no picture"]


def a_report(complete=True):
    left_out = [
        {"name": f"file {number}.mp4", "reason": reason, "split": "train"}
        for number, reason in enumerate(REASONS)
    ]
    splits = {
        "test": preparation_report.split_counts([80], [160_000], 8.0, []),
        "train": preparation_report.split_counts([80] * 1500, [0] * 1500, 8.0, REASONS, size=2**21),
    }
    return {
        "dataset": "folder",
        "complete": complete,
        "splits": splits,
        "total": preparation_report.total(splits.values()),
        "left_out": left_out,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    records = [
        clock_record("long.mp4", 6.0, labels=(1,)),
        clock_record("kurz, Ünï.mp4", 1.0, labels=(0, 2)),
        clock_record("mute.mp4", 6.0, sound=0, labels=()),
        clock_record("sound alone.wav", 6.0, picture=False),
    ]
    return write_prepared(tmp_path_factory.mktemp("data"), {"train": records})


def run(capsys, monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["inspect", *map(str, flags)])
    inspect.main()
    return capsys.readouterr().out


# The table.


def test_the_table_has_every_count_and_reason():
    lines = inspect.table(a_report()).splitlines()
    header, rows = lines[2], {line.split()[0]: line.split() for line in lines[4:7]}
    assert header.split()[:4] == ["listed", "kept", "left", "out"]
    assert rows["test"][1:6] == ["1", "1", "0", "0", "10"]
    assert rows["train"][1:4] == ["1,505", "1,500", "5"]
    assert rows["train"][-2:] == ["2.0", "MiB"]
    assert rows["total"][1:4] == ["1,506", "1,501", "5"]
    assert "4.2 h" in lines[5]  # 15,000 s
    assert "       4  corrupt: file 0.mp4, file 1.mp4, file 2.mp4, and 1 more" in lines
    assert "       1  no picture: file 4.mp4" in lines
    assert len({len(line) for line in lines[2:7]}) == 1  # columns are aligned


def test_the_table_ends_with_the_notes():
    table = inspect.table(a_report() | {"notes": ["as it is", "and so on"]})
    assert table.endswith("\nnote: as it is\n\nnote: and so on")


def test_unfinished_data_are_said_to_be():
    assert inspect.table(a_report(complete=False)).startswith("folder, not finished")
    assert "not finished" not in inspect.table(a_report())


@pytest.mark.parametrize("values", [{}, {"splits": 3}, [], {**a_report(), "total": {}}])
def test_what_is_no_report_is_refused(values):
    with pytest.raises(ValueError, match="lacks an entry"):
        inspect.table(values)


@pytest.mark.parametrize(
    ("content", "line"),
    [(None, "has no report.json"), ("{", "is damaged"), ("{}", "no readable report")],
)
def test_a_missing_or_broken_report_is_one_line(tmp_path, capsys, monkeypatch, content, line):
    if content:
        (tmp_path / "report.json").write_text(content)
    (said,) = run(capsys, monkeypatch, "--data", tmp_path, "--clips=0").splitlines()
    assert line in said


# The picture.


def test_the_picture_shows_the_clips(folder, tmp_path, capsys, monkeypatch):
    preparation_report.write(folder, a_report())
    output = tmp_path / "sub folder" / "clips.png"
    said = run(capsys, monkeypatch, "--data", folder, "--output", output, "--clips=9")
    assert said.startswith("folder\n")
    assert str(output) in said.splitlines()[-1]
    with PIL.Image.open(output) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        assert picture.format == "PNG"
    # Each of the four clips has a band. It shows log-mels at the right and, unless the recording
    # has no picture, frames at the left.
    bands = np.array_split(pixels[100:], 4)
    half = pixels.shape[1] // 2
    assert [len(np.unique(band[:, :half])) > 30 for band in bands[:3]] == [True] * 3
    assert all(len(np.unique(band[:, half:])) > 30 for band in bands)
    colorful = [np.ptp(band.astype(int), axis=2).max() > 60 for band in bands]
    assert colorful == [True] * 4
    # The frames of the clocks are black and white.
    assert all((band[:, :half].max(), band[:, :half].min() < 40) == (255, True) for band in bands)


def test_names_are_no_mathematics_and_no_longer_than_there_is_room_for(tmp_path):
    items = [clock_record(r"for $5 or $\frac.mp4", 1.0), clock_record("x" * 10**5, 1.0)]
    write_prepared(tmp_path, {"train": items})
    with PIL.Image.open(io.BytesIO(inspect.contact_sheet(tmp_path, "", 2))) as picture:
        assert picture.size[0] < 2000


def test_a_record_that_does_not_decode_is_one_line(tmp_path, monkeypatch):
    item = clock_record("a.mp4", 1.0)
    write_prepared(tmp_path, {"train": [dataclasses.replace(item, frames=[b"x"] * 8)]})
    monkeypatch.setattr(sys, "argv", ["inspect", f"--data={tmp_path}", f"--output={tmp_path}/x"])
    with pytest.raises(SystemExit, match=r"^error: example 0, a\.mp4: Invalid JPEG data, size 1$"):
        inspect.main()


def test_fewer_clips_are_a_smaller_picture(folder):
    sizes = []
    for clips in (1, 2):
        with PIL.Image.open(io.BytesIO(inspect.contact_sheet(folder, "", clips))) as picture:
            sizes.append(picture.size)
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] < sizes[1][1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data={folder}/no"], "/no is not a folder"),
        (["--data={folder}", "--split=val"], "--split is 'val', which"),
        (["--data={folder}", "--clips=-1"], "--clips=-1; allowed: 0 or more"),
        (["--data={empty}"], "--data is '{empty}', which is not prepared"),
    ],
)
def test_wrong_flags_are_one_line(folder, tmp_path, capsys, monkeypatch, flags, message):
    places = {"folder": folder, "empty": tmp_path}
    arguments = [flag.format(**places) for flag in flags]
    with pytest.raises(SystemExit, match=message.format(**places)) as caught:
        run(capsys, monkeypatch, *arguments)
    assert str(caught.value).startswith("error: ") and "\n" not in str(caught.value)


def test_the_table_needs_no_tensorflow(folder):
    """Importing TensorFlow would delay the table by seconds."""
    program = (
        "import sys; sys.modules['tensorflow'] = sys.modules['jax'] = None\n"
        "from input_pipeline import inspect\n"
        f"sys.argv = ['inspect', '--data={folder}', '--clips=0']\n"
        "inspect.main()"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
