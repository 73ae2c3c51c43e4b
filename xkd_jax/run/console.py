"""What a run prints. Only the first process prints, so that each line appears once."""

import sys
from typing import TextIO

import tqdm

from xkd_jax.run import processes


def say(text: str) -> None:
    """Prints text to stdout at once."""
    _print(text, sys.stdout)


def warn(text: str) -> None:
    """Prints a warning to stderr at once."""
    _print(f"warning: {text}", sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    if processes.is_first():
        tqdm.tqdm.write(text, stream)  # above the progress bar, if there is one
        stream.flush()


class Once:
    """Warnings of which each is printed once in a run."""

    def __init__(self) -> None:
        self._causes: set[str] = set()

    def __contains__(self, cause: str) -> bool:
        return cause in self._causes

    def warn(self, cause: str, text: str) -> None:
        """Prints a warning if none with this cause has been printed."""
        if cause not in self._causes:
            self._causes.add(cause)
            warn(f"{text} (said once)")
