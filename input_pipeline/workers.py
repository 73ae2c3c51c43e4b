"""Processes that write shards, and survive files that end them.

A file that crashes the decoder takes its process with it, and one that it never comes to an end
with has it killed. Each process says which recording it is about to read, so that it is known which
one that was: the second time that the same one ends a process, it is left out.
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

from input_pipeline import program, shards

_ATTEMPTS = 2  # at a recording, or at the rest of a shard, before its crash is taken for certain
_PATIENCE = 1800.0  # seconds for a recording; one of an hour takes some minutes


class WorkerError(RuntimeError):
    """A shard that could not be written."""


@dataclasses.dataclass
class _Task:
    """A shard and how it goes."""

    job: shards.Job
    place: int | None = None  # of the recording being read
    crashes: collections.Counter = dataclasses.field(default_factory=collections.Counter)


class _Worker:
    """A process with a line to it. It ends when the line does, as when its parent is killed."""

    def __init__(self) -> None:
        # Processes that start afresh hold no line but their own, nor a copy of a lock or a thread.
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=False)
        self.process.start()
        theirs.close()
        self.task: _Task | None = None
        self.heard = time.monotonic()  # when it last said something, or was told to

    def assign(self, task: _Task) -> None:
        self.heard = time.monotonic()
        self.task, task.place = task, None
        with contextlib.suppress(ConnectionError):  # that it is no more will be heard
            self.line.send(task.job)

    def deadline(self, patience: float) -> float:
        """When to take it for stuck. A process that starts reads nothing, and may take longer."""
        return self.heard + (_PATIENCE if self.task.place is None else patience)

    def stop(self) -> None:
        self.line.close()
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
        jobs: The shards.
        workers: Number of processes.
        advance: Called with numbers of recordings that are done; less than 0 where a crash means
            that some must be done again.
        patience: Seconds that a recording may take before its process is killed.

    Raises:
        WorkerError: A shard could not be written. Those finished until then are.
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
            by_line = {worker.line: worker for worker in crew}
            deadline = min(worker.deadline(patience) for worker in crew)
            left = max(0.0, deadline - time.monotonic())
            ready = multiprocessing.connection.wait(list(by_line), left)
            for worker in crew:
                if worker.line not in ready and time.monotonic() >= worker.deadline(patience):
                    worker.process.kill()  # its line, closed, is ready next
            for line in ready:
                worker = by_line[line]
                worker.heard = time.monotonic()
                try:
                    message = worker.line.recv()
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
    """Writes one shard in a process of its own; for workers that others run, such as Beam's.

    Args:
        job: The shard; where it is finished already, nothing is done.

    Returns:
        Its path.

    Raises:
        WorkerError: It could not be written.
    """
    if shards.finished(job) is None:
        write_shards([job], 1)
    return job.path


def _note_crash(task: _Task, exit_code: int | None, advance: Callable[[int], None]) -> None:
    """Takes note of the end of a process; raises WorkerError where nothing can be done."""
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


def _serve(line: multiprocessing.connection.Connection) -> None:
    """Writes shards for as long as anyone asks for them."""
    program.guard_outputs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    while True:
        try:
            job = line.recv()
        except (EOFError, ConnectionError):
            return
        try:
            shards.write(job, line.send)
            line.send(None)
        except ConnectionError:  # nobody waits for it
            return
        except OSError as error:
            line.send(str(error) if job.path in str(error) else f"{job.path}: {error}")
        except Exception:
            line.send(f"{job.path}: {traceback.format_exc()}")
