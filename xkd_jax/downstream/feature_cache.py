"""Features on disk: under a key of all that they depend on, in parts, so that none is made twice.

A folder for each key holds `identity.json`, which says in full what the key stands for, and one
file for each part of the recordings. Files appear whole or not at all, with their digests; one that
has been damaged since is made again.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipeline import atomic, sealed


class FeatureCache:
    """The parts of the features of some recordings.

    Attributes:
        folder: Where they are.
        parts: Their number.
    """

    def __init__(
        self, root: pathlib.Path, identity: Mapping[str, Any], recordings: int, part_size: int
    ) -> None:
        """Finds the folder, or makes it.

        Args:
            root: Folder of all features.
            identity: All that features depend on, as plain values.
            recordings: Their number.
            part_size: How many of them there are to a part; fewer in the last one.

        Raises:
            OSError: The folder cannot be made.
        """
        self.parts = -(-recordings // part_size)
        self._recordings, self._part_size = recordings, part_size
        text = json.dumps({**identity, "part_size": part_size}, indent=1, sort_keys=True) + "\n"
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self.folder = root / self._key[:32]
        atomic.write_text(self.folder / "identity.json", text)

    def places(self, part: int) -> slice:
        """Which recordings a part is of."""
        first = part * self._part_size
        return slice(first, min(first + self._part_size, self._recordings))

    def read(self, part: int, into: Mapping[str, np.ndarray]) -> bool:
        """Reads a part.

        Args:
            part: Its number.
            into: Arrays of all recordings, (n, ...) each, of which it fills those of the part.

        Returns:
            Whether it is there, and whole; otherwise nothing has been changed. Where it is there
            and not whole, it says so.
        """
        path, places = self._path(part), self.places(part)
        try:
            saved = sealed.load_arrays(path)
            self._check(path, part, saved, into)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            print(f"{error}: these features are made again", flush=True)
            return False
        for name, array in into.items():
            array[places] = saved[name]
        return True

    def _check(
        self,
        path: pathlib.Path,
        part: int,
        saved: Mapping[str, np.ndarray],
        into: Mapping[str, np.ndarray],
    ) -> None:
        """Raises ValueError where a file is none of this part."""
        places = self.places(part)
        wanted = {name: (array[places].shape, array.dtype) for name, array in into.items()}
        features = {name: array for name, array in saved.items() if name not in ("key", "part")}
        found = {name: (array.shape, array.dtype) for name, array in features.items()}
        marks = [str(saved.get(name)) for name in ("key", "part")]
        if marks != [self._key, str(part)] or found != wanted:
            raise ValueError(f"{path} holds other features than its name says")

    def write(self, part: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a part, out of arrays such as `read` fills."""
        places = self.places(part)
        marks = {"key": self._key, "part": part}
        features = {name: array[places] for name, array in arrays.items()}
        sealed.save_arrays(self._path(part), marks | features)

    def _path(self, part: int) -> pathlib.Path:
        return self.folder / f"part-{part:05d}-of-{self.parts:05d}.npz"
