"""VGGSound: files `<ytid>_<start>.mp4` in any folder, and `vggsound.csv`.

A row is `<ytid>,<start>,<class>,<split>`, the start in seconds and the split train or test; there
is no header. `segments` has the forms of the files' names. Sound files are found too.
"""

import pathlib

from input_pipeline.datasets import listing, segments, source_files

_SPLITS = ("train", "test")


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing, with the splits train and test.

    Raises:
        ValueError: There is no vggsound.csv.
    """
    source = source_files.Source(
        root, source_files.VIDEO_EXTENSIONS | source_files.SOUND_EXTENSIONS
    )
    tables = source.annotations(r"vgg-?sound\.csv")
    if not tables:
        raise ValueError("no vggsound.csv")
    rows: list[tuple[str, segments.Key, str, str]] = []  # (split, key, name, class)
    problems: list[tuple[str, str]] = []  # (split, file and line)
    for line, row in source.rows(tables[0]):
        video, start, label, split = (*row, "", "", "", "")[:4]
        key = segments.key(video, start)
        if key is None or not label or split not in _SPLITS or len(row) > 4:
            problems.append((split if split in _SPLITS else "", f"{tables[0]}:{line}"))
        else:
            rows.append((split, key, f"{video}_{int(key[1] / 1000):06d}", label))
    class_names = sorted({label for *_, label in rows})
    numbers = {name: number for number, name in enumerate(class_names)}
    lister = listing.Lister(source, segments.keys_of_files(key for _, key, *_ in rows))
    for split, key, name, label in rows:
        lister.add(split, key, name, [numbers[label]])
    for split, place in problems:
        lister.leave_out(split, place, listing.UNREADABLE)
    return lister.listing(class_names)
