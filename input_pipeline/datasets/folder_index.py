"""Cache of what examining a folder's files has shown, so that later starts are quick.

If the cache is damaged, unreadable or of another version, the files are examined again.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping

import av

from input_pipeline.files import atomic, sealed
from input_pipeline.media import containers, reader

# Increase the number when the examination changes. What FFmpeg decodes depends on PyAV's build.
_VERSION = f"4 {av.__version__}"


@dataclasses.dataclass(frozen=True)
class Look:
    """The result of examining a file, and the state of the file at that time.

    Attributes:
        stamp: Size in bytes and time of change in nanoseconds; None if the file cannot be accessed.
        verdict: Content of the file, or the reason why it is unusable.
    """

    stamp: tuple[int, int] | None
    verdict: reader.MediaInfo | str

    @property
    def lasts(self) -> bool:
        """Whether the result holds until the file changes: nothing hindered the examination."""
        return self.stamp is not None and self.verdict != containers.INACCESSIBLE


def load(path: pathlib.Path) -> dict[str, Look]:
    """Reads the results by path that `save` wrote; empty if there is no valid cache."""
    try:
        content = sealed.unseal(sealed.load_json(path))
        if content["version"] != _VERSION:
            return {}
        return {name: _look(fields) for name, fields in content["files"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        print(f"{path} is damaged: all files are examined again")
        return {}


def save(path: pathlib.Path, looks: Mapping[str, Look]) -> bool:
    """Writes the results that last (see `Look.lasts`); returns whether that succeeded."""
    files = {name: _fields(look) for name, look in looks.items() if look.lasts}
    content = sealed.seal({"version": _VERSION, "files": files})
    try:
        atomic.write_text(path, json.dumps(content, indent=1))
    except OSError:
        return False
    return True


def stamp(path: str | os.PathLike) -> tuple[int, int] | None:
    """Returns a file's size in bytes and time of change in ns; None if it cannot be accessed."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _fields(look: Look) -> dict[str, object]:
    size, modified = look.stamp
    fields = {"size": size, "modified": modified}
    if isinstance(look.verdict, str):
        return fields | {"reason": look.verdict}
    return fields | {"info": dataclasses.asdict(look.verdict)}


def _look(fields: Mapping[str, object]) -> Look:
    """Inverts `_fields`; raises ValueError, KeyError or TypeError if the fields are invalid."""
    stamp = fields["size"], fields["modified"]
    if any(type(number) is not int for number in stamp):
        raise TypeError("size or time of change is not an integer")
    if "reason" in fields:
        if fields["reason"] not in reader.REASONS:
            raise ValueError("unknown reason")
        return Look(stamp, fields["reason"])
    info = reader.MediaInfo(**fields["info"])
    times = (info.start, info.duration, info.sound_start, info.sound_duration)
    if type(info.has_picture) is not bool or not all(math.isfinite(time) for time in times):
        raise ValueError("a time is not finite, or has_picture is not a boolean")
    return Look(stamp, info)
