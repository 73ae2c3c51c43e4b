"""A tracker in a thread of its own, which may fail or take long without touching the training."""

import contextlib
import functools
import queue
import textwrap
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from input_pipeline.programs import program
from input_pipeline.programs.wording import counted
from xkd_jax.run import console
from xkd_jax.run.trackers.tracker import Tracker

_WAITING = 1000  # number of calls that may wait for a slow service; more are lost
_LONGEST = 200  # letters of a reason: some contain whole queries
_PATIENCE = 20.0  # seconds to wait at the end


class Background(Tracker):
    """Makes each call in a thread, in order. A call that fails is warned of once, and counted.

    Args:
        name: Name of the service, for messages.
        writer: Writer of the service.
    """

    def __init__(self, name: str, writer: Tracker) -> None:
        self.run_id = writer.run_id
        self._name, self._writer = name, writer
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._lost = 0
        self._failed = False
        self._warnings = console.Once()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._try(call)
        self._try(lambda: self._writer.close(self._failed))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._lose(textwrap.shorten(program.one_line(error), _LONGEST))

    def _later(self, method: Callable[..., None], *args: Any, **options: Any) -> None:
        try:
            self._calls.put_nowait(functools.partial(method, *args, **options))
        except queue.Full:
            self._lose(f"{counted(_WAITING, 'call')} wait for it already")

    def _lose(self, reason: str) -> None:
        self._lost += 1
        self._warnings.warn(
            self._name,
            f"{self._name} does not take a part of the log: {reason}. The run goes on, and "
            "metrics.jsonl has all of it",
        )

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes the config later."""
        self._later(self._writer.write_hparams, hparams)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers later."""
        self._later(self._writer.write_scalars, step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images later."""
        self._later(self._writer.write_images, step, images)

    def write_videos(
        self, step: int, videos: Mapping[str, np.ndarray], *, frame_rate: float = 1.0
    ) -> None:
        """Writes videos later."""
        self._later(self._writer.write_videos, step, videos, frame_rate=frame_rate)

    def write_audios(
        self, step: int, audios: Mapping[str, np.ndarray], *, sample_rate: int
    ) -> None:
        """Writes sounds later."""
        self._later(self._writer.write_audios, step, audios, sample_rate=sample_rate)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes texts later."""
        self._later(self._writer.write_texts, step, texts)

    def flush(self) -> None:
        """Does nothing: the training does not wait for the service."""

    def close(self, failed: bool = False) -> None:
        """Ends the run, and waits for the service, but not for long. Says if something is lost."""
        self._failed = failed
        with contextlib.suppress(queue.Full):
            self._calls.put(None, timeout=_PATIENCE)
        self._thread.join(_PATIENCE)
        unfinished = self._calls.qsize() if self._thread.is_alive() else 0
        if self._lost or unfinished:
            lost = counted(self._lost + unfinished, "call")
            console.warn(f"{self._name} lacks a part of the log of run {self.run_id}: {lost}")
