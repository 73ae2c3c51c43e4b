"""Folders of media: which files are found, left out and reported, and what the cache keeps."""

import errno
import io
import json
import os
import pathlib
import random
import shutil
import sys
import warnings

import numpy as np
import pytest

from configs import base
from input_pipeline.datasets import folder, folder_index, folder_source, measuring, open_dataset
from input_pipeline.media import containers, reader
from input_pipeline.sources import UnusableError
from tests import media_files
from tests.damage import damages


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Replaces the user's own cache by an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    return media_files.write_media(tmp_path_factory.mktemp("clip") / "clip.mp4", 2.0)


@pytest.fixture
def root(tmp_path, clip_file):
    """Two classes of three files each, and some files that are not media."""
    root = tmp_path / "videos"
    for name in ("jumping", "clapping hands"):
        (root / name / "more").mkdir(parents=True)
        for file in ("b.mp4", "a ü.MP4", "more/c.mp4"):
            shutil.copy(clip_file, root / name / file)
    (root / "labels.csv").write_text("file,label\n")
    (root / "jumping" / "._b.mp4").write_text("left behind by a file manager")
    return root


def settings(path, **data):
    config = base.get_config()
    config.data.path = str(path)
    config.data.update(data)
    config.views.video.global_frames = 8
    config.views.video.short_side = 32
    return config.data, config.views


