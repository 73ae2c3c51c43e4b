"""What the processes of a run know of each other: that all are alive, and why one leaves.

JAX notices late that one is gone, and ends the others by an abort; where one leaves with an error,
it has that one wait for the others. Here each says every second that it is alive, by JAX's
coordination service, which is in process 0. Process 0 looks at all, the others look at process 0.
Where one leaves or is lost, the others are told, and all end within seconds, with a line each.
"""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed

from input_pipeline import signals

# Exit code of a process that has lost another one.
LOST = 5
SECONDS = 60.0  # without a word, after which a process is taken for lost
_PERIOD = 1.0  # seconds between two words
_END = "xkd_jax/end/"  # of all: the exit code and why
_ALIVE = "xkd_jax/alive/"
_LEFT = "left"  # the last word of a process


class Peers:
    """Lives and ends with the other processes. Use it as a context manager, once all have met.

    An error that leaves it ends the process there and then, and the others with it.

    Args:
        client: Of JAX's coordination service; JAX's own by default.
        index: Of this process; JAX's by default.
        count: Of processes; JAX's by default.
        seconds: Without a word, after which a process is taken for lost.
        end: Ends this process, with an exit code and a line.
    """

    def __init__(
        self,
        client: Any = None,
        index: int | None = None,
        count: int | None = None,
        seconds: float = SECONDS,
        end: Callable[[int, str], None] = signals.end,
    ):
        self._client = client or distributed.global_state.client
        # Of JAX's public functions, the first to be called waits for all processes' devices.
        self._index = distributed.global_state.process_id if index is None else index
        self._count = distributed.global_state.num_processes if count is None else count
        self._seconds = seconds
        self._end = end
        self._left = threading.Event()
        now = time.monotonic()
        self._served = now  # when the service last answered
        self._heard = dict.fromkeys(range(self._count), (None, now))  # last word, when it was new
        self._threads = [
            threading.Thread(target=target, name="peers", daemon=True)
            for target in (self._talk, self._watch)
        ]

    def _talk(self) -> None:
        """Says that this process is alive, and hears of the others. A call may take long."""
        word = 0
        while not self._left.wait(_PERIOD):
            try:
                self._say(str(word))
                self._hear()
            except jax.errors.JaxRuntimeError:  # the service does not answer
                continue
            self._served = time.monotonic()
            word += 1

    def _watch(self) -> None:
        """Notices that someone has not been heard of for too long."""
        while not self._left.wait(_PERIOD):
            now = time.monotonic()
            silent = [0] if self._index and now - self._served > self._seconds else []
            silent += [
                index
                for index, (word, since) in self._heard.items()
                if self._index == 0 and word != _LEFT and now - since > self._seconds
            ]
            if silent:
                reason = f"process {silent[0]} has not been heard of for {self._seconds:g} s"
                self._end_all(LOST, reason, f"error: {reason}: it has died, or stands still")

    def _end_all(self, code: int, reason: str, line: str) -> None:
        """Tells the others to end, and why, and ends this process, which says a line of its own."""
        self._left.set()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            # Not where another was first.
            self._client.key_value_set(f"{_END}first", f"{code} {reason}")
            # The service ends with process 0: the others have to have heard.
            end = time.monotonic() + 5 * _PERIOD
            while self._index == 0 and time.monotonic() < end and not self._others_left():
                time.sleep(_PERIOD / 10)
        self._end(code, line)

    def _say(self, word: str) -> None:
        self._client.key_value_set(f"{_ALIVE}{self._index}", word, allow_overwrite=True)

    def _hear(self) -> None:
        told = self._client.key_value_dir_get(_END)
        if told and not self._left.is_set():
            code, _, reason = told[0][1].partition(" ")
            self._say(_LEFT)
            self._end(int(code), f"error: {reason}")
        if self._index == 0:
            for key, word in self._client.key_value_dir_get(_ALIVE):
                index = int(key.rpartition("/")[2])
                if word != self._heard[index][0]:
                    self._heard[index] = (word, time.monotonic())

    def _others_left(self) -> bool:
        words = dict(self._client.key_value_dir_get(_ALIVE))
        return all(words.get(f"{_ALIVE}{i}") == _LEFT for i in range(1, self._count))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Of a connection that another process has closed, as a rule: that will be found.
            time.sleep(self._seconds + 10 * _PERIOD)
        if error is not None:
            code, reason, line = _last_words(error)
            self._end_all(code, f"process {self._index}: {reason}", line)
        self._left.set()
        for thread in self._threads:
            thread.join()
        self._say(_LEFT)


def _last_words(error: BaseException) -> tuple[int, str, str]:
    """Of a process that an error ends: the exit code, what the others say, what it says itself."""
    if isinstance(error, signals.Stopped):
        return 128 + error.number, f"stopped {error}", signals.last_line(error.number)
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            return 1, error.code.removeprefix("error: "), error.code
        return error.code or 0, f"ended with exit code {error.code or 0}", ""
    lines = "".join(traceback.format_exception(error)).rstrip()
    return 1, lines.splitlines()[-1], lines
