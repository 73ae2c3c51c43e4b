"""AudioSet: files `<ytid>_<start>.mp4` or `<ytid>.mp4` in any folder, and the CSV files.

CSV rows are `YTID, start_seconds, end_seconds, "labels"` after three comment lines; the labels are
not used. The start in a file's name is in seconds, with or without decimals, or in milliseconds. An
end may follow it. A file without a start holds the only segment of its video that the CSV files
name. Sound files are found too. A "Y" may precede any name, as in `Y<ytid>.wav`.
"""

import collections
import pathlib
import re
from collections.abc import Mapping

from input_pipeline.datasets import listing, source_files

_FILE = re.compile(r"Y?(?P<id>[\w-]{11})(_(?P<start>\d+(\.\d+)?)(_\d+(\.\d+)?)?)?")
_SEGMENTS = r".*segments.*\.csv"
_ROW = re.compile(r"(?P<id>[\w-]{11})\n(?P<start>\d+(\.\d+)?)")


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing, without labels. Split train holds balanced_train_segments.csv and
        unbalanced_train_segments.csv, split eval holds eval_segments.csv.

    Raises:
        ValueError: There is no CSV file of segments.
    """
    source = source_files.Source(
        root, source_files.VIDEO_EXTENSIONS | source_files.SOUND_EXTENSIONS
    )
    tables = source.annotations(_SEGMENTS)
    if not tables:
        raise ValueError("no balanced_train_segments.csv, nor another *segments*.csv")
    rows: list[tuple[str, tuple[str, int], str]] = []  # (split, key, name)
    problems: list[tuple[str, str]] = []  # (split, file and line)
    for table in tables:
        split = "eval" if "eval" in table.rpartition("/")[2].lower() else "train"
        for line, row in source.rows(table):
            if row[0].startswith("#"):
                continue
            match = _ROW.fullmatch("\n".join(row[:2]))
            if match is None:
                problems.append((split, f"{table}:{line}"))
                continue
            key = (match["id"], round(float(match["start"]) * 1000))
            rows.append((split, key, f"{match['id']}_{row[1]}"))
    starts: dict[str, set[int]] = collections.defaultdict(set)
    for _, (video, start), _ in rows:
        starts[video].add(start)
    lister = listing.Lister(source, lambda path: _keys(path, starts))
    for split, key, name in rows:
        lister.add(split, key, name)
    for split, name in problems:
        lister.leave_out(split, name, listing.UNREADABLE)
    return lister.listing()


def _keys(path: str, starts_by_video: Mapping[str, set[int]]) -> list[tuple[str, int]]:
    """Returns the (video, start in milliseconds) pairs by which a row may refer to a file.

    Args:
        path: Path of the file.
        starts_by_video: Starts of the segments that the annotations name.
    """
    match = _FILE.fullmatch(source_files.stem(path))
    if match is None:
        return []
    if match["start"] is None:
        segments = starts_by_video.get(match["id"], set())
        return [(match["id"], start) for start in segments] if len(segments) == 1 else []
    starts = {round(float(match["start"]) * 1000)}
    if match["start"].isdecimal():
        starts.add(int(match["start"]))
    return [(match["id"], start) for start in sorted(starts, reverse=True)]
