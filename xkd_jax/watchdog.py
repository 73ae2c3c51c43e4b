"""Whether a run still moves: a heartbeat for those who look from outside, and an end if it hangs.

A peer that died, a file system that does not answer, a driver that hangs: such a run would hold its
machines for days. Ended with an error, it is started again by what started it, from the newest
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

from xkd_jax import telemetry

# Exit code of a run that was ended because no step did.
STALLED = 4
_BEAT_SECONDS = 10  # between two writes of the heartbeat
# Where this module's own thread cannot run, faulthandler ends the process, so much later.
_GRACE = 60


class Watchdog:
    """Ends the process when no step has ended for too long. Use it as a context manager.

    Args:
        workdir: The run's folder. `heartbeat.json` in it holds the last step and when it ended
            (seconds since 1970), every ten seconds at most; `stacks-<process>.txt` what all threads
            were at where the process was ended.
        process: Number of this process; the first one's heart is the run's.
        seconds: Without a step, after which the process ends with the exit code `STALLED`; 0 for
            never.
    """

    def __init__(self, workdir: str | os.PathLike, process: int, seconds: float):
        self._workdir = pathlib.Path(workdir)
        self._process = process
        self._seconds = seconds
        self._step = 0
        self._written = -_BEAT_SECONDS
        self._deadline = None  # while something is to be watched
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, step: int) -> None:
        """Says that a step has ended, or is about to begin: the time starts anew."""
        with self._changed:
            self._step = step
            self._set_deadline(time.monotonic() + self._seconds)
        if self._process == 0 and time.monotonic() - self._written >= _BEAT_SECONDS:
            self._written = time.monotonic()
            record = json.dumps({"step": step, "time": time.time()}).encode()
            with contextlib.suppress(OSError):  # a full disk is the checkpoints' to tell
                telemetry.write_whole(self._workdir / "heartbeat.json", record)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves what is inside all the time it takes: an evaluation, say."""
        with self._changed:
            self._set_deadline(None)
        yield
        self.beat(self._step)

    def _set_deadline(self, deadline: float | None) -> None:
        self._deadline = deadline if self._seconds else None
        if self._deadline is None:
            faulthandler.cancel_dump_traceback_later()
        else:
            # The process's own stderr: what sys.stderr is at the moment may have no file.
            faulthandler.dump_traceback_later(
                self._seconds + _GRACE, exit=True, file=sys.__stderr__
            )
        self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._seconds:
                left = None if self._deadline is None else self._deadline - time.monotonic()
                if left is not None and left <= 0:
                    self._give_up()
                self._changed.wait(left)

    def _give_up(self) -> None:
        path = self._workdir / f"stacks-{self._process}.txt"
        with contextlib.suppress(OSError), path.open("w") as file:
            faulthandler.dump_traceback(file)
        print(
            f"error: process {self._process} has not ended a step for {self._seconds:g} s after "
            f"step {self._step} (config.log.stall_minutes); what its threads were at is in {path}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(STALLED)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        with self._changed:
            self._seconds = 0
            self._set_deadline(None)
        self._thread.join()
