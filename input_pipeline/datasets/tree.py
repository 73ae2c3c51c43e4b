"""Any tree of media files as a data set: its folders are the splits and the classes."""

import pathlib

from input_pipeline.datasets import listing

_SPLITS = ("train", "val", "valid", "validation", "test", "eval")


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the media files.

    The top-level folders are the splits, if every file lies in one that is called like a split.
    The folders below, or the top-level ones, are the classes, if every file lies in one.

    Args:
        root: The folder, all below which is looked through.

    Returns:
        The splits, or the one split.

    Raises:
        ValueError: There is no media file.
    """
    extensions = listing.VIDEO_EXTENSIONS | listing.SOUND_EXTENSIONS
    source = listing.Source(root, extensions)
    if not source.media:
        raise ValueError(f"no media file ({', '.join(sorted(extensions))})")
    lister = listing.Lister(source, lambda path: [])
    parts = {path: path.split("/")[:-1] for path in source.media}
    has_splits = all(folders and folders[0] in _SPLITS for folders in parts.values())
    below = {path: folders[has_splits:] for path, folders in parts.items()}
    class_names: list[str] = []
    if all(below.values()):
        class_names = sorted({listing.printable(folders[0]) for folders in below.values()})
    numbers = {name: number for number, name in enumerate(class_names)}
    for path in source.media:
        labels = [numbers[listing.printable(below[path][0])]] if class_names else []
        lister.add_file(parts[path][0] if has_splits else "train", path, labels)
    return lister.listing(class_names)
