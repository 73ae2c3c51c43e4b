"""The last step of a run in several processes, once one of them has been told to stop.

JAX has a service for this, which cannot be used here: a process that waits in it runs no Python
thread, so that a `relay` cannot pass on what the service waits for, and the run hangs.
"""

import contextlib
import itertools
import threading
from typing import Any, Self

import jax
from jax._src import distributed

_PERIOD = 1.0  # seconds between two looks at what the other processes have said
_TOLD = "told"  # name of the request to stop; the other names are numbers of processes
_uses = itertools.count()  # one for each training, in the same order in all processes


class LastStep:
    """Lets all processes of a run stop after the same step. Use it as a context manager.

    A process that learns of the request says which step it has begun, and begins no other before
    all have said so. The last step is the latest of these.

    Args:
        begun: Number of the newest step that this process has begun, from 1.
        client: Client of the coordination service; JAX's client by default.
        index: Number of this process; JAX's number by default.
        count: Number of processes; JAX's number by default.

    Attributes:
        told: Set this to True to stop all processes. A signal handler may do so.
    """

    def __init__(
        self, begun: int, client: Any = None, index: int | None = None, count: int | None = None
    ) -> None:
        self.told = False
        self._client = client or distributed.global_state.client
        self._index = jax.process_index() if index is None else index
        self._count = jax.process_count() if count is None else count
        self._prefix = f"xkd_jax/last_step/{next(_uses)}/"
        self._begun = begun
        self._said: int | None = None  # what this process has told the others
        self._last: int | None = None  # what all agree on
        self._changed = threading.Condition()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="last step", daemon=True)

    def reached(self, step: int) -> bool:
        """Returns whether to stop, or begins the next step. It waits while the processes agree.

        Args:
            step: Number of steps done.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._said is None or self._last is not None)
            if step == self._last:
                return True
            self._begun = step + 1
            return False

    def _talk(self) -> None:
        """Passes on that this process was told to stop, and learns whether another one was."""
        while not self._left.wait(_PERIOD if self._said is None else _PERIOD / 10):
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # the service does not answer
                if self.told:
                    self._say(_TOLD, 1)
                values = self._hear()
                if _TOLD in values:
                    self._say_begun()
                values.pop(_TOLD, None)
                if len(values) == self._count:
                    return self._agree(max(values.values()))

    def _say_begun(self) -> None:
        with self._changed:
            if self._said is None:
                self._said = self._begun
        self._say(str(self._index), self._said)

    def _agree(self, step: int) -> None:
        with self._changed:
            self._last = step
            self._changed.notify_all()

    def _say(self, name: str, value: int) -> None:
        self._client.key_value_set(f"{self._prefix}{name}", str(value), allow_overwrite=True)

    def _hear(self) -> dict[str, int]:
        pairs = self._client.key_value_dir_get(self._prefix)
        return {key.removeprefix(self._prefix): int(value) for key, value in pairs}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._say_begun()  # otherwise, processes that are told to stop now would wait for it
