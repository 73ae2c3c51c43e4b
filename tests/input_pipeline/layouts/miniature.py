"""A data set in miniature, and the media files that it is made of."""

import dataclasses
import pathlib
import shutil

from tests import media_files


@dataclasses.dataclass
class Layout:
    """A data set on disk, and the expected listing.

    Attributes:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        root: Folder of the data set.
        kept: Names of the classes and roles of each usable recording, by split and path.
        left_out: Reason by name for each recording that is left out.
        class_names: Names of the classes in the order of their indices.
        partitions: Names of the official partitions.
    """

    dataset: str
    root: pathlib.Path
    kept: dict[str, dict[str, tuple[tuple[str, ...], tuple[int, ...]]]]
    left_out: dict[str, str]
    class_names: tuple[str, ...]
    partitions: tuple[str, ...] = ()


class Media:
    """Media files of 1.5 s for the data sets, whole and broken ones. Each is made once."""

    def __init__(self, folder: pathlib.Path) -> None:
        def make(name: str, **form: object) -> bytes:
            return media_files.write_media(folder / name, 1.5, **form).read_bytes()

        avi = {"video_codec": "mpeg4", "audio_codec": "libmp3lame"}
        wav = {"video_codec": None, "audio_codec": "pcm_s16le", "layout": "mono"}
        self.mp4 = make("a.mp4")
        self.silent_mp4 = make("silent.mp4", audio_codec=None)
        self.sound_mp4 = make("sound.mp4", video_codec=None)
        self.avi = make("a.avi", **avi)
        self.silent_avi = make("silent.avi", **(avi | {"audio_codec": None}))
        self.wav = make("a.wav", **wav)
        self.webm = make("a.webm", video_codec="libvpx-vp9", audio_codec=None)

    @staticmethod
    def half(data: bytes) -> bytes:
        """Returns the first half of a file."""
        return data[: len(data) // 2]


def write(root: pathlib.Path, files: dict[str, bytes | str]) -> None:
    """Writes files by their relative paths."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def copy_of(layout: Layout, root: pathlib.Path) -> Layout:
    """Copies a data set to another folder."""
    shutil.copytree(layout.root, root)
    return dataclasses.replace(layout, root=root)
