"""The command that writes the features of media files."""

import errno
import functools
import json
import os
import pathlib
import shutil
import signal

import numpy as np
import pyarrow.parquet
import pytest

from input_pipeline.programs import signals
from tests import full_disk
from tests.damage import damages
from tests.media_files import write_media
from tests.saved_runs import save_run
from xkd_jax import feature_files, features, recordings
from xkd_jax.encoders import pretrained_encoder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("features")
    save_run(workdir)
    return workdir


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    (root / "sub").mkdir()
    for name, seconds in (("a.mp4", 1.0), ("b.mp4", 2.0), ("sub/c.mkv", 1.5), ("d.mp4", 0.4)):
        write_media(root / name, seconds)
    write_media(root / "e.mp4", 1.0, audio_codec=None)
    write_media(root / "f.wav", 1.0, video_codec=None, audio_codec="pcm_s16le")
    (root / "broken.mp4").write_bytes(b"no media")
    (root / "empty.mp4").write_bytes(b"")
    (root / "notes.txt").write_text("not asked")
    return root


@pytest.fixture(scope="module", autouse=True)
def _compile_once():
    load = pretrained_encoder.load_encoder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained_encoder, "load_encoder", functools.cache(load))
        yield


USED = ["a.mp4", "b.mp4", "d.mp4", "e.mp4", "sub/c.mkv"]


def extract(run, source, output, *flags, read=np.load):
    flags = ("--batch_size=4", *flags)
    features.main([f"--checkpoint={run}", f"--input={source}", f"--output={output}", *flags])
    return read(output)


def test_files_under_a_folder(run, media, tmp_path, capsys):
    found = extract(run, media, tmp_path / "x.npz", "--threads=2")
    assert found["names"].tolist() == USED
    assert found["left_out"].tolist() == [["broken.mp4", "unreadable"], ["empty.mp4", "empty file"]]
    expected = pretrained_encoder.load_encoder(run).features([media / name for name in USED])
    np.testing.assert_allclose(found["features"], expected, rtol=1e-4, atol=1e-6)
    made_by = json.loads(str(found["encoder"]))
    assert (made_by["modality"], made_by["network"]) == ("video", "teacher")
    assert made_by["provenance"]["step"] == 7
    output = capsys.readouterr().out
    assert "left out, unreadable: 1 (broken.mp4)" in output and "5 x 32 features" in output
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_sound_by_the_student_in_windows(run, media, tmp_path):
    flags = ("--modality=audio", "--network=student", "--windows=2")
    found = extract(run, media, tmp_path / "x.npz", *flags)
    assert found["names"].tolist() == ["a.mp4", "b.mp4", "d.mp4", "f.wav", "sub/c.mkv"]
    assert ["e.mp4", "no sound"] in found["left_out"].tolist()
    encoder = pretrained_encoder.load_encoder(run, "audio", "student")
    expected = encoder.features([media / name for name in found["names"]], windows=2)
    np.testing.assert_allclose(found["features"], expected, rtol=1e-4, atol=1e-6)


def test_a_table_holds_what_an_archive_does(run, media, tmp_path, capsys):
    odd = b"caf\xe9".decode(errors="surrogateescape")
    (tmp_path / "in").mkdir()
    for name in ("d.mp4", "e.mp4", "broken.mp4"):
        shutil.copy(media / name, tmp_path / "in" / name)
    shutil.copy(media / "d.mp4", tmp_path / "in" / f"{odd}.mp4")
    archive = extract(run, tmp_path / "in", tmp_path / "x.npz")
    extract(run, tmp_path / "in", tmp_path / "x.parquet", read=str)
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["name", "features"]
    assert table["name"].to_pylist() == ["caf\\xe9.mp4", "d.mp4", "e.mp4"]
    np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), archive["features"])
    assert table.schema.field("features").type == pyarrow.list_(pyarrow.float32(), 32)
    metadata = {name.decode(): json.loads(x) for name, x in table.schema.metadata.items()}
    assert metadata["left_out"] == archive["left_out"].tolist() == [["broken.mp4", "unreadable"]]
    assert json.loads(metadata["encoder"]) == json.loads(str(archive["encoder"]))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "x.npz", "x.parquet"}


