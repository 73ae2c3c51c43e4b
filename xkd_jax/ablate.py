"""Runs rows of the paper's ablations on any base config, and compares with the paper's numbers.

    python -m xkd_jax.ablate --base=configs/demo.py --rows=table4 --seeds=3

For each row and seed, this pretrains with the row's changes to the base, and evaluates the features
on the base's data by a linear SVM and by nearest neighbors (configs/eval/compare.py). At the end it
prints a table of means and spreads over the seeds, and writes `results.json`, `table.md` and
`table.png` to the output folder. The same command resumes a run that was stopped at any instant;
finished work is not repeated. Rows with the same pretraining share it. All rows are listed by
xkd_jax.main with --config=configs/ablation.py:list.

Flags:
  --base=FILE             the config that the rows change: one of configs/*.py; for the paper's own
                          recipe of appendix B, configs/ablation.py:default
  --rows=NAME,...         rows (no_refine), studies (local_views), tables (table4, tableS12), or all
  --seeds=N               number of seeds, from the base's seed on (1)
  --seed=I                only the I-th of these seeds, from 0; makes no table
  --output=FOLDER         folder for everything; created if missing (runs/ablations/BASE)
  --config.FIELD=VALUE    sets a field of the base, for all rows
  --eval.FIELD=VALUE      sets a field of configs/eval/compare.py
  --jobs                  runs nothing: prints a command for each pretraining, to run in any order
                          or in parallel; then --table_only makes the table
  --dry_run               runs nothing: prints what is finished and what is not
  --table_only            runs nothing: makes the table of the finished rows
  --help                  prints this text

Every run has its output in `log.txt` in its folder. A run that fails is reported and left out, and
so is a row that is impossible on the base, such as local views longer than its clips; the others
continue. Exit codes: 0 done, or stopped on request; 1 an error, or a run has failed.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import argparse
import collections
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import ml_collections

from input_pipeline.programs import config_flag, program, signals
from xkd_jax.ablation import plan, selection, tables
from xkd_jax.main import ALREADY_FINISHED

LOG = "log.txt"
_CONFIG, _EVALUATION = "--config.", "--eval."


class Failed(RuntimeError):
    """A run has ended with an error; the message names the run and the reason."""


class Stopped(Exception):
    """A signal has asked the program to end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags, and runs, prints or tabulates.

    Args:
        argv: The flags; those of the process by default.

    Returns:
        The exit code.
    """
    try:
        with program.errors_in_one_line():
            failures = _run(*_parse(sys.argv[1:] if argv is None else argv))
    except Stopped:
        print("Stopped. To go on, run the same command again.")
        return 0
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _run(
    arguments: argparse.Namespace, base_flags: Sequence[str], evaluation_flags: Sequence[str]
) -> list[Failed]:
    """Runs, prints or tabulates as the flags say, and returns the failures of runs."""
    base = plan.Base(
        arguments.base, tuple(base_flags), config_flag.load_config(arguments.base, base_flags)
    )
    if base.config.get("task") != "pretrain":
        raise ValueError(f"--base={base.path} is not a pretraining: it has another task")
    output = arguments.output or pathlib.Path("runs/ablations", pathlib.Path(base.path).stem)
    seeds = range(arguments.seeds) if arguments.seed is None else [arguments.seed]
    selected = selection.select(arguments.rows)
    jobs = plan.jobs(base, selected, seeds, output)
    for row, reason in plan.impossible(base, selected).items():
        print(f"left out: {row}, impossible on {base.path}: {reason}", file=sys.stderr)
    if arguments.jobs:
        for job in jobs:
            print(shlex.join(_command(arguments, job, output, base_flags, evaluation_flags)))
        return []
    for job in jobs:
        plan.check_same_run(base, job)
    runner = Runner(base, evaluation_flags)
    if arguments.dry_run:
        for job in jobs:
            print(f"{job.workdir}: {runner.state(job)} ({', '.join(job.rows)})")
        return []
    failures = [] if arguments.table_only else runner.run(jobs)
    if arguments.seed is None:
        results = tables.collect(base, selected, jobs)
        tables.write(output, results)
        print(tables.text(results))
        print(f"In {output}: {tables.FILE}, {tables.MARKDOWN}, {tables.PICTURE}", flush=True)
    return failures


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
    """Parses the flags of this program, of the base, and of the evaluation (as `--config.`)."""
    if config_flag.HELP & set(argv):
        print(__doc__)
        sys.exit(0)
    parser = program.Parser("xkd_jax.ablate", __doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--rows", required=True, type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=program.count, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--output", type=pathlib.Path)
    only = parser.add_mutually_exclusive_group()
    for name in ("--jobs", "--dry_run", "--table_only"):
        only.add_argument(name, action="store_true")
    arguments, rest = parser.parse_known_args(argv)
    for flag in rest:
        if not flag.startswith((_CONFIG, _EVALUATION)) or "=" not in flag:
            parser.error(f"{flag} is not a flag; allowed: --config.FIELD=VALUE, --eval.FIELD=VALUE")
    if arguments.seed is not None and arguments.seed < 0:
        parser.error(f"--seed={arguments.seed}; allowed: 0 or more")
    return (
        arguments,
        [flag for flag in rest if flag.startswith(_CONFIG)],
        [_CONFIG + flag.removeprefix(_EVALUATION) for flag in rest if flag.startswith(_EVALUATION)],
    )


def _command(
    arguments: argparse.Namespace,
    job: plan.Job,
    output: pathlib.Path,
    base_flags: Sequence[str],
    evaluation_flags: Sequence[str],
) -> list[str]:
    return [
        *("python", "-m", "xkd_jax.ablate", f"--base={arguments.base}"),
        *(f"--rows={','.join(job.rows)}", f"--seed={job.seed}", f"--output={output}"),
        *base_flags,
        *(_EVALUATION + flag.removeprefix(_CONFIG) for flag in evaluation_flags),
    ]


class Runner:
    """Runs jobs one after another, each in its own processes.

    Args:
        base: Base config of the pretrainings.
        evaluation_flags: Flags `--config.FIELD=VALUE` for all evaluations.
    """

    def __init__(self, base: plan.Base, evaluation_flags: Sequence[str]) -> None:
        self._base = base
        self._evaluation_flags = evaluation_flags
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
                for kind, network in self._remaining(job):
                    print(f"{title}: {kind}{self._left(kind, jobs[place:])}", flush=True)
                    start = time.monotonic()
                    if network is None:
                        self._pretrain(job)
                    else:
                        self._evaluate(job, network)
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

    def _remaining(self, job: plan.Job) -> Iterator[tuple[str, str | None]]:
        """Yields the work that remains: its name, and the network to evaluate (None: pretrain)."""
        networks = [n for n in job.networks() if not self._is_evaluated(job, n)]
        if networks and not plan.is_pretrained(self._base, job):
            yield "pretraining", None
        for network in networks:
            yield f"evaluating the {network}", network

    def _is_evaluated(self, job: plan.Job, network: str) -> bool:
        # The protocol is the same for all jobs, except for paths, which are not compared.
        if network not in self._protocols:
            flags = plan.evaluation_flags(self._base, job, network, self._evaluation_flags)
            overrides = [flag for flag in flags if flag.startswith(_CONFIG)]
            self._protocols[network] = config_flag.load_config(plan.EVALUATION, overrides)
        return plan.evaluated(job, network, self._protocols[network]) is not None

    def _pretrain(self, job: plan.Job) -> None:
        """Trains to the end, and resumes a run that has stopped before it."""
        while not plan.is_pretrained(self._base, job):
            before = plan.checkpoint.latest_step(job.workdir)
            code = self._start(plan.pretraining_flags(self._base, job), job)
            if code == ALREADY_FINISHED:
                return
            if code == 0 and plan.checkpoint.latest_step(job.workdir) == before:
                raise Failed(f"{job.workdir} makes no progress; see {job.workdir / LOG}")

    def _evaluate(self, job: plan.Job, network: str) -> None:
        self._start(plan.evaluation_flags(self._base, job, network, self._evaluation_flags), job)

    def _start(self, flags: Sequence[str], job: plan.Job) -> int:
        """Runs `xkd_jax.main` to its end.

        Args:
            flags: The flags of the run.
            job: The job, whose folder gets the log.

        Returns:
            The exit code: 0, or `ALREADY_FINISHED`.

        Raises:
            Failed: The run has ended with another exit code.
            Stopped: A signal has ended the run.
        """
        job.workdir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "xkd_jax.main", *flags]
        with (job.workdir / LOG).open("a") as log:
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


if __name__ == "__main__":
    sys.exit(main())