def copies(clip_file, root, *paths):
    """Makes a folder with copies of the file."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip_file, root / path)
    return root


def break_files(root, clip_file):
    """Adds one file for each kind of damage."""
    data = clip_file.read_bytes()
    (root / "jumping" / "empty.mp4").write_bytes(b"")
    (root / "jumping" / "text.avi").write_text("hello")
    (root / "jumping" / "half.mp4").write_bytes(data[: len(data) // 2])
    media_files.write_media(root / "jumping" / "sound.mp4", 2.0, video_codec=None)


def test_lists_files_in_order_with_labels_from_folders(root, capsys):
    source = open_dataset(*settings(root))
    assert [source.name(index) for index in range(len(source))] == [
        "clapping hands/a ü.MP4",
        "clapping hands/b.mp4",
        "clapping hands/more/c.mp4",
        "jumping/a ü.MP4",
        "jumping/b.mp4",
        "jumping/more/c.mp4",
    ]
    assert source.class_names == ("clapping hands", "jumping")
    assert source.labels.dtype == np.int64
    np.testing.assert_array_equal(source.labels, [0, 0, 0, 1, 1, 1])
    report = source.report
    assert report["usable"] == report["files"] == 6 and report["ignored"] == 2
    assert report["picture_seconds"] == pytest.approx(12, abs=0.1)
    assert report["sound_seconds"] == pytest.approx(12, abs=0.3)
    assert "left out" not in capsys.readouterr().out
    open_dataset(*settings(root))
    assert capsys.readouterr().out == "", "said twice"


def test_position_says_where_a_clip_starts(root):
    source = open_dataset(*settings(root))
    for position in (0.0, 0.35, 0.99):
        clip = source.read(2, position)
        times = position * 1.0 + np.arange(8) / 8
        age = times - media_files.seen_times(clip.frames)
        assert age.min() > -0.0025 and age.max() < 0.041
        assert clip.waveform.shape == (16000,)


def test_a_stray_file_has_no_label_and_the_others_keep_theirs(root, clip_file, capsys):
    shutil.copy(clip_file, root / "stray.mp4")
    source = open_dataset(*settings(root))
    assert source.labels is None and source.class_names == ("clapping hands", "jumping")
    assert source.label_sets == [*3 * [(0,)], *3 * [(1,)], ()] and source.name(6) == "stray.mp4"
    assert "files outside the classes' folders, without a label: 1\n" in capsys.readouterr().out


def test_files_beside_one_another_have_no_labels(tmp_path, clip_file, capsys):
    root = copies(clip_file, tmp_path / "data", "a.mp4", "b.mp4")
    source = open_dataset(*settings(root))
    assert source.labels is None and source.class_names == () and source.label_sets == [(), ()]
    assert capsys.readouterr().out.count("\n") == 1


def test_split_is_a_top_level_folder(tmp_path, clip_file):
    for split in ("train", "test"):
        (tmp_path / "data" / split / "class").mkdir(parents=True)
        shutil.copy(clip_file, tmp_path / "data" / split / "class" / f"{split}.mp4")
    source = open_dataset(*settings(tmp_path / "data", split="test"))
    assert source.name(0) == "class/test.mp4" and source.class_names == ("class",)
    with pytest.raises(FileNotFoundError, match=r"config\.data\.split is 'val'.*'test', 'train'"):
        open_dataset(*settings(tmp_path / "data", split="val"))


@pytest.mark.parametrize(
    ("folders", "split", "opened"),
    [
        (("Train", "Test"), "train", "Train"),
        (("training", "testing"), "test", "testing"),
        (("TRAIN", "Validation set"), "val", "Validation set"),
        (("train", "Train"), "train", "train"),
    ],
)
def test_splits_are_found_by_any_of_their_usual_names(tmp_path, clip_file, folders, split, opened):
    paths = [f"{folder}/class/{folder}.mp4" for folder in folders]
    root = copies(clip_file, tmp_path / "data", *paths)
    source = open_dataset(*settings(root, split=split))
    assert [source.name(index) for index in range(len(source))] == [f"class/{opened}.mp4"]


def test_which_of_two_folders_is_a_split_is_not_guessed(tmp_path, clip_file):
    root = copies(clip_file, tmp_path / "data", "Train/a/1.mp4", "training/a/2.mp4", "test/a/3.mp4")
    with pytest.raises(FileNotFoundError, match=r"config\.data\.split is 'train'.*'training'"):
        open_dataset(*settings(root, split="train"))
    with pytest.raises(ValueError, match="for the split train: 'Train' and 'training'; allowed"):
        open_dataset(*settings(root))


def test_reading_all_splits_is_said_and_makes_no_classes_of_them(tmp_path, clip_file, capsys):
    root = copies(clip_file, tmp_path / "data", "Train/a/1.mp4", "Train/b/2.mp4", "Test/b/3.mp4")
    source = open_dataset(*settings(root))
    assert source.class_names == ("a", "b")
    np.testing.assert_array_equal(source.labels, [1, 0, 1])
    assert "all splits are read: 'Test', 'Train'; config.data.split" in capsys.readouterr().out


def test_classes_that_look_alike_are_said(tmp_path, clip_file, capsys):
    root = copies(clip_file, tmp_path / "data", "Playing Guitar/1.mp4", "playing_guitar/2.mp4")
    assert len(open_dataset(*settings(root)).class_names) == 2
    said = "2 classes are called 'Playing Guitar' and 'playing_guitar': they are kept apart"
    assert said in capsys.readouterr().out


def test_names_that_are_not_utf8_or_steer_terminals_are_printable(tmp_path, clip_file):
    folder, file = b"caf\xe9\x1b[31m".decode(errors="surrogateescape"), "a\nb.mp4"
    root = copies(clip_file, tmp_path / "data", f"{folder}/{file}", f"{folder}/c.mp4", "d/e.mp4")
    (root / folder / "empty\x07.mp4").write_bytes(b"")
    source = open_dataset(*settings(root))
    assert source.class_names == (r"caf\xe9\x1b[31m", "d")
    assert source.name(0) == r"caf\xe9\x1b[31m/a\nb.mp4" and source.path(0).is_file()
    assert source.read(0, 0.0).frames.shape[0] == 8
    assert source.report["left_out"] == {r"caf\xe9\x1b[31m/empty\x07.mp4": "empty file"}
    source.path(0).unlink()
    with pytest.warns(UserWarning, match=r"a\\nb\.mp4: cannot be accessed"):
        source.read(0, 0.0)
    assert source.failed == {source.name(0): "cannot be accessed"}


@pytest.fixture
def closed(monkeypatch):
    """Makes some folders unreadable, even for root."""
    real, paths = os.scandir, set()

    def scandir(path):
        if pathlib.Path(path) in paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return paths


def test_folders_that_cannot_be_read_are_counted(root, closed, capsys):
    closed.add(root / "jumping" / "more")
    source = open_dataset(*settings(root))
    assert source.report["left_out"] == {"jumping/more/": "folder that cannot be read"}
    assert "left out 1 of 6 files: 1 folder that cannot be read" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"config\.data\.max_bad_fraction is 0\.1"):
        open_dataset(*settings(root, max_bad_fraction=0.1))
    closed.add(root)
    with pytest.raises(PermissionError):
        open_dataset(*settings(root))


def test_links_are_followed_once(root):
    (root / "jumping" / "circle").symlink_to(root, target_is_directory=True)
    (root / "jumping" / "nowhere.mp4").symlink_to("/nonexistent.mp4")
    os.mkfifo(root / "jumping" / "pipe.mp4")
    (root / "jumping" / "link to pipe.mp4").symlink_to("pipe.mp4")
    source = open_dataset(*settings(root))
    assert len(source) == 6
    assert source.report["left_out"] == {"jumping/nowhere.mp4": "cannot be accessed"}


def test_broken_files_are_left_out_and_reported(root, clip_file, capsys):
    break_files(root, clip_file)
    source = open_dataset(*settings(root))
    assert len(source) == 6
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert (
        "left out 4 of 10 files: 1 empty file, 1 no picture, 1 truncated, 1 unreadable" in printed
    )
    written = printed.rpartition("(see ")[2].rstrip(")\n")
    assert json.loads(pathlib.Path(written).read_text()) == source.report
    assert source.report["left_out"] == {
        "jumping/empty.mp4": "empty file",
        "jumping/half.mp4": "truncated",
        "jumping/sound.mp4": "no picture",
        "jumping/text.avi": "unreadable",
    }


def test_too_many_broken_files_are_refused(root, clip_file):
    break_files(root, clip_file)
    with pytest.raises(ValueError, match=r"^config\.data\.max_bad_fraction is 0\.3, but 0\.4 of"):
        open_dataset(*settings(root, max_bad_fraction=0.3))
    open_dataset(*settings(root, max_bad_fraction=0.4))


def test_folders_without_usable_files_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("hello")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.mp4").write_text("hello")
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "prepared.json").write_text("{}")
    cases = (
        ("", ValueError, "config.data.path is ''"),
        (tmp_path / "prepared", ValueError, "config.data.dataset='prepared' reads them"),
        (tmp_path / "missing", FileNotFoundError, "does not exist"),
        (tmp_path / "text" / "notes.txt", ValueError, "which is a file"),
        (tmp_path / "empty", ValueError, "which holds nothing"),
        (tmp_path / "text", ValueError, "only 1 file of other kinds"),
        (tmp_path / "broken", ValueError, "left out 1 of 1 file: 1 unreadable"),
    )
    for path, kind, words in cases:
        with pytest.raises(kind) as caught:
            open_dataset(*settings(path))
        message = str(caught.value)
        assert message.startswith("config.data.path is") and "\n" not in message
        assert words in message and str(path) in message


def test_unknown_datasets_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config\.data\.dataset is 'webcam'; allowed: 'folder'"):
        open_dataset(*settings(tmp_path, dataset="webcam"))


def test_only_new_and_changed_files_are_looked_at_again(root, clip_file, monkeypatch):
    break_files(root, clip_file)
    first = open_dataset(*settings(root))
    looked = []
    measure = reader.measure
    monkeypatch.setattr(
        reader, "measure", lambda path: (looked.append(path.name), measure(path))[1]
    )
    second = open_dataset(*settings(root))
    assert looked == [] and second.report == first.report
    np.testing.assert_array_equal(first.read(1, 0.4).frames, second.read(1, 0.4).frames)

    shutil.copy(clip_file, root / "jumping" / "text.avi")
    shutil.copy(clip_file, root / "jumping" / "new.mp4")
    (root / "jumping" / "half.mp4").unlink()
    os.utime(root / "jumping" / "b.mp4", ns=(0, 0))
    third = open_dataset(*settings(root))
    assert sorted(looked) == ["b.mp4", "new.mp4", "text.avi"]
    assert len(third) == 8


def test_the_fingerprint_follows_the_files_and_not_where_they_lie(root, tmp_path):
    first = open_dataset(*settings(root))
    assert open_dataset(*settings(root)).fingerprint == first.fingerprint
    assert first.has_audio.all() and first.has_audio.shape == (len(first),)
    copy = shutil.copytree(root, tmp_path / "copy")
    assert open_dataset(*settings(copy)).fingerprint == first.fingerprint
    changes = (
        lambda: os.utime(copy / "jumping" / "b.mp4", ns=(0, 0)),
        lambda: (copy / "jumping" / "b.mp4").rename(copy / "jumping" / "other.mp4"),
        lambda: (copy / "jumping" / "other.mp4").unlink(),
    )
    seen = {first.fingerprint}
    for number, change in enumerate(changes, start=2):
        change()
        seen.add(open_dataset(*settings(copy)).fingerprint)
        assert len(seen) == number


def test_a_broken_or_unwritable_cache_is_done_without(root, cache):
    open_dataset(*settings(root))
    (index,) = cache.glob("xkd_jax/*/index.json")
    index.write_text("{")
    assert len(open_dataset(*settings(root))) == 6
    shutil.rmtree(cache)
    cache.write_text("in the way")
    assert len(open_dataset(*settings(root))) == 6


@pytest.mark.faults
def test_every_damage_of_the_index_is_seen_and_mended(root, cache, capsys):
    """A flipped bit, a cut or JSON of another form never raises an error and is never trusted."""
    expected = open_dataset(*settings(root)).report
    (index,) = cache.glob("xkd_jax/*/index.json")
    whole = index.read_bytes()
    forms = [b"[]", b"null", b"{}", b"[" * 100_000, whole.replace(b'"files": {', b'"files": [')]
    looks = folder_index.load(index)
    capsys.readouterr()
    forms.append(whole.replace(b'"version": "4', b'"version": "5'))
    for damaged in [*damages(whole, 200), *forms]:
        index.write_bytes(damaged)
        found = folder_index.load(index)
        said = "is damaged: all files are examined again" in capsys.readouterr().out
        assert found == ({} if said else looks)  # a flip in white space changes nothing
    index.write_bytes(whole.replace(b'"duration": 2', b'"duration": 9'))
    assert open_dataset(*settings(root)).report == expected
    assert "is damaged: all files are examined again" in capsys.readouterr().out
    assert folder_index.load(index) == looks


def test_a_passing_error_brands_no_file(root, monkeypatch, capsys):
    """Without free file descriptors, a file is tried again and left out, but not cached as bad."""
    monkeypatch.setattr(containers, "_RETRY_SECONDS", (0.0, 0.0))
    tries = []

    def refuse(*arguments, **options):
        tries.append(arguments)
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="6 cannot be accessed"):
        patch.setattr(containers.av, "open", refuse)
        open_dataset(*settings(root))
    assert len(tries) == 3 * 6
    assert len(open_dataset(*settings(root))) == 6


def test_a_file_without_rights_is_looked_at_again(root, monkeypatch):
    def without_rights(path, mode):
        if path.endswith("jumping/b.mp4"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open(path, mode)

    with monkeypatch.context() as patch:  # because root may read everything
        patch.setattr(containers, "open", without_rights, raising=False)
        report = open_dataset(*settings(root)).report
    assert report["left_out"] == {"jumping/b.mp4": "cannot be accessed"}
    assert len(open_dataset(*settings(root))) == 6


def test_a_scan_that_is_killed_keeps_what_it_has_seen(root, cache, monkeypatch):
    monkeypatch.setattr(folder, "_SAVE_SECONDS", 0.0)
    saved = []
    monkeypatch.setattr(
        folder.folder_index, "save", lambda path, looks: saved.append(len(looks)) or True
    )
    open_dataset(*settings(root, threads=1))
    assert saved == [1, 2, 3, 4, 5, 6, 6]


def test_a_scan_that_is_stopped_keeps_what_it_has_seen(root, monkeypatch):
    real, looked = measuring.look, []

    def look(path):
        looked.append(path)
        if len(looked) == 4:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(measuring, "look", look)
    with pytest.raises(KeyboardInterrupt):
        open_dataset(*settings(root, threads=1))
    stopped = len(looked)
    assert len(open_dataset(*settings(root, threads=1))) == 6
    assert not {*looked[:3]} & {*looked[stopped:]}


def test_a_scan_shows_its_progress_on_a_terminal(root, monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", shown)
    open_dataset(*settings(root))
    assert "examining files:   0%" in shown.getvalue() and "0/6 " in shown.getvalue()


def test_many_files_are_looked_at_in_processes_with_the_same_outcome(
    root, clip_file, cache, monkeypatch
):
    break_files(root, clip_file)
    shutil.copy(clip_file, os.fsencode(root / "jumping") + b"/\xff\n.mp4")
    expected = folder._examine(root, paths_of(root), cache / "one", 2)
    monkeypatch.setattr(folder, "_MANY", 1)
    with monkeypatch.context() as patch:
        patch.setattr(reader, "measure", lambda path: pytest.fail("in this process"))
        assert folder._examine(root, paths_of(root), cache / "other", 2) == expected
        assert len(folder_index.load(cache / "other")) == len(expected) == 11


def paths_of(root):
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("[!.]*")
        if path.suffix in (".mp4", ".avi", ".MP4")
    )


def test_a_file_that_crashes_the_decoder_ends_neither_the_scan_nor_the_run(clip_file, monkeypatch):
    commands = []

    def ask(self, path):
        commands.append(path)
        return "" if path == "crash.mp4" else json.dumps("unreadable")

    monkeypatch.setattr(measuring._Process, "_ask", ask)
    with measuring.crew(1) as look:
        assert [look(path) for path in ("a.mp4", "crash.mp4", "b.mp4")] == [
            "unreadable",
            "corrupt",
            "unreadable",
        ]
    assert commands == ["a.mp4", "crash.mp4", "crash.mp4", "b.mp4"]


def test_files_that_break_later_are_replaced_by_the_next(root, cache):
    source = open_dataset(*settings(root))
    third, fourth = source.read(3, 0.3), source.read(4, 0.3)
    (root / source.name(1)).write_bytes(random.Random(0).randbytes(5000))
    (root / source.name(2)).unlink()
    with pytest.warns(UserWarning, match="the next file is read instead") as caught:
        clip = source.read(1, 0.3)
    assert len(caught) == 2
    np.testing.assert_array_equal(clip.frames, third.frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is only one warning per file
        np.testing.assert_array_equal(source.read(2, 0.3).waveform, third.waveform)
        np.testing.assert_array_equal(source.read(4, 0.3).frames, fourth.frames)
    report = source.report
    reasons = {source.name(1): "unreadable", source.name(2): "cannot be accessed"}
    assert report["failed_at_read"] == reasons
    assert report["substitutions"] == source.replaced == 2
    (kept,) = cache.glob("xkd_jax/*/report.json")
    assert json.loads(kept.read_text())["failed_at_read"] == report["failed_at_read"]


def test_too_many_files_that_vanish_end_the_reading(tmp_path, clip_file):
    """11 of 12 files are gone: the one that is left does not replace all others."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(12):
        shutil.copy(clip_file, root / f"{number:02}.mp4")
    source = open_dataset(*settings(root, max_bad_fraction=0.5))
    assert source.replaced == 0
    for number in range(11):
        (root / f"{number:02}.mp4").unlink()
    message = r"max_bad_fraction is 0\.5, but by now 7 of 12 files .*: 7 cannot be accessed$"
    with pytest.warns(UserWarning), pytest.raises(UnusableError, match=message):
        source.read(0, 0.5)
    assert source.replaced == 0


