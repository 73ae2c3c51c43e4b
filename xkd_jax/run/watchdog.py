"""Watches whether a run makes progress: writes a heartbeat file, and ends a run that hangs.

A peer that has died, a file system that does not answer, a driver that hangs: such a run would
occupy its machines for days. If it ends with an error, its scheduler can restart it from the newest
checkpoint.
"""

import contextlib
import faulthandler
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self

from input_pipeline.files import atomic

# Exit code of a run that is ended because no step has ended for too long.
STALLED = 4
_BEAT_SECONDS = 10  # at least, between two writes of the heartbeat
# Seconds after which faulthandler ends the process, if the watchdog's thread cannot run.
_GRACE = 60


class Watchdog:
    """Ends the process if no step has ended for too long. Use it as a context manager.

    Args:
        workdir: Folder of the run. Its `heartbeat.json` holds the last step and the time of its end
            in seconds since 1970; it is written every ten seconds at most. If a process is ended,
            `stacks-<process>.txt` holds the stacks of its threads.
        process: Number of this process. Only process 0 writes the heartbeat.
        seconds: Seconds without a step after which the process ends with exit code `STALLED`; 0
            never ends it.
    """

    def __init__(self, workdir: str | os.PathLike, process: int, seconds: float) -> None:
        self._workdir = pathlib.Path(workdir)
        self._process = process
        self._seconds = seconds
        self._step = 0
        self._written = -_BEAT_SECONDS
        self._deadline = None  # a time only while the watchdog is active
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, step: int) -> None:
        """Restarts the time, because a step has ended or is about to begin."""
        with self._changed:
            self._step = step
            self._set_deadline(time.monotonic() + self._seconds)
        if self._process == 0 and time.monotonic() - self._written >= _BEAT_SECONDS:
            self._written = time.monotonic()
            record = json.dumps({"step": step, "time": time.time()})
            with contextlib.suppress(OSError):  # saving a checkpoint reports a full disk
                atomic.write_text(self._workdir / "heartbeat.json", record)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Does not limit the time of the block, for example of an evaluation."""
        with self._changed:
            self._set_deadline(None)
        yield
        self.beat(self._step)

    def _set_deadline(self, deadline: float | None) -> None:
        self._deadline = deadline if self._seconds else None
        if self._deadline is None:
            faulthandler.cancel_dump_traceback_later()
        else:
            # The stderr of the process, because a replaced sys.stderr may have no file.
            faulthandler.dump_traceback_later(
                self._seconds + _GRACE, exit=True, file=sys.__stderr__
            )
        self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._seconds:
                seconds_left = None if self._deadline is None else self._deadline - time.monotonic()
                if seconds_left is not None and seconds_left <= 0:
                    self._give_up()
                self._changed.wait(seconds_left)

    def _give_up(self) -> None:
        path = self._workdir / f"stacks-{self._process}.txt"
        with contextlib.suppress(OSError), path.open("w") as file:
            faulthandler.dump_traceback(file)
        print(
            f"error: process {self._process} has not ended a step for {self._seconds:g} s after "
            f"step {self._step} (config.log.stall_minutes); its stacks are in {path}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(STALLED)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._seconds = 0
            self._set_deadline(None)
        self._thread.join()
