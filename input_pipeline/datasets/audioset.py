"""AudioSet: files `<ytid>_<start>.mp4` in any folder, and the CSV files of the segments.

CSV rows are `YTID, start_seconds, end_seconds, "labels"` after three comment lines; the labels are
not used. The start in a file's name is in seconds, with or without decimals, or in milliseconds. An
end may follow it.
"""

import pathlib
import re

from input_pipeline.datasets import listing

_FILE = re.compile(r"(?P<id>[\w-]{11})_(?P<start>\d+(\.\d+)?)(_\d+(\.\d+)?)?")
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
    source = listing.Source(root)
    tables = source.annotations(_SEGMENTS)
    if not tables:
        raise ValueError("no balanced_train_segments.csv, nor another *segments*.csv")
    lister = listing.Lister(source, _keys)
    for table in tables:
        split = "eval" if "eval" in table.rpartition("/")[2].lower() else "train"
        for line, row in source.rows(table):
            if row[0].startswith("#"):
                continue
            match = _ROW.fullmatch("\n".join(row[:2]))
            if match is None:
                lister.leave_out(split, f"{table}:{line}", listing.UNREADABLE)
                continue
            milliseconds = round(float(match["start"]) * 1000)
            lister.add(split, (match["id"], milliseconds), f"{match['id']}_{row[1]}")
    return lister.listing()


def _keys(path: str) -> list[tuple[str, int]]:
    """Returns the (video, start in milliseconds) pairs by which a row may refer to a file."""
    match = _FILE.fullmatch(listing.stem(path))
    if match is None:
        return []
    starts = {round(float(match["start"]) * 1000)}
    if match["start"].isdecimal():
        starts.add(int(match["start"]))
    return [(match["id"], start) for start in sorted(starts, reverse=True)]
