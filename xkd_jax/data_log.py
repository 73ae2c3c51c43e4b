"""What a run's data are, and what of them could not be read while it went on."""

import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.experimental import multihost_utils

from input_pipeline.terminal import printable
from xkd_jax.telemetry import write_whole

if TYPE_CHECKING:
    from input_pipeline.datasets import ClipSource

# The metric: clips since the line before that were of another recording than the one asked for.
REPLACED = "data/replaced"

_NAMED = 5  # recordings in the log's last line


class DataLog:
    """Tells of a source what a run has to keep of it. Use it as a context manager.

    Leaving it says which recordings could not be read, and keeps them, of all starts of the run, in
    `<workdir>/unreadable-<process>.json`: a reason by name.

    Args:
        source: Of the run's clips.
        workdir: The run's folder.
    """

    def __init__(self, source: "ClipSource", workdir: pathlib.Path):
        self._source = source
        self._workdir = workdir
        self._told = 0

    @property
    def inventory(self) -> Mapping[str, int | str]:
        """Of the source, see `ClipSource`; kept with every checkpoint."""
        return self._source.inventory

    def metrics(self) -> dict[str, float]:
        """What to log: `REPLACED`, of all processes. Each of them has to ask."""
        count = self._source.replaced
        new, self._told = count - self._told, count
        if jax.process_count() > 1:
            new = np.sum(multihost_utils.process_allgather(np.int32(new)))
        return {REPLACED: float(new)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        failed = self._source.failed
        if not failed:
            return
        path = self._workdir / f"unreadable-{jax.process_index():05d}.json"
        known = read(self._workdir, path.name) | failed
        try:
            write_whole(path, json.dumps(known, indent=1).encode())
            where = f" (all in {path})"
        except OSError as error:  # what ends the run is to be told, not this
            where = f" ({path} cannot be written: {error.strerror})"
        print(
            f"{self._source.replaced} clips were of other recordings, since {len(failed)} could "
            f"not be read: {in_words(failed)}{where}",
            flush=True,
        )


def read(workdir: pathlib.Path, pattern: str = "unreadable-*.json") -> dict[str, str]:
    """Why recordings could not be read, by name, as far as the run has said so."""
    found: dict[str, str] = {}
    for path in sorted(workdir.glob(pattern)):
        try:
            content = json.loads(path.read_bytes())
            found |= {str(name): str(reason) for name, reason in content.items()}
        except (OSError, ValueError, AttributeError, RecursionError):
            print(f"{path} is damaged: what it says of unreadable recordings is lost", flush=True)
    return found


def in_words(failed: Mapping[str, str]) -> str:
    """The first of the recordings and their reasons, printable, and how many more there are."""
    named = [
        f"{printable(name)} ({printable(reason)})" for name, reason in list(failed.items())[:_NAMED]
    ]
    more = len(failed) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
