"""AudioSet: files `<ytid>_<start>.mp4` or `<ytid>.mp4` in any folder, and the CSV files.

CSV rows are `YTID, start_seconds, end_seconds, "labels"` after three comment lines. Labels are
machine ids such as /m/09x0r, whose classes are in `class_labels_indices.csv`; without that file,
labels are not used. `segments` has the forms of the files' names. Sound files are found too.
"""

import pathlib

from input_pipeline.datasets import listing, segments, source_files

_SEGMENTS = r".*segments.*\.csv"
_CLASSES = r"class_labels_indices\.csv"
_CLASS_COLUMNS = {"index", "mid", "display_name"}


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings, each with any number of classes.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing. Split train holds balanced_train_segments.csv and
        unbalanced_train_segments.csv, split eval holds eval_segments.csv. Without
        class_labels_indices.csv there are no labels, which is noted.

    Raises:
        ValueError: There is no CSV file of segments, or class_labels_indices.csv lacks a column.
    """
    return _list(root, balanced=False)


def balanced_recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings of AudioSet-20K: split train holds balanced_train_segments.csv alone.

    Files of unbalanced_train_segments.csv are ignored. See `recordings`.
    """
    return _list(root, balanced=True)


def _list(root: pathlib.Path, balanced: bool) -> listing.Listing:
    """Lists all recordings, or those of the balanced training set and of the evaluation set."""
    source = source_files.Source(
        root, source_files.VIDEO_EXTENSIONS | source_files.SOUND_EXTENSIONS
    )
    tables = source.annotations(_SEGMENTS)
    if not any(_is_used(table, balanced) for table in tables):
        raise ValueError("no balanced_train_segments.csv, nor another *segments*.csv")
    class_names, numbers = _classes(source)
    rows: list[tuple[str, segments.Key, str, list[int]]] = []  # (split, key, name, classes)
    problems: list[tuple[str, str]] = []  # (split, file and line)
    others: set[segments.Key] = set()  # of the tables that are not used
    for table in tables:
        split = "eval" if "eval" in _name(table) else "train"
        for line, row in source.rows(table):
            if row[0].startswith("#"):
                continue
            key = segments.key(*(*row, "")[:2])
            labels = _labels(row, numbers)
            if not _is_used(table, balanced):
                others |= {key} - {None}
            elif key is None or labels is None:
                problems.append((split, f"{table}:{line}"))
            else:
                rows.append((split, key, f"{key[0]}_{row[1]}", labels))
    keys = segments.keys_of_files([*others, *(key for _, key, *_ in rows)])
    lister = listing.Lister(source, keys)
    for split, key, name, labels in rows:
        lister.add(split, key, name, labels)
    for split, name in problems:
        lister.leave_out(split, name, listing.UNREADABLE)
    if others := others.difference(key for _, key, *_ in rows):
        lister.ignore(path for path in source.media if others.intersection(keys(path)))
    if not class_names:
        lister.note("no class_labels_indices.csv: the recordings get no labels")
    return lister.listing(class_names)


def _name(table: str) -> str:
    """Returns the name of a file in lower case, without folders."""
    return table.rpartition("/")[2].lower()


def _is_used(table: str, balanced: bool) -> bool:
    """Returns whether the segments of a table are listed; see `_list`."""
    return not balanced or "unbalanced" not in _name(table)


def _classes(source: source_files.Source) -> tuple[list[str], dict[str, int]]:
    """Returns the names of the classes, and their indices by machine id; both may be empty."""
    for table in source.annotations(_CLASSES):
        if missing := _CLASS_COLUMNS - set(source.header(table)):
            raise ValueError(f"{table} lacks the columns {', '.join(sorted(missing))}")
        rows = [row for _, row in source.table(table) if row["index"].isdecimal()]
        rows.sort(key=lambda row: int(row["index"]))
        numbers = {row["mid"]: number for number, row in enumerate(rows)}
        return [row["display_name"] for row in rows], numbers
    return [], {}


def _labels(row: list[str], numbers: dict[str, int]) -> list[int] | None:
    """Returns the classes of a row of segments; None if it has none or an unknown one.

    Args:
        row: Values of the row. The labels may be split at their commas if they are not quoted.
        numbers: Indices of the classes by machine id; if empty, no row has classes.
    """
    if not numbers:
        return []
    labels = [numbers.get(mid.strip()) for mid in ",".join(row[3:]).split(",")]
    return None if None in labels else sorted(set(labels))
