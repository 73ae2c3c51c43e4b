"""Kinetics400, 600 and 700 in their two usual layouts, and Kinetics-Sound: 32 classes of the first.

One layout is `<split>/<class>/<id>_<start>_<end>.mp4`, with spaces or underscores in the classes.
The other has such files in any folder, and CSV files with the columns label, youtube_id,
time_start, time_end and split. Times are in seconds and may have decimals.
"""

import pathlib
import re
from collections.abc import Sequence

from input_pipeline.datasets import listing, source_files

# The 34 classes in the appendix of Arandjelovic and Zisserman, "Look, Listen and Learn" (ICCV
# 2017), under their names in the published Kinetics400: "blowing out" became "blowing out candles",
# "fingerpicking" became "strumming guitar", and so on. "typing" and "patting" are not in it.
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
_FILE = re.compile(r"(?P<id>[\w-]{11})_(?P<start>\d+(\.\d+)?)_(?P<end>\d+(\.\d+)?)")
_ROW = re.compile(r"(?P<id>[\w-]{11})\n(?P<start>\d+(\.\d*)?)\n(?P<end>\d+(\.\d*)?)")
_SPLIT = re.compile(r"(?:.*[ ._-])?(train|val|test)(?:ing|id|idation|idate)?(?:[ ._-].*)?", re.I)


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings of Kinetics400, 600 or 700, which differ in their classes alone.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing: those of the splits train, val and test that are there. A split that appears in
        CSV files holds their rows; any other split holds the files of its folders.

    Raises:
        ValueError: The folder has neither layout.
    """
    return _list(root, None)


def sound_recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings of Kinetics-Sound in a folder of Kinetics400; see `recordings`."""
    return _list(root, KINETICS_SOUND)


def _list(root: pathlib.Path, classes: Sequence[str] | None) -> listing.Listing:
    """Lists the recordings of the given classes, or of every class if `classes` is None."""
    source = source_files.Source(root)
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
    # Recordings of other classes are ignored, like the files of another data set.
    ignored_keys = set()
    for split, label, key, name in rows:
        if not label and classes is None:  # the labels of the test split are not published
            lister.add(split, key, name)
        elif label in numbers:
            lister.add(split, key, name, [numbers[label]])
        else:
            ignored_keys.add(key)
    for split, label, path in in_folders:
        if label in numbers:
            lister.add_file(split, path, [numbers[label]])
    for split, name in problems:
        lister.leave_out(split, name, listing.UNREADABLE)
    ignored = {path for _, label, path in in_folders if label not in numbers}
    ignored |= {path for path in source.media if ignored_keys.intersection(_keys(path))}
    lister.ignore(ignored)
    return lister.listing(class_names)


def _rows(
    source: source_files.Source,
) -> tuple[list[tuple[str, str, tuple[str, int, int], str]], list[tuple[str, str]]]:
    """Reads the CSV files.

    Returns:
        rows: (split, class, key, name) of each valid row; the class may be empty.
        problems: (split, file and line) of each invalid row; the split may be empty.
    """
    rows, problems = [], []
    for table in source.annotations(r".*\.csv"):
        if not set(_COLUMNS) <= set(source.header(table)):
            continue
        by_name = _split(source_files.stem(table))
        for line, row in source.table(table):
            split = _split(row.get("split", "")) or by_name
            match = _ROW.fullmatch("\n".join(row[name] for name in _COLUMNS))
            label = _class_name(row.get("label", ""))
            if match is None or not split or not (label or split == "test"):
                problems.append((split, f"{table}:{line}"))
                continue
            key = _key(match)
            rows.append((split, label, key, f"{split}/{key[0]}_{_time(key[1])}_{_time(key[2])}"))
    return rows, problems


def _keys(path: str) -> list[tuple[str, int, int]]:
    """Returns the keys by which a row may refer to a file: one or none."""
    match = _FILE.fullmatch(source_files.stem(path))
    return [_key(match)] if match else []


def _key(match: re.Match) -> tuple[str, int, int]:
    """Returns the id, and the start and end in milliseconds."""
    return match["id"], *(round(float(match[name]) * 1000) for name in ("start", "end"))


def _time(milliseconds: int) -> str:
    """Returns a time in seconds as file names have it: with six digits, and decimals if any."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds:06d}" + (f".{rest:03d}".rstrip("0") if rest else "")


def _place(path: str) -> tuple[str, str]:
    """Returns the split and the class in a file's path, each empty if the path has none."""
    *folders, _ = path.split("/")
    for depth, folder in enumerate(folders):
        if split := _split(folder):
            below = folders[depth + 1 :]
            return split, _class_name(below[0]) if below else ""
    return "", ""


def _split(name: str) -> str:
    """Returns the split of a name such as "validate" or "kinetics_train"; empty if none."""
    match = _SPLIT.fullmatch(name)
    return match[1].lower() if match else ""


def _class_name(name: str) -> str:
    """Returns a class as Kinetics writes it; folders often have underscores for spaces."""
    return " ".join(name.replace("_", " ").split())