def test_files_left_out_count_among_those_that_vanish(root, clip_file):
    break_files(root, clip_file)  # breaks 4 of 10 files
    source = open_dataset(*settings(root, max_bad_fraction=0.5))
    (root / source.name(0)).unlink()
    with pytest.warns(UserWarning):
        source.read(0, 0.5)  # 5 of 10 broken files are allowed
    (root / source.name(1)).unlink()
    with pytest.raises(UnusableError, match=r"6 of 10 files .*: 2 cannot be accessed, 1 empty"):
        source.read(1, 0.5)


def test_when_nothing_can_be_read_that_is_an_error(root):
    source = open_dataset(*settings(root, max_bad_fraction=1.0))
    shutil.rmtree(root)
    with pytest.warns(UserWarning), pytest.raises(reader.MediaError, match="cannot be acc"):
        source.read(0, 0.5)


def test_many_files_that_vanish_are_neither_written_nor_told_one_by_one(tmp_path, monkeypatch):
    names = [f"{number}.mp4" for number in range(2000)]
    info = reader.MediaInfo(0.0, 1.0, 0.0, 0.0, True)
    files = [folder_source.MediaFile(name, "", info, (1, 1)) for name in names]
    form = folder_source.ClipForm(seconds=1.0, frame_rate=8.0, short_side=32, sample_rate=16000)
    source = folder_source.FolderSource(tmp_path, files, form, left_out={})
    written = []
    monkeypatch.setattr(source, "write_report", lambda: written.append(len(source.failed)))
    with pytest.warns(UserWarning) as caught, pytest.raises(reader.MediaError):
        source.read(7, 0.5)
    assert len(source.failed) == 2000 and len(written) < 20
    assert len(caught) == 10 and "more such files are only counted" in str(caught[-1].message)


def test_the_inventory_is_of_names_and_sizes(root, tmp_path):
    first = open_dataset(*settings(root)).inventory
    assert first["recordings"] == 6
    copy = shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copy)  # with new times
    assert open_dataset(*settings(copy)).inventory == first
    (copy / "jumping" / "b.mp4").rename(copy / "jumping" / "other.mp4")
    renamed = open_dataset(*settings(copy)).inventory
    assert renamed["recordings"] == 6 and renamed["digest"] != first["digest"]
    with (copy / "jumping" / "other.mp4").open("ab") as file:
        file.write(bytes(8))
    assert open_dataset(*settings(copy)).inventory["digest"] != renamed["digest"]


def test_extensions_are_those_of_pictures():
    assert {".mp4", ".mkv", ".webm", ".avi", ".mov"} <= folder.EXTENSIONS
    assert not {".wav", ".jpg", ".txt"} & folder.EXTENSIONS
