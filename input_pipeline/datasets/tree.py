"""Any tree of media files as a data set, whose folders are the splits and the classes."""

import pathlib

from input_pipeline.datasets import listing, source_files, splits


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the media files.

    The top-level folders are the splits if their names say so (see `splits.find_splits`); files
    beside them are left out. The classes are the folders inside the splits, or the top-level
    folders if there are no splits. Files beside the classes have no label.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing, with the tree's splits or one split "train".

    Raises:
        ValueError: There is no media file, or two folders name the same split.
    """
    extensions = source_files.VIDEO_EXTENSIONS | source_files.SOUND_EXTENSIONS
    source = source_files.Source(root, extensions)
    if not source.media:
        raise ValueError(f"no media file ({', '.join(sorted(extensions))})")
    lister = listing.Lister(source, lambda path: [])
    places = dict(zip(source.media, splits.locate(source.media), strict=True))
    class_names = sorted({place.label for place in places.values() if place.label})
    numbers = {name: number for number, name in enumerate(class_names)}
    unlabeled = 0
    for path, (split, label) in places.items():
        if split is None:
            lister.leave_out_file(path, listing.BESIDE_SPLITS)
            continue
        lister.add_file(split or "train", path, [numbers[label]] if label else [])
        unlabeled += not label
    if class_names and unlabeled:
        lister.note(f"files outside the classes' folders, without a label: {unlabeled}")
    return lister.listing(class_names)
