"""Runs pretrainings and their evaluations one after another, each in its own processes."""

import collections
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import ml_collections

from input_pipeline.files import atomic
from input_pipeline.programs import signals
from xkd_jax.ablation import plan
from xkd_jax.ablation.evaluations import Evaluation, Suite
from xkd_jax.main import ALREADY_FINISHED

LOG = "log.txt"


class Failed(RuntimeError):
    """A run has ended with an error; the message names the run and the reason."""


class Stopped(Exception):
    """A signal has asked the program to end."""


class Runner:
    """Runs jobs one after another, each in its own processes.

    Args:
        base: Base config of the pretrainings.
        suite: The evaluations of each.
    """

    def __init__(self, base: plan.Base, suite: Suite) -> None:
        self._base = base
        self._suite = suite
        self._seconds: dict[str, list[float]] = collections.defaultdict(list)
        self._protocols: dict[str, ml_collections.ConfigDict] = {}
        self._process: subprocess.Popen | None = None
        self._stopping = False

    def run(self, jobs: Sequence[plan.Job]) -> list[Failed]:
        """Runs the jobs that are not finished.

        Args:
            jobs: The jobs, in the order in which to run them.

        Returns:
            The failures.

        Raises:
            Stopped: A signal has ended the current run, which has saved its state.
        """
        with signals.requests(self._stop):
            return list(self._failures(jobs))

    def _stop(self, number: int) -> None:
        self._stopping = True
        if self._process:
            self._process.terminate()  # the run saves and ends

    def _failures(self, jobs: Sequence[plan.Job]) -> Iterator[Failed]:
        """Runs the jobs, and yields the failures."""
        for place, job in enumerate(jobs):
            title = f"[{place + 1}/{len(jobs)}] {job.run}, seed {job.seed}"
            try:
                for kind, evaluation in self._remaining(job):
                    print(f"{title}: {kind}{self._left(kind, jobs[place:])}", flush=True)
                    start = time.monotonic()
                    if evaluation is None:
                        self._pretrain(job)
                    else:
                        self._evaluate(evaluation, job)
                    self._seconds[kind].append(time.monotonic() - start)
            except Failed as error:
                print(f"{title}: failed", flush=True)
                yield error
            else:
                print(f"{title}: finished", flush=True)

    def state(self, job: plan.Job) -> str:
        """Describes in words how far a job is."""
        if not list(self._remaining(job)):
            return "finished"
        step = plan.checkpoint.latest_step(job.workdir)
        if step is None:
            return "not begun"
        return f"{'pretrained' if plan.is_pretrained(self._base, job) else 'begun'}, at step {step}"

    def _remaining(self, job: plan.Job) -> Iterator[tuple[str, Evaluation | None]]:
        """Yields the work that remains: its name, and the evaluation (None: pretrain)."""
        remaining = [e for e in self._suite.of(job) if not self._is_evaluated(job, e)]
        needed = remaining or self._suite.draws(job)
        if needed and not plan.is_pretrained(self._base, job):
            yield "pretraining", None
        for evaluation in remaining:
            yield f"evaluating {evaluation.title}", evaluation

    def _is_evaluated(self, job: plan.Job, evaluation: Evaluation) -> bool:
        # The protocol is the same for all jobs, except for paths, which are not compared.
        if evaluation.name not in self._protocols:
            self._protocols[evaluation.name] = evaluation.protocol()
        return plan.evaluated(job, evaluation.name, self._protocols[evaluation.name]) is not None

    def _pretrain(self, job: plan.Job) -> None:
        """Trains to the end, and resumes a run that has stopped before it."""
        while not plan.is_pretrained(self._base, job):
            before = plan.checkpoint.latest_step(job.workdir)
            code = self._start(plan.pretraining_flags(self._base, job), job)
            if code == ALREADY_FINISHED:
                return
            if code == 0 and plan.checkpoint.latest_step(job.workdir) == before:
                raise Failed(f"{job.workdir} makes no progress; see {job.workdir / LOG}")

    def _evaluate(self, evaluation: Evaluation, job: plan.Job) -> None:
        try:
            command = evaluation.command(job)
        except plan.NotKeptError as error:
            raise Failed(str(error)) from None
        self._start(command, job)

    def _start(self, flags: Sequence[str], job: plan.Job) -> int:
        """Runs `xkd_jax.main` to its end.

        Args:
            flags: The flags of the run.
            job: The job, whose folder gets the log.

        Returns:
            The exit code: 0, or `ALREADY_FINISHED`.

        Raises:
            Failed: The run has ended with another exit code.
            OSError: The log cannot be written. The message names it.
            Stopped: A signal has ended the run.
        """
        job.workdir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "xkd_jax.main", *flags]
        path = job.workdir / LOG
        with atomic.named(path), path.open("a") as log:
            print(f"\n$ {shlex.join(command)}", file=log, flush=True)
            # The run has its own session, so that Ctrl-C reaches it only once, from here. If this
            # process is killed, its pipe to the run closes, which ends the run.
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {signals.STARTED_BY_A_PROGRAM: "1"},
            ) as self._process:
                if self._stopping:  # the signal came before the process started
                    self._process.terminate()
                code = self._process.wait()
            self._process = None
        if self._stopping:
            raise Stopped
        if code not in (0, ALREADY_FINISHED):
            raise Failed(f"{job.workdir} ended with {code}: {_last_line(job.workdir / LOG)}")
        return code

    def _left(self, kind: str, jobs: Sequence[plan.Job]) -> str:
        """Estimates the remaining time from the durations so far."""
        known = {kind: sum(seconds) / len(seconds) for kind, seconds in self._seconds.items()}
        if kind not in known:
            return ""
        kinds_left = [kind for job in jobs for kind, _ in self._remaining(job)]
        seconds = sum(known.get(kind, 0.0) for kind in kinds_left)
        return f", about {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _last_line(path: pathlib.Path) -> str:
    lines = path.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
