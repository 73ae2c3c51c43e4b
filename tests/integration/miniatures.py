"""Miniatures of the labeled data sets in their published layouts, with two easy classes.

All recordings of a class are the same file. So a score below 100 % means that something has been
mixed up. tests/input_pipeline/layouts has broken files and odd annotations.
"""

import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.media_files import write_media

CLASSES = ("tapping pen", "tickling")  # two classes of Kinetics-Sound
_PER_CLASS = 6


class Media(NamedTuple):
    """Files of 1.5 s: for each class one video with sound and one sound file."""

    videos: tuple[bytes, ...]
    sounds: tuple[bytes, ...]


def write_files(folder: pathlib.Path) -> Media:
    """Makes the files. The second class shows and sounds a clock that is five seconds ahead."""
    wav = {"video_codec": None, "audio_codec": "pcm_s16le", "layout": "mono"}
    contents: dict[str, list[bytes]] = {"mp4": [], "wav": []}
    for number, begin in enumerate((0.0, 5.0)):
        moved = {"sound": ((begin, begin + 1.5),), "start": -begin}
        times = begin + np.arange(36) / 24
        for kind, form in (("mp4", {"frame_times": times, "frame_rate": 24}), ("wav", wav)):
            path = write_media(folder / f"{number}.{kind}", 1.5, **form, **moved)
            contents[kind].append(path.read_bytes())
    return Media(tuple(contents["mp4"]), tuple(contents["wav"]))


