"""Processes that write shards, and recover from files that crash them.

A file that crashes the decoder ends its process. A file that the decoder never finishes gets its
process killed. Each process announces the recording that it is about to read, so the culprit is
known. A recording that ends a process twice is left out.
"""

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import signal
import time
import traceback
from collections.abc import Callable, Sequence

from input_pipeline.prepare import shards
from input_pipeline.programs import program

_ATTEMPTS = 2  # crashes at a recording, or in the rest of a shard, before giving it up
_PATIENCE = 1800.0  # seconds for one recording; an hour of video takes some minutes


class WorkerError(RuntimeError):
    """A shard that could not be written."""


@dataclasses.dataclass
class _Task:
    """A shard and the progress of writing it."""

    job: shards.Job
    place: int | None = None  # place of the recording that is being read
    crashes: collections.Counter = dataclasses.field(default_factory=collections.Counter)


class _Worker:
    """A process and a connection to it. It ends when the connection closes or its parent dies."""

    def __init__(self) -> None:
        # Spawned processes inherit no connections but their own, and no locks.
        context = multiprocessing.get_context("spawn")
        self.connection, child_connection = context.Pipe()
        self.process = context.Process(target=_serve, args=(child_connection,), daemon=False)
        self.process.start()
        child_connection.close()
        self.task: _Task | None = None
        self.last_message = time.monotonic()  # time of the last message from or to the process

    def assign(self, task: _Task) -> None:
        """Gives the process a shard to write."""
        self.last_message = time.monotonic()
        self.task, task.place = task, None
        with contextlib.suppress(ConnectionError):  # the end of the process is noticed later
            self.connection.send(task.job)

    def deadline(self, patience: float) -> float:
        """Returns when the process counts as stuck. A process that starts may take longer."""
        return self.last_message + (_PATIENCE if self.task.place is None else patience)

    def stop(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def write_shards(
    jobs: Sequence[shards.Job],
    workers: int,
    advance: Callable[[int], None] = lambda count: None,
    patience: float = _PATIENCE,
) -> None:
    """Writes shards.

    Args:
        jobs: Shards to write.
        workers: Number of processes.
        advance: Called with the number of recordings done since the last call. The number is
            negative if some must be done again after a crash.
        patience: Seconds that a recording may take before its process is killed.

    Raises:
        WorkerError: A shard could not be written. Shards finished before that remain.
    """
    waiting = collections.deque(_Task(job) for job in jobs)
    crew: list[_Worker] = []
    try:
        while True:
            while waiting and len(crew) < workers:
                crew.append(_Worker())
                crew[-1].assign(waiting.popleft())
            if not crew:
                return
            by_connection = {worker.connection: worker for worker in crew}
            deadline = min(worker.deadline(patience) for worker in crew)
            timeout = max(0.0, deadline - time.monotonic())
            ready = multiprocessing.connection.wait(list(by_connection), timeout)
            for worker in crew:
                if worker.connection not in ready and time.monotonic() >= worker.deadline(patience):
                    worker.process.kill()  # its connection closes and is ready in the next round
            for connection in ready:
                worker = by_connection[connection]
                worker.last_message = time.monotonic()
                try:
                    message = worker.connection.recv()
                except (EOFError, ConnectionError):
                    crew.remove(worker)
                    worker.process.join()
                    _note_crash(worker.task, worker.process.exitcode, advance)
                    waiting.appendleft(worker.task)
                    continue
                if isinstance(message, int):
                    advance(message - (worker.task.place or 0))
                    worker.task.place = message
                elif message is not None:
                    raise WorkerError(message)
                elif waiting:
                    worker.assign(waiting.popleft())
                else:
                    crew.remove(worker)
                    worker.stop()
    finally:
        for worker in crew:
            worker.stop()


def write_guarded(job: shards.Job) -> str:
    """Writes one shard in a separate process. For workers run by others, such as Beam's.

    Args:
        job: Shard to write. If it is finished already, nothing is done.

    Returns:
        Path of the shard.

    Raises:
        WorkerError: The shard could not be written.
    """
    if shards.finished(job) is None:
        write_shards([job], 1)
    return job.path


def _note_crash(task: _Task, exit_code: int | None, advance: Callable[[int], None]) -> None:
    """Records that a process has ended, and marks a recording that crashed too often.

    Raises:
        WorkerError: No recording is to blame, so the shard cannot be written.
    """
    place, job = task.place, task.job
    advance(-(place or 0))
    task.crashes[place] += 1
    task.place = None
    if task.crashes[place] < _ATTEMPTS:
        return
    if place is None or place == len(job.entries) or place in job.crashing:
        raise WorkerError(
            f"{job.path}: the process that writes it ended with exit code {exit_code}; "
            "there may be too little memory for so many --workers"
        )
    task.job = dataclasses.replace(job, crashing=job.crashing | {place})


def _serve(connection: multiprocessing.connection.Connection) -> None:
    """Writes shards for as long as the parent sends jobs."""
    program.guard_outputs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            shards.write(job, connection.send)
            connection.send(None)
        except ConnectionError:  # the parent is gone
            return
        except OSError as error:
            connection.send(str(error) if job.path in str(error) else f"{job.path}: {error}")
        except Exception:
            connection.send(f"{job.path}: {traceback.format_exc()}")
