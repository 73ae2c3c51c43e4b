"""What a run prints. Only the first process prints, so that each line appears once."""

import sys

from xkd_jax import processes


def say(text: str) -> None:
    """Prints text to stdout at once."""
    if processes.is_first():
        print(text, flush=True)


def warn(text: str) -> None:
    """Prints a warning to stderr at once."""
    if processes.is_first():
        print(f"warning: {text}", file=sys.stderr, flush=True)


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
