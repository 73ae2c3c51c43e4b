"""Examines many files in parallel processes, which do not wait for Python's global lock.

Each process is a program of its own (`python -m input_pipeline.datasets.measuring`), so nothing of
the caller is copied or imported again. It reads a JSON line per file, answers with a JSON line, and
ends when its input ends. A file that crashes the decoder ends only that process.
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

from input_pipeline.media import containers, reader

_ATTEMPTS = 2  # a file whose process ends this many times in a row counts as corrupt
_ROOT = pathlib.Path(__file__).parents[2]

Verdict = reader.MediaInfo | str


def look(path: str | os.PathLike) -> Verdict:
    """Returns what a file holds, or the reason why it is unusable, such as having no picture."""
    try:
        info = reader.measure(path)
    except reader.MediaError as error:
        return error.reason
    return info if info.has_picture else containers.NO_PICTURE


@contextlib.contextmanager
def crew(processes: int) -> Iterator[Callable[[str | os.PathLike], Verdict]]:
    """Yields a version of `look` that runs in `processes` processes, for as many threads."""
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
    """A process that examines files. It starts on first use, and again after a file ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def look(self, path: str | os.PathLike) -> Verdict:
        for _ in range(_ATTEMPTS):
            answer = self._ask(os.fspath(path))
            if answer:
                verdict = json.loads(answer)
                return verdict if isinstance(verdict, str) else reader.MediaInfo(**verdict)
            self.end()
        return containers.CORRUPT

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, path: str) -> str:
        """Returns a JSON line, or an empty string if the process has ended."""
        if self._process is None:
            paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "input_pipeline.datasets.measuring"],
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
    # Ctrl-C reaches the whole process group. The caller handles it and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        verdict = look(json.loads(line))
        answer = verdict if isinstance(verdict, str) else dataclasses.asdict(verdict)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
