"""Something-Something v2: `<id>.webm` in any folder, and JSON files for labels and splits.

`train.json`, `validation.json` and `test.json` are lists of objects. Their `id` names the file, and
their `template`, such as "Putting [something] on a surface", is the class; the test split has none.
`labels.json` maps templates without brackets to indices. The files' names may begin with
`something-something-v2-`. The videos have no sound.
"""

import pathlib

from input_pipeline.datasets import listing, source_files

_NAMES = r"(?:.*-)?{}\.json"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}  # by the names of their files


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing: those of the splits train, val and test that are there.

    Raises:
        ValueError: There is no labels.json, or neither train.json nor validation.json, or one of
            these holds something else.
    """
    source = source_files.Source(root)
    labels = source.annotations(_NAMES.format("labels"))
    tables = {
        split: found[0]
        for name, split in _SPLITS.items()
        if (found := source.annotations(_NAMES.format(name)))
    }
    if not labels or not {"train", "val"}.intersection(tables):
        raise ValueError("no labels.json with train.json or validation.json")
    numbers = _numbers(source, labels[0])
    lister = listing.Lister(source, lambda path: [source_files.stem(path)])
    for split, table in tables.items():
        items = source.json(table)
        if not isinstance(items, list):
            raise source_files.AnnotationsError(table, "not a list of videos")
        for place, item in enumerate(items):
            video, template = _video(item)
            label = numbers.get(template)
            if not video or (label is None and (template or split != "test")):
                lister.leave_out(split, f"{table}[{place}]", listing.UNREADABLE)
            else:
                lister.add(split, video, video, [] if label is None else [label])
    return lister.listing(sorted(numbers, key=numbers.get))


def _numbers(source: source_files.Source, path: str) -> dict[str, int]:
    """Returns the indices of the classes by their names, from 0 without gaps."""
    indices = source.json(path)
    if not isinstance(indices, dict) or not all(
        isinstance(index, str | int) and str(index).isdecimal() for index in indices.values()
    ):
        raise source_files.AnnotationsError(path, "not an object of indices by template")
    ordered = sorted(indices, key=lambda name: int(indices[name]))
    return {name: number for number, name in enumerate(ordered)}


def _video(item: object) -> tuple[str, str]:
    """Returns the id and the template without brackets, each empty if the item has none."""
    values = item if isinstance(item, dict) else {}
    video, template = values.get("id", ""), values.get("template", "")
    if not isinstance(video, str | int) or not isinstance(template, str):
        return "", ""
    return str(video), template.replace("[", "").replace("]", "")
