"""ESC-50: `audio/*.wav` and `meta/esc50.csv`, whose folds are partitions: the fold is the test."""

import collections
import pathlib

from input_pipeline.datasets import listing
from input_pipeline.records import Role


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: The folder, all below which is looked through.

    Returns:
        One split, and a partition for each fold.

    Raises:
        ValueError: There is no esc50.csv, or it lacks a column.
    """
    source = listing.Source(root, listing.SOUND_EXTENSIONS)
    tables = source.annotations(r"esc50\.csv")
    if not tables:
        raise ValueError("no meta/esc50.csv")
    (table, *_), columns = tables, {"filename", "fold", "target", "category"}
    if missing := columns - set(source.header(table)):
        raise ValueError(f"{table} without the columns {', '.join(sorted(missing))}")
    lister = listing.Lister(source, lambda path: [listing.stem(path)])
    rows, called = [], collections.defaultdict(collections.Counter)
    for line, row in source.table(table):
        fold, target = row["fold"], row["target"]
        if row["filename"] and row["category"] and fold.isdecimal() and target.isdecimal():
            rows.append((row["filename"], int(fold), int(target)))
            called[int(target)][row["category"]] += 1
        else:
            lister.leave_out(listing.FULL, f"{table}:{line}", listing.UNREADABLE)
    folds = sorted({fold for _, fold, _ in rows})
    targets = sorted(called)
    names = [called[target].most_common(1)[0][0] for target in targets]
    for target, name in zip(targets, names, strict=True):
        if others := [other for other in called[target] if other != name]:
            also = " and ".join(map(repr, others))
            lister.note(f"target {target} is {name!r} and also {also} in {table}: it is the former")
    for file, own, target in rows:
        roles = [Role.TEST if fold == own else Role.TRAIN for fold in folds]
        lister.add(listing.FULL, listing.stem(file), file, [targets.index(target)], roles)
    return lister.listing(names, [str(fold) for fold in folds], require="sound")
