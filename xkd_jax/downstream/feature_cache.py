"""Cache of features on disk, with a key for everything that the features depend on.

Each key has a folder. It holds `identity.json`, the full text that the key is a digest of, and one
file for each part of the recordings. Files are written atomically and with a digest of their
content. The caller computes missing and damaged parts again.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipeline.files import atomic, sealed
from xkd_jax.run import console


class FeatureCache:
    """Cached features of some recordings, in parts.

    Attributes:
        folder: Folder of the parts.
        parts: Number of parts.
    """

    def __init__(
        self, root: pathlib.Path, identity: Mapping[str, Any], recordings: int, part_size: int
    ) -> None:
        """Opens the folder, and creates it if it is missing.

        Args:
            root: Folder of all cached features.
            identity: Everything that the features depend on, as plain values.
            recordings: Number of recordings.
            part_size: Number of recordings per part. The last part may have fewer.

        Raises:
            OSError: The folder cannot be created.
        """
        self.parts = -(-recordings // part_size)
        self._recordings, self._part_size = recordings, part_size
        text = json.dumps({**identity, "part_size": part_size}, indent=1, sort_keys=True) + "\n"
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self.folder = root / self._key[:32]
        atomic.write_text(self.folder / "identity.json", text)

    def places(self, part: int) -> slice:
        """Returns the range of recordings in a part."""
        first = part * self._part_size
        return slice(first, min(first + self._part_size, self._recordings))

    def read(self, part: int, into: Mapping[str, np.ndarray]) -> bool:
        """Reads a part. Prints a line if the file is damaged.

        Args:
            part: Index of the part.
            into: Arrays (n, ...) of all recordings by name. The rows of the part are filled in.

        Returns:
            Whether the part was read. If not, `into` is unchanged.
        """
        path, places = self._path(part), self.places(part)
        try:
            saved = sealed.load_arrays(path)
            self._check(path, part, saved, into)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            console.say(f"{error}; these features are computed again")
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
        """Raises ValueError if a file holds anything but this part."""
        places = self.places(part)
        expected = {name: (array[places].shape, array.dtype) for name, array in into.items()}
        features = {name: array for name, array in saved.items() if name not in ("key", "part")}
        actual = {name: (array.shape, array.dtype) for name, array in features.items()}
        marks = [str(saved.get(name)) for name in ("key", "part")]
        if marks != [self._key, str(part)] or actual != expected:
            raise ValueError(f"{path} holds features of another part or key")

    def write(self, part: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a part.

        Args:
            part: Index of the part.
            arrays: Arrays (n, ...) of all recordings by name. The rows of the part are written.

        Raises:
            OSError: The file cannot be written.
        """
        places = self.places(part)
        marks = {"key": self._key, "part": part}
        features = {name: array[places] for name, array in arrays.items()}
        sealed.save_arrays(self._path(part), marks | features)

    def _path(self, part: int) -> pathlib.Path:
        return self.folder / f"part-{part:05d}-of-{self.parts:05d}.npz"
