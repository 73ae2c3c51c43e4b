"""Ends all processes of a run within seconds if one fails or is lost, with a message each.

JAX itself notices a lost process late, and aborts the others; a process with an error waits in JAX
for the others. Here every process sends a sign of life each second, through JAX's coordination
service, which runs in process 0. Process 0 watches all others, and they watch process 0. They
reach it through a `relay`, so that JAX does not abort them when it is lost.
"""

import contextlib
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, Self

import jax
from jax._src import distributed

from input_pipeline.programs import signals

# Exit code of a process that has lost another one.
LOST = 5
SECONDS = 60.0  # without a sign of life, after which a process counts as lost
_PERIOD = 1.0  # seconds between two signs of life
_END = "xkd_jax/end/"  # key of the exit code and the reason, for all processes
_ALIVE = "xkd_jax/alive/"  # prefix of the keys of signs of life
_LEFT = "left"  # the last sign of a process that leaves


class Peers:
    """Ties the processes of a run together. Use it as a context manager after `processes.join`.

    An error that leaves the block ends this process at once, and the others with it.

    Args:
        client: Client of the coordination service; JAX's client by default.
        index: Number of this process; JAX's number by default.
        count: Number of processes; JAX's number by default.
        seconds: Seconds without a sign of life, after which a process counts as lost.
        end: Function that ends this process, with an exit code and a message.
    """

    def __init__(
        self,
        client: Any = None,
        index: int | None = None,
        count: int | None = None,
        seconds: float = SECONDS,
        end: Callable[[int, str], None] = signals.end,
    ) -> None:
        self._client = client or distributed.global_state.client
        # JAX's public functions would wait for the devices of all processes.
        self._index = distributed.global_state.process_id if index is None else index
        self._count = distributed.global_state.num_processes if count is None else count
        self._seconds = seconds
        self._end = end
        self._left = threading.Event()
        self._stack = contextlib.ExitStack()
        now = time.monotonic()
        self._served = now  # when the service last answered
        self._heard = dict.fromkeys(range(self._count), (None, now))  # last sign and its time
        self._threads = [
            threading.Thread(target=target, name="peers", daemon=True)
            for target in (self._talk, self._watch)
        ]

    def _talk(self) -> None:
        """Sends signs of life and reads those of the others. A call may take long."""
        sign = 0
        while not self._left.wait(_PERIOD):
            try:
                self._say(str(sign))
                self._hear()
            except jax.errors.JaxRuntimeError:  # the service does not answer
                continue
            self._served = time.monotonic()
            sign += 1

    def _watch(self) -> None:
        """Ends all processes if one has been silent for too long."""
        while not self._left.wait(_PERIOD):
            now = time.monotonic()
            silent = [0] if self._index and now - self._served > self._seconds else []
            silent += [
                index
                for index, (sign, since) in self._heard.items()
                if self._index == 0 and sign != _LEFT and now - since > self._seconds
            ]
            if silent:
                reason = f"process {silent[0]} has sent no sign of life for {self._seconds:g} s"
                line = f"error: {reason}: it has died or hangs"
                if silent[0] == 0:  # so the others cannot be told, and find out by themselves
                    self._end(LOST, line)
                else:
                    self._end_all(LOST, reason, line)

    def _end_all(self, code: int, reason: str, line: str) -> None:
        """Tells the others to end, with the reason, and ends this process, with its own message."""
        self._left.set()
        # When another process has ended, the launcher sends SIGTERM.
        with signals.ignored():
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                # Raises if another process was first.
                self._client.key_value_set(f"{_END}first", f"{code} {reason}")
                # The service ends with process 0, which waits until the others have read this.
                end = time.monotonic() + 5 * _PERIOD
                while self._index == 0 and time.monotonic() < end and not self._others_left():
                    time.sleep(_PERIOD / 10)
            self._end(code, line)

    def _say(self, sign: str) -> None:
        self._client.key_value_set(f"{_ALIVE}{self._index}", sign, allow_overwrite=True)

    def _hear(self) -> None:
        endings = self._client.key_value_dir_get(_END)
        if endings and not self._left.is_set():
            code, _, reason = endings[0][1].partition(" ")
            self._say(_LEFT)
            self._end(int(code), f"error: {reason}")
        if self._index == 0:
            for key, sign in self._client.key_value_dir_get(_ALIVE):
                index = int(key.rpartition("/")[2])
                if sign != self._heard[index][0]:
                    self._heard[index] = (sign, time.monotonic())

    def _others_left(self) -> bool:
        signs = dict(self._client.key_value_dir_get(_ALIVE))
        return all(signs.get(f"{_ALIVE}{i}") == _LEFT for i in range(1, self._count))

    def _end_with(self, error: BaseException) -> None:
        """Ends all processes, because an error ends this one."""
        code, reason, line = _last_words(error)
        self._end_all(code, f"process {self._index}: {reason}", line)

    def __enter__(self) -> Self:
        # If a signal is to end this process while its main thread waits in JAX for another one.
        last_act = signals.last_act(lambda number: self._end_with(signals.Stopped(number)))
        self._stack.enter_context(last_act)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Usually another process has closed the connection, and the watch finds out which.
            time.sleep(self._seconds + 10 * _PERIOD)
        if error is not None:
            self._end_with(error)
        self._stack.close()
        self._left.set()
        for thread in self._threads:
            thread.join()
        self._say(_LEFT)


def _last_words(error: BaseException) -> tuple[int, str, str]:
    """Returns the exit code of an error, the reason for the others, and this process's message."""
    if isinstance(error, signals.Stopped):
        return 128 + error.number, f"stopped {error}", signals.last_line(error.number)
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            return 1, error.code.removeprefix("error: "), error.code
        return error.code or 0, f"ended with exit code {error.code or 0}", ""
    lines = "".join(traceback.format_exception(error)).rstrip()
    return 1, lines.splitlines()[-1], lines
