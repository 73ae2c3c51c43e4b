"""Listings: misleading folders and annotations are noted or refused."""

import errno
import os
import pathlib

import pytest

from input_pipeline.datasets import (
    esc50,
    kinetics,
    listing,
    readers,
    source_files,
    splits,
    tree,
    ucf101,
)


def files(root, *paths, **contents):
    """Makes empty files, which suffice because a listing opens none."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    for path, content in contents.items():
        (root / path.replace("__", ".")).write_text(content)
    return root


def names(found):
    return {split: sorted(entry.name for entry in of) for split, of in found.splits.items()}


def labels(found):
    return {
        entry.name: tuple(found.class_names[label] for label in entry.labels)
        for entries in found.splits.values()
        for entry in entries
    }


# Splits and classes of a tree.


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        *((name, "train") for name in ("train", "Train", "TRAINING", "train_set", "Training Data")),
        *((name, "val") for name in ("val", "Valid", "validation", "validate", "val-split")),
        *((name, "test") for name in ("test", "Testing", "testset")),
        *((name, "eval") for name in ("eval", "Evaluation")),
        *((name, "") for name in ("trainer", "bullet train", "contest", "tested", "train whistle")),
    ],
)
def test_what_a_folder_is_called(folder, split):
    assert splits.split_of_name(folder) == split


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Train", "Test"), ("training", "Testing")]
)
@pytest.mark.parametrize("stray", ["preview.mp4", "unlabeled/a.mp4"])
def test_splits_are_splits_whatever_lies_beside_them(tmp_path, train, test, stray):
    files(tmp_path, f"{train}/a/1.mp4", f"{train}/b/2.mp4", f"{test}/a/3.mp4", stray)
    found = tree.recordings(tmp_path)
    assert names(found) == {
        "train": [f"{train}/a/1.mp4", f"{train}/b/2.mp4"],
        "test": [f"{test}/a/3.mp4"],
    }
    assert found.class_names == ("a", "b") and set(labels(found).values()) == {("a",), ("b",)}
    assert found.left_out == (listing.LeftOut("", stray, listing.BESIDE_SPLITS),)


def test_classes_may_be_called_like_a_split(tmp_path):
    found = tree.recordings(files(tmp_path, "train/1.mp4", "plane/2.mp4", "bus/3.mp4"))
    assert names(found) == {"train": ["bus/3.mp4", "plane/2.mp4", "train/1.mp4"]}
    assert found.class_names == ("bus", "plane", "train")


def test_two_folders_for_one_split_are_refused(tmp_path):
    files(tmp_path, "Train/a/1.mp4", "training/a/2.mp4", "test/a/3.mp4")
    with pytest.raises(ValueError, match="for the split train: 'Train' and 'training'"):
        tree.recordings(tmp_path)


@pytest.mark.parametrize("stray", ["stray.mp4", "train/stray.mp4"])
def test_a_stray_file_has_no_label_and_the_others_keep_theirs(tmp_path, stray):
    top = "train/" if "/" in stray else ""
    found = tree.recordings(files(tmp_path, f"{top}a/1.mp4", f"{top}b/2.mp4", stray))
    assert labels(found) == {f"{top}a/1.mp4": ("a",), f"{top}b/2.mp4": ("b",), stray: ()}
    assert found.notes == ("files outside the classes' folders, without a label: 1",)
    assert not found.left_out


# Files and folders that cannot be read.


def test_a_folder_that_cannot_be_read_is_left_out_and_counted(tmp_path, monkeypatch):
    real, closed = os.scandir, {tmp_path / "a/closed"}

    def scandir(path):
        if pathlib.Path(path) in closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path)

    files(tmp_path, "a/1.mp4", "a/closed/2.mp4")
    monkeypatch.setattr(os, "scandir", scandir)
    found = tree.recordings(tmp_path)
    assert found.left_out == (listing.LeftOut("", "a/closed/", listing.UNREADABLE_FOLDER),)
    closed.add(tmp_path)
    with pytest.raises(PermissionError):
        tree.recordings(tmp_path)


ROWS = "label,youtube_id,time_start,time_end,split\n" + "".join(
    f"{'c d'},{number:011d},1,11,train\n" for number in range(9000)
)


def break_quote(path):
    path.write_text(ROWS.replace("c d,00000000001", '"c d,00000000001'))


def break_last_quote(path):
    path.write_text(ROWS.replace("c d,00000008998", '"c d,00000008998'))


def dangle(path):
    path.symlink_to("/nonexistent/annotations")


def link_to_itself(path):
    path.symlink_to(path.name)


DAMAGES = {
    break_quote: r"train\.csv:3 cannot be read: .*, perhaps because of a quote that is not closed",
    break_last_quote: r"train\.csv:9000 cannot be read: a quote that is not closed",
    dangle: r"cannot be read: No such file",
    os.mkfifo: r"cannot be read: not a regular file",
    link_to_itself: r"cannot be read: Too many levels of symbolic links",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_annotations_that_cannot_be_read_are_refused_by_file_and_line(tmp_path, damage):
    damage(tmp_path / "train.csv")
    with pytest.raises(source_files.AnnotationsError, match=DAMAGES[damage]):
        kinetics.recordings(tmp_path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("dataset", "annotations"),
    [
        ("audioset", "balanced_train_segments.csv"),
        ("audioset_20k", "class_labels_indices.csv"),
        ("esc50", "esc50.csv"),
        ("fsd50k", "vocabulary.csv"),
        ("hmdb51", "clap_test_split1.txt"),
        ("kinetics_sound", "val.csv"),
        ("something_something", "labels.json"),
        ("vggsound", "vggsound.csv"),
        ("ucf101", "trainlist01.txt"),
        ("ucf101", "classInd.txt"),
    ],
)
def test_no_data_set_waits_for_a_pipe(tmp_path, dataset, annotations):
    names = ("trainlist01.txt", "dev.csv", "balanced_train_segments.csv", "train.json")
    files(tmp_path, *(name for name in names if name != annotations))
    os.mkfifo(tmp_path / annotations)
    with pytest.raises(source_files.AnnotationsError, match="not a regular file"):
        readers.READERS[dataset](tmp_path)


@pytest.mark.parametrize(
    ("labels", "train", "said"),
    [
        ("{", "[]", r"labels\.json cannot be read: not JSON \("),
        ('{"a": "x"}', "[]", r"labels\.json cannot be read: not an object of indices by template"),
        ("[" * 100_000, "[]", r"labels\.json cannot be read: not JSON \("),
        ('{"a": 0}', "{}", r"train\.json cannot be read: not a list of videos"),
    ],
    ids=["cut off", "no index", "deep", "no list"],
)
def test_json_that_is_something_else_is_refused(tmp_path, labels, train, said):
    files(tmp_path, labels__json=labels, train__json=train)
    with pytest.raises(source_files.AnnotationsError, match=said):
        readers.READERS["something_something"](tmp_path)


def test_audioset_without_its_classes_is_said(tmp_path):
    table = "# a\n# b\n# c\n" + '00000000001, 1.000, 11.000, "/m/1"\n'
    files(tmp_path, "00000000001_1.mp4", balanced_train_segments__csv=table)
    found = readers.READERS["audioset"](tmp_path)
    assert labels(found) == {"00000000001_1.mp4": ()} and not found.class_names
    assert found.notes == ("no class_labels_indices.csv: the recordings get no labels",)


def test_a_file_without_rights_is_refused(tmp_path, monkeypatch):
    def without_rights(path, **form):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    files(tmp_path, train__csv=ROWS)
    monkeypatch.setattr(
        source_files, "open", without_rights, raising=False
    )  # root may read everything
    with pytest.raises(
        source_files.AnnotationsError, match=r"train\.csv cannot be read: Permission"
    ):
        kinetics.recordings(tmp_path)


def test_other_tables_beside_the_annotations_do_no_harm(tmp_path):
    rows = "\n".join(ROWS.splitlines()[:3])
    files(tmp_path, "00000000001_000001_000011.mp4", train__csv=rows)
    files(tmp_path, notes__csv='when,what\n1,a note of\n2,"several\nlines"\n')
    assert names(kinetics.recordings(tmp_path)) == {"train": ["00000000001_000001_000011.mp4"]}


def test_annotations_name_files_that_are_not_utf8(tmp_path):
    name = b"caf\xe9".decode(errors="surrogateescape")
    files(tmp_path, f"clap/{name}.avi")
    (tmp_path / "clap_test_split1.txt").write_bytes(b"caf\xe9.avi 1\n")
    assert names(readers.READERS["hmdb51"](tmp_path)) == {"full": [r"clap/caf\xe9.avi"]}


# Annotations that contradict themselves.


def test_classes_that_look_alike_are_said(tmp_path):
    paths = [f"train/{name}/{i:011d}_1_11.mp4" for i, name in enumerate(
        ("Playing Guitar", "playing_guitar", "yoga"))]  # fmt: skip
    found = kinetics.recordings(files(tmp_path, *paths))
    assert found.class_names == ("Playing Guitar", "playing guitar", "yoga")
    said = "2 classes are called 'Playing Guitar' and 'playing guitar': they are kept apart"
    assert found.notes == (said,)


def test_a_target_of_esc50_with_two_names_is_said(tmp_path):
    rows = [("1", 0, "dog"), ("2", 0, "wolf"), ("3", 0, "dog"), ("4", 1, "cat"), ("5", 2, "cat")]
    text = "filename,fold,target,category\n" + "".join(
        f"{file}.wav,1,{target},{name}\n" for file, target, name in rows
    )
    found = esc50.recordings(files(tmp_path, "1.wav", "2.wav", esc50__csv=text))
    assert found.class_names == ("dog", "cat", "cat")
    assert found.notes == (
        "esc50.csv calls target 0 'dog' and also 'wolf'; 'dog' is used",
        "2 classes are called 'cat' and 'cat': they are kept apart",
    )


def test_a_number_of_ucf101_against_its_name_is_said(tmp_path):
    lines = "Archery/v_a.avi 2\nBiking/v_b.avi 2\nBiking/v c 3.avi 1\nArchery/v_d.avi\n"
    files(tmp_path, "Archery/v_a.avi", "Biking/v_b.avi", "Biking/v c 3.avi", "Archery/v_d.avi")
    files(tmp_path, trainlist01__txt=lines, classInd__txt="1 Biking\n2 Archery\n")
    found = ucf101.recordings(tmp_path)
    assert labels(found)["Biking/v_b.avi"] == ("Biking",) and len(labels(found)) == 4
    assert found.notes == (
        "1 line with a class's name and another class's number, such as trainlist01.txt:2; the "
        "name is used",
    )


def test_what_contradicts_nothing_is_not_noted(tmp_path):
    files(tmp_path, "Archery/v_a.avi", trainlist01__txt="Archery/v_a.avi 2\n")
    assert ucf101.recordings(tmp_path).notes == ()
