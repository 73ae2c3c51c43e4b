"""FSD50K: `FSD50K.{dev,eval}_audio/*.wav` and `FSD50K.ground_truth/{dev,eval,vocabulary}.csv`."""

import pathlib

from input_pipeline.datasets import listing, source_files

# Value of the column `split` in dev.csv -> split. eval.csv has no such column.
_SPLITS = {"train": "train", "val": "val"}


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings, each with any number of classes.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing: splits train and val as dev.csv states them, and split test from eval.csv.

    Raises:
        ValueError: There is no vocabulary.csv, neither dev.csv nor eval.csv, or one of these lacks
            a column.
    """
    source = source_files.Source(root, source_files.SOUND_EXTENSIONS)
    vocabularies = source.annotations(r"vocabulary\.csv")
    tables = source.annotations(r"dev\.csv")[:1] + source.annotations(r"eval\.csv")[:1]
    if not vocabularies or not tables:
        raise ValueError("no FSD50K.ground_truth/vocabulary.csv with dev.csv or eval.csv")
    # Each row holds a number, a name and AudioSet's identifier. There is no header.
    rows = [row for _, row in source.rows(vocabularies[0]) if len(row) > 1 and row[0].isdecimal()]
    class_names = [row[1] for row in sorted(rows, key=lambda row: int(row[0]))]
    numbers = {name: number for number, name in enumerate(class_names)}

    def keys(path: str) -> list[tuple[bool, str]]:
        return [("eval" in path.rpartition("/")[0].lower(), source_files.stem(path))]

    lister = listing.Lister(source, keys)
    for table in tables:
        is_eval = table.endswith("eval.csv")
        columns = {"fname", "labels"} | (set() if is_eval else {"split"})
        if missing := columns - set(source.header(table)):
            raise ValueError(f"{table} lacks the columns {', '.join(sorted(missing))}")
        for line, row in source.table(table):
            split = "test" if is_eval else _SPLITS.get(row["split"])
            labels = [numbers.get(label.strip()) for label in row["labels"].split(",")]
            if split is None or not row["fname"] or None in labels:
                lister.leave_out(split or "", f"{table}:{line}", listing.UNREADABLE)
                continue
            folder = f"FSD50K.{'eval' if is_eval else 'dev'}_audio"
            name = f"{folder}/{row['fname']}.wav"
            lister.add(split, (is_eval, row["fname"]), name, sorted(labels))
    return lister.listing(class_names, require="sound")