def _write(path: pathlib.Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def ucf101(root: pathlib.Path, media: Media) -> None:
    """Three splits, each of which tests a third."""
    lists: dict[str, list[str]] = {}
    for label, (name, video) in enumerate(zip(("Archery", "Bowling"), media.videos, strict=True)):
        for group in range(_PER_CLASS):
            file = f"{name}/v_{name}_g{group + 1:02d}_c01.avi"
            _write(root / "UCF-101" / file, video)
            for split in range(3):
                kind = "test" if group % 3 == split else "train"
                line = file if kind == "test" else f"{file} {label + 1}"
                lists.setdefault(f"{kind}list0{split + 1}.txt", []).append(line)
    for list_name, lines in lists.items():
        _write(root / "ucfTrainTestlist" / list_name, "\n".join(lines) + "\n")
    _write(root / "ucfTrainTestlist" / "classInd.txt", "1 Archery\n2 Bowling\n")


def hmdb51(root: pathlib.Path, media: Media) -> None:
    """Three splits, each of which tests a third."""
    for name, video in zip(("clap", "wave"), media.videos, strict=True):
        for number in range(_PER_CLASS):
            _write(root / name / f"{name}_{number}.avi", video)
        for split in range(3):
            lines = [
                f"{name}_{number}.avi {2 if number % 3 == split else 1} \n"
                for number in range(_PER_CLASS)
            ]
            file = f"{name}_test_split{split + 1}.txt"
            _write(root / "testTrainMulti_7030_splits" / file, "".join(lines))


def kinetics400(root: pathlib.Path, media: Media) -> None:
    """Folders of splits and classes; they serve for Kinetics-Sound too.

    There are enough recordings to choose C by those held out: test clips are at random places.
    """
    for label, (name, video) in enumerate(zip(CLASSES, media.videos, strict=True)):
        for number in range(12):
            split = "train" if number < 10 else "val"
            file = f"abcdefgh{label}{number:02d}_000001_000011.mp4"
            _write(root / split / name.replace(" ", "_") / file, video)


def something_something(root: pathlib.Path, media: Media) -> None:
    """Numbered videos, JSON files, and a test split without classes."""
    tables: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    for label, (name, video) in enumerate(zip(("Holding", "Turning"), media.videos, strict=True)):
        for number in range(_PER_CLASS):
            file = f"{10 * label + number}"
            item = {"id": file, "label": f"{name.lower()} a cup", "template": f"{name} [something]"}
            split = ("train", "train", "train", "train", "validation", "test")[number]
            tables[split].append({"id": file} if split == "test" else item)
            _write(root / "20bn-something-something-v2" / f"{file}.mp4", video)
    for split, items in tables.items():
        _write(root / "labels" / f"{split}.json", json.dumps(items))
    numbers = {"Turning something": "1", "Holding something": "0"}
    _write(root / "labels" / "labels.json", json.dumps(numbers))


def vggsound(root: pathlib.Path, media: Media) -> None:
    """A CSV file without header."""
    rows = []
    for label, (name, video) in enumerate(zip(("dog, barking", "rain"), media.videos, strict=True)):
        for number in range(_PER_CLASS):
            row = f'abcdefghi{label}{number},30,"{name}"'
            rows.append(f"{row},{'train' if number < 4 else 'test'}\n")
            _write(root / "video" / f"abcdefghi{label}{number}_000030.mp4", video)
    _write(root / "vggsound.csv", "".join(rows))


def audioset(root: pathlib.Path, media: Media) -> None:
    """CSV files with comments. Each video has one of two classes, and one that all share."""
    head = "# Segments csv created\n# num_ytids=4\n# YTID, start_seconds, end_seconds, labels\n"
    tables = {"balanced_train": head, "unbalanced_train": head, "eval": head}
    for label, video in enumerate(media.videos):
        for number in range(_PER_CLASS):
            split = ("balanced_train",) * 3 + ("unbalanced_train",) + ("eval",) * 2
            segment = f'abcdefghi{label}{number}, 30.000, 40.000, "/m/2,/m/{label}"\n'
            tables[split[number]] += segment
            _write(root / "video" / f"abcdefghi{label}{number}_30.mp4", video)
    for split, table in tables.items():
        _write(root / f"{split}_segments.csv", table)
    classes = '0,/m/0,"Bark"\n1,/m/1,"Rain, heavy"\n2,/m/2,"Sound"\n'
    _write(root / "class_labels_indices.csv", f"index,mid,display_name\n{classes}")


def esc50(root: pathlib.Path, media: Media) -> None:
    """Five folds."""
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for label, (name, sound) in enumerate(zip(("dog", "rain"), media.sounds, strict=True)):
        for number in range(5):
            file = f"{number + 1}-10{number}-A-{label}.wav"
            rows.append(f"{file},{number + 1},{label},{name},True,10{number},A")
            _write(root / "audio" / file, sound)
    _write(root / "meta" / "esc50.csv", "\n".join(rows) + "\n")


def fsd50k(root: pathlib.Path, media: Media) -> None:
    """Three splits. Each sound has one of two classes, and a class that all sounds share."""
    truth = root / "FSD50K.ground_truth"
    rows: dict[str, list[str]] = {"dev": ["fname,labels,mids,split"], "eval": ["fname,labels,mids"]}
    for label, (name, sound) in enumerate(zip(("Bark", "Rain"), media.sounds, strict=True)):
        for number in range(_PER_CLASS):
            file = str(1000 + 10 * label + number)
            part = "dev" if number < 4 else "eval"
            split = f",{'val' if number == 3 else 'train'}" if part == "dev" else ""
            rows[part].append(f'{file},"{name},Sound","/m/{label},/m/2"{split}')
            _write(root / f"FSD50K.{part}_audio" / f"{file}.wav", sound)
    for part, lines in rows.items():
        _write(truth / f"{part}.csv", "\n".join(lines) + "\n")
    _write(truth / "vocabulary.csv", "0,Bark,/m/0\n1,Rain,/m/1\n2,Sound,/m/2\n")


def folder(root: pathlib.Path, media: Media) -> None:
    """Folders of classes, without splits."""
    for name, video in zip(CLASSES, media.videos, strict=True):
        for number in range(_PER_CLASS):
            _write(root / name / f"{number}.mp4", video)


# The keys are values of `--dataset` in `python -m input_pipeline.prepare`.
PUBLISHED: dict[str, Callable[[pathlib.Path, Media], None]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics400,
    "kinetics_sound": kinetics400,
    "something_something": something_something,
    "audioset": audioset,
    "audioset_20k": audioset,
    "vggsound": vggsound,
    "esc50": esc50,
    "fsd50k": fsd50k,
}
