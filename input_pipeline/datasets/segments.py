"""File names of segments of web videos, as AudioSet's and VGGSound's downloaders write them.

A file is called `<ytid>_<start>` or `<ytid>`, perhaps with a "Y" before it, as in `Y<ytid>.wav`.
The start is in seconds, with or without decimals and leading zeros, or in milliseconds; an end may
follow it. A file without a start holds the only segment of its video that the annotations name.
"""

import collections
import re
from collections.abc import Callable, Iterable

from input_pipeline.datasets import source_files

# A video and the start of the segment in milliseconds.
Key = tuple[str, int]

_FILE = re.compile(r"Y?(?P<id>[\w-]{11})(_(?P<start>\d+(\.\d+)?)(_\d+(\.\d+)?)?)?")
_SEGMENT = re.compile(r"(?P<id>[\w-]{11})\n(?P<start>\d+(\.\d+)?)")


def key(video: str, start: str) -> Key | None:
    """Returns the key of a segment in the annotations.

    Args:
        video: Id of the video.
        start: Start in seconds.

    Returns:
        The key. None if this is no segment.
    """
    match = _SEGMENT.fullmatch(f"{video}\n{start}")
    return (match["id"], round(float(match["start"]) * 1000)) if match else None


def keys_of_files(segments: Iterable[Key]) -> Callable[[str], list[Key]]:
    """Returns the function that `listing.Lister` takes: from a file's path to its keys.

    Args:
        segments: All segments that the annotations name.
    """
    starts_by_video: dict[str, set[int]] = collections.defaultdict(set)
    for video, start in segments:
        starts_by_video[video].add(start)

    def keys(path: str) -> list[Key]:
        match = _FILE.fullmatch(source_files.stem(path))
        if match is None:
            return []
        if match["start"] is None:
            only = starts_by_video.get(match["id"], set())
            return [(match["id"], start) for start in only] if len(only) == 1 else []
        starts = {round(float(match["start"]) * 1000)}
        if match["start"].isdecimal():
            starts.add(int(match["start"]))
        return [(match["id"], start) for start in sorted(starts, reverse=True)]

    return keys
