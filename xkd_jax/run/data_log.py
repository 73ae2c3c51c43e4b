"""Logs which data a run uses, and which recordings could not be read during the run."""

import json
import math
import pathlib
import time
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from input_pipeline.files import atomic, sealed
from input_pipeline.programs.terminal import printable
from input_pipeline.programs.wording import counted
from xkd_jax.run import processes

if TYPE_CHECKING:
    from input_pipeline.sources import ClipSource

# Metric: number of clips since the last line of the log that replace one of another recording.
REPLACED = "data/replaced"
# Metric: number of cores that made batches, on average since the last line of the log.
LOADER_CORES = "speed/loader_cores"

COUNTS = "data.json"

_NAMED = 5  # recordings that the last line of the log names


class Counts(NamedTuple):
    """Numbers of recordings in a run's data.

    Attributes:
        recordings: All of them.
        used: Those that the run draws from.
        without_sound: Those without sound.
        without_picture: Those without a picture.
        shares: Share of the run's examples that each folder gives, by its name.
    """

    recordings: int
    used: int
    without_sound: int
    without_picture: int
    shares: Mapping[str, float] = types.MappingProxyType({})


class DataLog:
    """The log of a data source. Use it as a context manager.

    At its start it writes `<workdir>/data.json`: numbers of recordings. At its end it prints which
    recordings could not be read, and adds them to `<workdir>/unreadable-<process>.json`, which
    holds the reasons by name for all starts of the run.

    Args:
        source: Source of the run's clips.
        workdir: Folder of the run.
        used: Number of recordings that the run draws from; by default all.
        processor_seconds: Function that returns the processor time spent on batches so far, in
            seconds, or NaN; None if it is not to be logged.
        shares: Share of the run's examples that each folder gives, by its name.
    """

    def __init__(
        self,
        source: "ClipSource",
        workdir: pathlib.Path,
        processor_seconds: Callable[[], float] | None = None,
        used: int | None = None,
        shares: Mapping[str, float] = types.MappingProxyType({}),
    ) -> None:
        self._source = source
        self._workdir = workdir
        self._used = len(source) if used is None else used
        self._shares = dict(shares)
        self._processor_seconds = processor_seconds
        self._logged = 0
        self._logged_seconds, self._logged_at = 0.0, time.perf_counter()

    @property
    def inventory(self) -> Mapping[str, int | str]:
        """Inventory of the source, see `ClipSource`; saved with every checkpoint."""
        return self._source.inventory

    def metrics(self) -> dict[str, float]:
        """Returns what is to be logged about the data since the last call.

        Returns:
            `REPLACED`, summed over all processes, which must all call this; and `LOADER_CORES` of
            this process, where it is known.
        """
        count = self._source.replaced
        new, self._logged = count - self._logged, count
        if jax.process_count() > 1:
            new = np.sum(multihost_utils.process_allgather(np.int32(new)))
        return {REPLACED: float(new)} | self._loader_cores()

    def _loader_cores(self) -> dict[str, float]:
        seconds = self._processor_seconds() if self._processor_seconds else math.nan
        if math.isnan(seconds):
            return {}
        now = time.perf_counter()
        cores = (seconds - self._logged_seconds) / (now - self._logged_at)
        self._logged_seconds, self._logged_at = seconds, now
        return {LOADER_CORES: cores}

    def __enter__(self) -> Self:
        if processes.is_first():
            counts = Counts(
                recordings=len(self._source),
                used=self._used,
                without_sound=int(np.sum(~self._source.has_audio)),
                without_picture=int(np.sum(~self._source.has_video)),
                shares=self._shares,
            )
            atomic.write_text(self._workdir / COUNTS, json.dumps(counts._asdict(), indent=1))
        return self

    def __exit__(self, *_: object) -> None:
        failed = self._source.failed
        if not failed:
            return
        path = self._workdir / f"unreadable-{jax.process_index():05d}.json"
        known = read(self._workdir, path.name) | failed
        try:
            atomic.write_text(path, json.dumps(known, indent=1))
            where = f" (all in {path})"
        except OSError as error:  # must not hide the error that ends the run
            where = f" ({path} cannot be written: {error.strerror})"
        print(  # each process its own
            f"{replaced_in_words(self._source.replaced, failed)}{where}",
            flush=True,
        )


def read_counts(workdir: pathlib.Path) -> Counts | None:
    """Reads the numbers of recordings of a run; returns None if they are missing or damaged."""
    try:
        values = sealed.load_json(workdir / COUNTS)
        counts = Counts(**values)
        shares_are_numbers = all(type(share) is float for share in counts.shares.values())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    *numbers, _ = counts
    return counts if shares_are_numbers and all(type(n) is int for n in numbers) else None


def read(workdir: pathlib.Path, pattern: str = "unreadable-*.json") -> dict[str, str]:
    """Reads the reasons, by name, why recordings could not be read in a run so far."""
    reasons: dict[str, str] = {}
    for path in sorted(workdir.glob(pattern)):
        try:
            content = sealed.load_json(path)
            reasons |= {str(name): str(reason) for name, reason in content.items()}
        except (OSError, ValueError, AttributeError):
            print(f"{path} is damaged: its list of unreadable recordings is lost", flush=True)
    return reasons


def replaced_in_words(count: int, failed: Mapping[str, str]) -> str:
    """Says how many clips were replaced, and why.

    Args:
        count: Number of clips that replace one of another recording.
        failed: Why recordings could not be read, by their names; empty if this is not known.
    """
    text = f"{counted(count, 'clip')} taken from other recordings than the requested ones"
    if not failed:
        return text
    return f"{text}; {counted(len(failed), 'recording')} could not be read: {_in_words(failed)}"


def _in_words(failed: Mapping[str, str]) -> str:
    """Formats the first recordings with their reasons, printable, and the number of the others."""
    named = [
        f"{printable(name)} ({printable(reason)})" for name, reason in list(failed.items())[:_NAMED]
    ]
    more = len(failed) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
