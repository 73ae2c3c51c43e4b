"""HMDB51: `<class>/*.avi` and `testTrainMulti_7030_splits/<class>_test_split{1,2,3}.txt`.

A line is `<file> <role>`; the role is 0 (unused), 1 (training) or 2 (test).
"""

import collections
import pathlib
import re

from input_pipeline.datasets import listing, source_files
from input_pipeline.prepared.records import Role

_LIST = r"(.+)_test_split([1-9]\d*)\.txt"
_ROLES = {"0": Role.UNUSED, "1": Role.TRAIN, "2": Role.TEST}


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing: one split, and a partition for each number in the lists' names.

    Raises:
        ValueError: There are no lists.
    """
    source = source_files.Source(root)
    lists = source.annotations(_LIST)
    if not lists:
        raise ValueError("no testTrainMulti_7030_splits/<class>_test_split1.txt")
    matches = {path: re.fullmatch(_LIST, path.rpartition("/")[2], re.I) for path in lists}
    class_names = sorted({match[1] for match in matches.values()})
    partitions = sorted({int(match[2]) for match in matches.values()})

    def keys(path: str) -> list[tuple[str, str]]:
        folders = path.split("/")[:-1]
        return [(folders[-1], source_files.stem(path))] if folders else []

    lister = listing.Lister(source, keys)
    roles: dict[tuple[str, str], list[int | None]] = collections.defaultdict(
        lambda: [None] * len(partitions)
    )
    for path, match in matches.items():
        place = partitions.index(int(match[2]))
        for line, text in source.lines(path):
            name, _, number = text.rpartition(" ")
            key = (match[1], source_files.stem(name.strip()))
            if number not in _ROLES or not key[1]:
                lister.leave_out(listing.FULL, f"{path}:{line}", listing.UNREADABLE)
            elif roles[key][place] is not None:
                lister.leave_out(listing.FULL, f"{path}:{line}", listing.TWICE)
            else:
                roles[key][place] = _ROLES[number]
    for key, places in roles.items():
        name, label = "/".join(key), class_names.index(key[0])
        lister.add(listing.FULL, key, name, [label], [place or Role.UNUSED for place in places])
    return lister.listing(class_names, [str(number) for number in partitions])
