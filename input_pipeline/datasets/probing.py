"""Looks at many files at once in processes, of which Python's part does not wait for its lock.

Each process is a program of its own (`python -m input_pipeline.datasets.probing`), so that nothing
of the caller is copied or imported again. It answers one line for each line it is given, in JSON,
and ends when there are no more. A file that crashes the decoder ends only that process.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

from input_pipeline import containers, media

_ATTEMPTS = 2  # at a file, before the end of its process is taken for its fault
_ROOT = pathlib.Path(__file__).parents[2]

Verdict = media.MediaInfo | str


def look(path: str | os.PathLike) -> Verdict:
    """What a file with a picture holds, or the reason why it is unusable."""
    try:
        info = media.probe(path)
    except media.MediaError as error:
        return error.reason
    return info if info.has_picture else containers.NO_PICTURE


@contextlib.contextmanager
def crew(processes: int) -> Iterator[Callable[[str | os.PathLike], Verdict]]:
    """Gives `look` by as many processes, to be called by as many threads."""
    idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
    members = [_Process() for _ in range(processes)]
    for member in members:
        idle.put(member)

    def look_elsewhere(path: str | os.PathLike) -> Verdict:
        member = idle.get()
        try:
            return member.look(path)
        finally:
            idle.put(member)

    try:
        yield look_elsewhere
    finally:
        for member in members:
            member.end()


class _Process:
    """One process, started when it is first needed, and again when a file has ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def look(self, path: str | os.PathLike) -> Verdict:
        for _ in range(_ATTEMPTS):
            answer = self._ask(os.fspath(path))
            if answer:
                found = json.loads(answer)
                return found if isinstance(found, str) else media.MediaInfo(**found)
            self.end()
        return containers.CORRUPT

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, path: str) -> str:
        """A line of JSON, or nothing where the process has ended."""
        if self._process is None:
            paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "input_pipeline.datasets.probing"],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        try:
            self._process.stdin.write(json.dumps(path) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline()


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the caller ends us
    for line in sys.stdin:
        found = look(json.loads(line))
        answer = found if isinstance(found, str) else dataclasses.asdict(found)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
