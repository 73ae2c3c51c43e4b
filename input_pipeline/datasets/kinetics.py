"""Kinetics400 in both its usual layouts, and Kinetics-Sound, which is 32 classes of it.

Either `<split>/<class>/<id>_<start>_<end>.mp4`, the classes with spaces or underscores; or such
files anywhere, and CSV files with the columns label, youtube_id, time_start, time_end and split.
"""

import pathlib
import re
from collections.abc import Sequence

from input_pipeline.datasets import listing

# The 34 classes of Arandjelovic and Zisserman, "Look, Listen and Learn" (ICCV 2017), appendix, as
# far as they are in the published Kinetics400 and by their names there: "typing" and "patting" are
# not, "blowing out" became "blowing out candles", "fingerpicking" "strumming guitar", and so on.
KINETICS_SOUND = (
    *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball"),
    *("laughing", "mowing lawn", "playing accordion", "playing bagpipes", "playing bass guitar"),
    *("playing clarinet", "playing drums", "playing guitar", "playing harmonica"),
    *("playing keyboard", "playing organ", "playing piano", "playing saxophone"),
    *("playing trombone", "playing trumpet", "playing violin", "playing xylophone"),
    *("ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes"),
    *("strumming guitar", "tap dancing", "tapping guitar", "tapping pen", "tickling"),
)

_COLUMNS = ("youtube_id", "time_start", "time_end")
_FILE = re.compile(r"(?P<id>[\w-]{11})_(?P<start>\d+)_(?P<end>\d+)")
_ROW = re.compile(r"(?P<id>[\w-]{11})\n(?P<start>\d+)(\.0*)?\n(?P<end>\d+)(\.0*)?")
_SPLIT = re.compile(r"(?:.*[ ._-])?(train|val|test)(?:ing|id|idation|idate)?(?:[ ._-].*)?", re.I)


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings of Kinetics400.

    Args:
        root: The folder, all below which is looked through.

    Returns:
        Splits train, val and test, as far as they are there. A split that CSV files name is what
        they say; the others are what their folders hold.

    Raises:
        ValueError: The layout is neither.
    """
    return _list(root, None)


def sound_recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings of Kinetics-Sound in a folder of Kinetics400; see `recordings`."""
    return _list(root, KINETICS_SOUND)


def _list(root: pathlib.Path, classes: Sequence[str] | None) -> listing.Listing:
    """Lists recordings, of some classes only or, given None, of those that there are."""
    source = listing.Source(root)
    lister = listing.Lister(source, _keys)
    rows, problems = _rows(source)
    in_rows = {split for split, *_ in rows}
    in_folders = []
    for path in source.media:
        split, label = _place(path)
        if split and label and split not in in_rows:
            in_folders.append((split, label, path))
    if not rows and not in_folders:
        raise ValueError(
            "neither train/<class>/<files> nor a CSV file with the columns label, youtube_id, "
            "time_start, time_end and split"
        )
    labels = {label for _, label, _, _ in rows if label} | {label for _, label, _ in in_folders}
    class_names = tuple(sorted(classes or labels))
    numbers = {name: number for number, name in enumerate(class_names)}
    # Recordings of other classes are listed no more than the files of another data set.
    elsewhere = set()
    for split, label, key, name in rows:
        if not label and classes is None:  # labels of the test split have been held back
            lister.add(split, key, name)
        elif label in numbers:
            lister.add(split, key, name, [numbers[label]])
        else:
            elsewhere.add(key)
    for split, label, path in in_folders:
        if label in numbers:
            lister.add_file(split, path, [numbers[label]])
    for split, name in problems:
        lister.leave_out(split, name, listing.UNREADABLE)
    others = {path for _, label, path in in_folders if label not in numbers}
    others |= {path for path in source.media if elsewhere.intersection(_keys(path))}
    lister.ignore(others)
    return lister.listing(class_names)


def _rows(
    source: listing.Source,
) -> tuple[list[tuple[str, str, tuple[str, int, int], str]], list[tuple[str, str]]]:
    """Reads the CSV files.

    Returns:
        Split, class (which may be empty), key and name of each row that can be read; split, which
        may be empty, and the place of each row that cannot.
    """
    rows, problems = [], []
    for table in source.annotations(r".*\.csv"):
        if not set(_COLUMNS) <= set(source.header(table)):
            continue
        by_name = _split(listing.stem(table))
        for line, row in source.table(table):
            split = _split(row.get("split", "")) or by_name
            match = _ROW.fullmatch("\n".join(row[name] for name in _COLUMNS))
            label = _class_name(row.get("label", ""))
            if match is None or not split or not (label or split == "test"):
                problems.append((split, f"{table}:{line}"))
                continue
            key = (match["id"], int(match["start"]), int(match["end"]))
            rows.append((split, label, key, f"{split}/{key[0]}_{key[1]:06d}_{key[2]:06d}"))
    return rows, problems


def _keys(path: str) -> list[tuple[str, int, int]]:
    """What a row may name a file."""
    match = _FILE.fullmatch(listing.stem(path))
    return [(match["id"], int(match["start"]), int(match["end"]))] if match else []


def _place(path: str) -> tuple[str, str]:
    """Split and class that a file's folders say; empty where they say none."""
    *folders, _ = path.split("/")
    for place, folder in enumerate(folders):
        if split := _split(folder):
            following = folders[place + 1 :]
            return split, _class_name(following[0]) if following else ""
    return "", ""


def _split(name: str) -> str:
    """The split that a word stands for, such as "validate" or "kinetics_train"; or nothing."""
    match = _SPLIT.fullmatch(name)
    return match[1].lower() if match else ""


def _class_name(name: str) -> str:
    """A class as Kinetics writes it; folders often have underscores for spaces."""
    return " ".join(name.replace("_", " ").split())
