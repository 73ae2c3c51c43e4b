"""Turns signals into requests to stop between two steps, at the same step in all processes."""

import contextlib
import os
import signal
from typing import Self

import jax
from jax.experimental import multihost_utils

from input_pipeline.programs import signals
from xkd_jax.run import processes


class Interruption:
    """Turns signals into a request to stop between two steps, once there is a step to save.

    Before that, signals end the program, as in `signals`. A second SIGINT before the save ends the
    program at once, without saving. During and after the save, signals have no effect. With one
    process, a signal sets a flag. With several, JAX's preemption service receives SIGTERM in any of
    them and makes all agree on the step. Use it as a context manager in the main thread, around the
    save as well; at its end it restores the signal handlers.
    """

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self._first_step = None
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
            self._stack.enter_context(signals.requests(self._handle))
            if self._several:
                processes.hear_of_preemption()
        if self._several:
            self._saving = multihost_utils.reached_preemption_sync_point(step)
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
            if self._several:  # the preemption service receives only SIGTERM
                os.kill(os.getpid(), signal.SIGTERM)
        self._signaled = True
        # Not `print`, which the signal may have interrupted.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{notice}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._saving and error is None:
            signals.finish()
        self._stack.close()
