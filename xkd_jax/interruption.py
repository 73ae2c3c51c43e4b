"""Signals as requests to stop between two steps, at the same one in all processes."""

import os
import signal

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Turns SIGTERM and the first SIGINT into a request to stop between two steps.

    A second SIGINT ends the process at once. One process keeps a flag. Several ask JAX's preemption
    service, which hears SIGTERM in any of them and makes all agree on the step. Use it as a context
    manager, in the main thread: leaving it gives the signals back.
    """

    def __init__(self):
        self._several = jax.process_count() > 1
        self._requested = False
        self._stepping = False
        self._previous = {}

    def requested(self, step: int) -> bool:
        """Whether to stop now.

        With several processes, each has to ask before every step, or the others wait for it.

        Args:
            step: the number of steps done.
        """
        self._stepping = True
        if self._several:
            self._requested = multihost_utils.reached_preemption_sync_point(step)
        return self._requested

    def _handle(self, number, frame):
        self._requested = True
        name = signal.Signals(number).name
        when = "after this step" if self._stepping else "before the first step"
        notice = f"\n{name}: stopping {when}"
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            notice += "; once more to abort without saving"
            if self._several:  # the service listens to SIGTERM only
                os.kill(os.getpid(), signal.SIGTERM)
        # Not print: the signal may have come in the middle of one.
        os.write(2, f"{notice}\n".encode())

    def __enter__(self):
        # With several processes SIGTERM is the service's own.
        numbers = (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
