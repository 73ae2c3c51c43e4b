"""What earlier looks at a folder's files have found, kept so that later starts are quick.

The file is a cache. If it is damaged, of another version or cannot be read, the files are looked at
again.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping

import av

from input_pipeline import atomic, containers, media, sealed

# Raised when looking at a file changes what it says. What FFmpeg decodes depends on its build.
_VERSION = f"4 {av.__version__}"


@dataclasses.dataclass(frozen=True)
class Look:
    """What was found of a file, and which state of it was looked at.

    Attributes:
        stamp: Size in bytes and time of change in nanoseconds; None where the file cannot be
            accessed.
        verdict: What it holds, or the reason why it is unusable.
    """

    stamp: tuple[int, int] | None
    verdict: media.MediaInfo | str

    @property
    def lasts(self) -> bool:
        """Whether it is true as long as the file is the same: nothing hindered the look."""
        return self.stamp is not None and self.verdict != containers.INACCESSIBLE


def load(path: pathlib.Path) -> dict[str, Look]:
    """Reads what `save` wrote: looks by path. Nothing where there is no such cache."""
    try:
        content = sealed.load_json(path)
        if content["version"] != _VERSION:
            return {}
        files = sealed.unseal(content)["files"]
        return {name: _look(fields) for name, fields in files.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        print(f"{path} is damaged: all files are looked at again")
        return {}


def save(path: pathlib.Path, looks: Mapping[str, Look]) -> bool:
    """Writes the looks that last; returns whether that was possible."""
    files = {name: _fields(look) for name, look in looks.items() if look.lasts}
    content = sealed.seal({"version": _VERSION, "files": files})
    try:
        atomic.write_text(path, json.dumps(content, indent=1))
    except OSError:
        return False
    return True


def stamp(path: str | os.PathLike) -> tuple[int, int] | None:
    """Size and time of change of a file; None where the system does not tell."""
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
    """Reads a look; raises ValueError, KeyError or TypeError where the fields are not of one."""
    stamp = fields["size"], fields["modified"]
    if any(type(number) is not int for number in stamp):
        raise TypeError("a stamp that is no number")
    if "reason" in fields:
        if fields["reason"] not in media.REASONS:
            raise ValueError("an unknown reason")
        return Look(stamp, fields["reason"])
    info = media.MediaInfo(**fields["info"])
    times = (info.start, info.duration, info.sound_start, info.sound_duration)
    if type(info.has_picture) is not bool or not all(math.isfinite(time) for time in times):
        raise ValueError("times that are no numbers")
    return Look(stamp, info)
