"""Any tree of media files as a data set: its folders are the splits and the classes."""

import pathlib

from input_pipeline.datasets import listing, splits


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the media files.

    The folders at the top are the splits if they are called so (`splits.among`); files beside them
    are left out. The folders below, or else those at the top, are the classes; files beside those
    have no label.

    Args:
        root: The folder, all below which is looked through.

    Returns:
        The splits, or the one split.

    Raises:
        ValueError: There is no media file, or two folders are one split.
    """
    extensions = listing.VIDEO_EXTENSIONS | listing.SOUND_EXTENSIONS
    source = listing.Source(root, extensions)
    if not source.media:
        raise ValueError(f"no media file ({', '.join(sorted(extensions))})")
    lister = listing.Lister(source, lambda path: [])
    places = dict(zip(source.media, splits.places(source.media), strict=True))
    class_names = sorted({place.label for place in places.values() if place.label})
    numbers = {name: number for number, name in enumerate(class_names)}
    unlabelled = 0
    for path, (split, label) in places.items():
        if split is None:
            lister.leave_out_file(path, listing.BESIDE_SPLITS)
            continue
        lister.add_file(split or "train", path, [numbers[label]] if label else [])
        unlabelled += not label
    if class_names and unlabelled:
        lister.note(f"files in no class's folder, which have no label: {unlabelled}")
    return lister.listing(class_names)
