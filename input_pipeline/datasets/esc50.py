"""ESC-50: `audio/*.wav` and `meta/esc50.csv`. Each fold is a partition that tests on that fold."""

import collections
import pathlib

from input_pipeline.datasets import listing, source_files
from input_pipeline.prepared.records import Role


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing: one split, and a partition for each fold.

    Raises:
        ValueError: There is no esc50.csv, or it lacks a column.
    """
    source = source_files.Source(root, source_files.SOUND_EXTENSIONS)
    tables = source.annotations(r"esc50\.csv")
    if not tables:
        raise ValueError("no meta/esc50.csv")
    (table, *_), columns = tables, {"filename", "fold", "target", "category"}
    if missing := columns - set(source.header(table)):
        raise ValueError(f"{table} lacks the columns {', '.join(sorted(missing))}")
    lister = listing.Lister(source, lambda path: [source_files.stem(path)])
    rows: list[tuple[str, int, int]] = []
    name_counts: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line, row in source.table(table):
        fold, target = row["fold"], row["target"]
        if row["filename"] and row["category"] and fold.isdecimal() and target.isdecimal():
            rows.append((row["filename"], int(fold), int(target)))
            name_counts[int(target)][row["category"]] += 1
        else:
            lister.leave_out(listing.FULL, f"{table}:{line}", listing.UNREADABLE)
    folds = sorted({fold for _, fold, _ in rows})
    targets = sorted(name_counts)
    names = [name_counts[target].most_common(1)[0][0] for target in targets]
    for target, name in zip(targets, names, strict=True):
        if others := [other for other in name_counts[target] if other != name]:
            also = " and ".join(map(repr, others))
            lister.note(f"{table} calls target {target} {name!r} and also {also}; {name!r} is used")
    for file, test_fold, target in rows:
        roles = [Role.TEST if fold == test_fold else Role.TRAIN for fold in folds]
        lister.add(listing.FULL, source_files.stem(file), file, [targets.index(target)], roles)
    return lister.listing(names, [str(fold) for fold in folds], require="sound")
