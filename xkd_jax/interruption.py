"""Signals as requests to stop between two steps, at the same one in all processes."""

import contextlib
import os
import signal

import jax
from jax.experimental import multihost_utils

from input_pipeline import signals
from xkd_jax import processes


class Interruption:
    """Turns signals into a request to stop between two steps, once there is a step to save.

    Until then they end the program, as they do in `signals`. A second SIGINT before the save ends
    it at once, without saving; in the save and after it no signal changes anything. One process
    keeps a flag. Several ask JAX's preemption service, which hears SIGTERM in any of them and makes
    all agree on the step. Use it as a context manager, in the main thread: when it is left, all has
    been saved, and it gives the signals back.
    """

    def __init__(self):
        self._several = jax.process_count() > 1
        self._first = None
        self._told = False
        self._saving = False
        self._stack = contextlib.ExitStack()

    def requested(self, step: int) -> bool:
        """Whether to stop now, and save.

        With several processes, each has to ask before every step, or the others wait for it.

        Args:
            step: The number of steps done.
        """
        if self._first is None:
            self._first = step
        if step == self._first:
            return False
        if step == self._first + 1:
            self._stack.enter_context(signals.requests(self._handle))
            if self._several:
                processes.hear_of_preemption()
        if self._several:
            self._saving = multihost_utils.reached_preemption_sync_point(step)
        else:
            self._saving = self._told
        return self._saving

    def _handle(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._saving:
            notice = f"{name}: saving; it ends by itself"
        elif self._told and number == signal.SIGINT:
            signals.end(128 + number, f"\n{name}: ended without saving")
        else:
            notice = f"{name}: stopping after this step"
            if number == signal.SIGINT:
                notice += "; once more to abort without saving"
            if self._several:  # the service listens to SIGTERM only
                os.kill(os.getpid(), signal.SIGTERM)
        self._told = True
        # Not print: the signal may have come in the middle of one.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{notice}\n".encode())

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        if self._saving and error is None:
            signals.finish()
        self._stack.close()