@pytest.mark.parametrize("name", ["x.npy", "x", "x.csv", "x.npz.gz"])
def test_an_output_of_another_format_is_refused(run, media, tmp_path, name):
    with pytest.raises(SystemExit) as raised:
        extract(run, media, tmp_path / name)
    assert raised.value.code == (
        f"error: --output={tmp_path / name}; allowed without --stride: a name that ends in .npz or "
        ".parquet"
    )
    assert not list(tmp_path.iterdir())


def test_one_file(run, media, tmp_path):
    found = extract(run, media / "b.mp4", tmp_path / "x.npz")
    assert found["names"].tolist() == ["b.mp4"] and found["left_out"].shape == (0, 2)


def test_an_interrupted_run_goes_on(run, media, tmp_path, monkeypatch, capsys):
    whole = extract(run, media, tmp_path / "whole.npz")
    real, seen = features.extract, []

    def stopping(*arguments):
        for result in real(*arguments):
            if len(seen) == 4:
                raise signals.Stopped(signal.SIGINT)
            seen.append(result.name)
            yield result

    monkeypatch.setattr(features, "extract", stopping)
    with pytest.raises(signals.Stopped):
        extract(run, media, tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()

    def recording(encoder, root, names, *arguments):
        asked.append(list(names))
        return real(encoder, root, names, *arguments)

    asked = []
    monkeypatch.setattr(features, "extract", recording)
    found = extract(run, media, tmp_path / "x.npz")
    assert not set(asked[0]) & set(seen) and len(asked[0]) + len(seen) == 7
    assert "going on from 4 files" in capsys.readouterr().out
    for name in ("names", "features", "left_out"):
        np.testing.assert_array_equal(found[name], whole[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.npz", "x.npz"]


def test_what_another_encoder_left_or_what_has_changed_is_not_taken(run, tmp_path):
    write_media(tmp_path / "a.mp4", 1.0)
    encoder = pretrained_encoder.load_encoder(run)
    stamp = recordings.stamp(tmp_path / "a.mp4")
    wrong = np.full(32, 9, np.float32)
    partial = tmp_path / ".x.npz.partial"
    right_key = features.identity(encoder, 1)
    for key, left in ((right_key, "1:2"), (features.identity(encoder, 2), stamp)):
        features._write_partial(partial, [recordings.Result("a.mp4", left, wrong, "")], key)
        found = extract(run, tmp_path / "a.mp4", tmp_path / "x.npz")
        assert not np.any(found["features"] == 9)
    features._write_partial(partial, [recordings.Result("a.mp4", stamp, wrong, "")], right_key)
    assert np.all(extract(run, tmp_path / "a.mp4", tmp_path / "x.npz")["features"] == 9)


def test_names_that_are_not_utf8_or_steer_terminals_lose_nothing(run, media, tmp_path, capsys):
    odd = b"caf\xe9\x1b[31m".decode(errors="surrogateescape")
    (tmp_path / "in").mkdir()
    shutil.copy(media / "d.mp4", tmp_path / "in" / f"{odd}.mp4")
    (tmp_path / "in" / f"{odd}-broken.mp4").write_bytes(b"no media")
    found = extract(run, tmp_path / "in", tmp_path / "x.npz")
    assert found["names"].tolist() == [f"{odd}.mp4"] and found["features"].shape == (1, 32)
    assert found["left_out"].tolist() == [[f"{odd}-broken.mp4", "unreadable"]]
    said = r"left out, unreadable: 1 (caf\xe9\x1b[31m-broken.mp4)"
    assert said in capsys.readouterr().out


def test_features_are_written_before_anything_is_said(run, media, tmp_path, monkeypatch):
    def unprintable(results):
        raise BrokenPipeError

    monkeypatch.setattr(recordings, "report", unprintable)
    with pytest.raises(SystemExit):
        extract(run, media / "d.mp4", tmp_path / "x.npz")
    assert np.load(tmp_path / "x.npz")["names"].tolist() == ["d.mp4"]


def test_folders_that_cannot_be_read_are_left_out_and_counted(
    run, media, tmp_path, monkeypatch, capsys
):
    real = os.scandir

    def scandir(path):
        if pathlib.Path(path) == media / "sub":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root can read every file
    found = extract(run, media, tmp_path / "x.npz")
    assert "sub/c.mkv" not in found["names"]
    assert found["left_out"].tolist()[-1] == ["sub/", "folder that cannot be read"]
    assert "left out, folder that cannot be read: 1 (sub/)" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    run, media, tmp_path, monkeypatch
):
    def load(*arguments, **options):
        pytest.fail("loads the encoder first")

    monkeypatch.setattr(pretrained_encoder, "load_encoder", load)
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    folder = tmp_path / "folder.npz"
    for output in (tmp_path / "file" / "x.npz", folder, pathlib.Path("/proc/x.npz")):
        with pytest.raises(SystemExit, match=f"^error: --output={output} cannot be written: "):
            extract(run, media, output)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.npz"}


@pytest.mark.faults
def test_a_full_disk_is_one_line_and_loses_nothing(run, media, tmp_path, monkeypatch, capsys):
    """The results so far do not fit, or the output alone."""
    whole = extract(run, media, tmp_path / "whole.npz")
    output, partial = tmp_path / "x.npz", tmp_path / ".x.npz.partial"
    monkeypatch.setattr(features, "_SAVE_SECONDS", 0.0)
    with full_disk.largest_file(100), pytest.raises(SystemExit, match=f"^error: .*'{partial}'$"):
        extract(run, media, output)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.npz"]
    real = feature_files.save_of_files

    def save(*arguments):
        with full_disk.largest_file(100):
            real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(feature_files, "save_of_files", save)
        with pytest.raises(SystemExit, match=f"^error: .*'{output}'$"):
            extract(run, media, output)
    assert partial.exists() and not output.exists()
    capsys.readouterr()
    found = extract(run, media, output)
    assert "going on from 7 files" in capsys.readouterr().out
    for name in ("names", "features", "left_out"):
        np.testing.assert_array_equal(found[name], whole[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.npz", "x.npz"]


@pytest.mark.faults
def test_what_an_interrupted_run_left_is_read_whole_or_not_at_all(tmp_path, capsys):
    path = tmp_path / ".x.npz.partial"
    done = [
        recordings.Result("a.mp4", "1:2", np.arange(4, dtype=np.float32), ""),
        recordings.Result("b.mp4", "3:4", None, "corrupt"),
    ]
    assert features._read_partial(path, "key") == {} and not capsys.readouterr().out
    features._write_partial(path, done, "key")
    found = features._read_partial(path, "key")
    assert [result.name for result in found.values()] == ["a.mp4", "b.mp4"]
    np.testing.assert_array_equal(found["a.mp4"].features, done[0].features)
    assert found["b.mp4"] == done[1]
    for damaged in damages(path.read_bytes(), 300):
        path.write_bytes(damaged)
        assert features._read_partial(path, "key") == {}
        (line,) = capsys.readouterr().out.splitlines()
        assert "is damaged" in line and line.endswith("is done again")


def test_what_cannot_work_is_one_line_and_not_success(run, media, tmp_path):
    def refuse(source, *flags, checkpoint=run):
        with pytest.raises(SystemExit) as raised:
            extract(checkpoint, source, tmp_path / "x.npz", *flags)
        assert not (tmp_path / "x.npz").exists()
        return raised.value.code

    assert "no such file or folder" in refuse(tmp_path / "nothing")
    assert "has no media files" in refuse(tmp_path)
    assert "none of 1 file" in refuse(media / "broken.mp4")
    assert "holds no weights" in refuse(media, checkpoint=media)
    assert "--windows: 0; allowed: 1 or more" in refuse(media, "--windows=0")
