"""Turns signals into requests to stop between two steps, at the same step in all processes."""

import contextlib
import os
import signal
from typing import Self

import jax

from input_pipeline.programs import signals
from xkd_jax.run import last_step


class Interruption:
    """Turns signals into a request to stop between two steps, once there is a step to save.

    Before that, signals end the program, as in `signals`. A second SIGINT before the save ends the
    program at once, without saving. During and after the save, signals have no effect. With one
    process, a signal sets a flag. With several, a signal to any of them makes all agree on their
    `last_step`. Use it as a context manager in the main thread, around the save as well; at its end
    it restores the signal handlers.
    """

    def __init__(self) -> None:
        self._first_step = None
        self._last_step: last_step.LastStep | None = None  # with several processes
        self._signaled = False
        self._saving = False
        self._stack = contextlib.ExitStack()

    def requested(self, step: int) -> bool:
        """Returns whether to stop now, and save.

        All processes must call it before every step; otherwise the others wait.

        Args:
            step: Number of steps done.
        """
        if self._first_step is None:
            self._first_step = step
        if step == self._first_step:
            return False
        if step == self._first_step + 1:
            if jax.process_count() > 1:
                self._last_step = self._stack.enter_context(last_step.LastStep(begun=step))
            self._stack.enter_context(signals.requests(self._handle))
        if self._last_step:
            self._saving = self._last_step.reached(step)
        else:
            self._saving = self._signaled
        return self._saving

    def _handle(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._saving:
            notice = f"{name}: saving; it ends by itself"
        elif self._signaled and number == signal.SIGINT:
            signals.end(128 + number, f"\n{name}: ended without saving")
        else:
            notice = f"{name}: stopping after this step"
            if number == signal.SIGINT:
                notice += "; once more to abort without saving"
        self._signaled = True
        if self._last_step:
            self._last_step.told = True
        # Not `print`, which the signal may have interrupted.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{notice}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._saving and error is None:
            signals.finish()
        self._stack.close()
