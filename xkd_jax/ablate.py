r"""Runs rows of the paper's tables on any base config, and compares with the paper's numbers.

    python -m xkd_jax.ablate --base=configs/demo.py --rows=table4 --seeds=3
    python -m xkd_jax.ablate --base=configs/k400.py --config.data.path=K400 --rows=table4 \
        --evaluate=paper --eval.ucf101=UCF --eval.hmdb51=HMDB --eval.esc50=ESC

For each row and seed, this pretrains with the row's changes to the base, and evaluates the features
on the base's data by a linear SVM and by nearest neighbors (configs/eval/compare.py). At the end it
prints a table of means and spreads over the seeds, and writes `results.json`, `table.md` and
`table.png` to the output folder. With --evaluate=paper it evaluates by the paper's protocols on its
data sets instead, prints the paper's tables with ours beside, and writes `paper.json`, `paper.md`
and a picture of each table and figure, such as `table4.png`. Rows then also have the paper's epochs
and temperatures, unless the base has its own.

The same command resumes a run that was stopped at any instant; finished work is not repeated. Rows
with the same pretraining share it. All rows are listed by xkd_jax.main with
--config=configs/ablation.py:list.

Flags:
  --base=FILE             the config that the rows change: one of configs/*.py; for the paper's own
                          recipe of appendix B, configs/ablation.py:default; may be left out with
                          --checkpoint.ROW (configs/k400.py)
  --rows=NAME,...         rows (no_refine), studies (local_views), tables (table4, tableS12),
                          figures (figureS1), or all
  --seeds=N               number of seeds, from the base's seed on (1)
  --seed=I                only the I-th of these seeds, from 0; makes no table
  --output=FOLDER         folder for everything; created if missing (runs/ablations/BASE)
  --config.FIELD=VALUE    sets a field of the base, for all rows
  --evaluate=KIND         compare: on the base's own data; paper: as the paper (compare)
  --eval.FIELD=VALUE      sets a field of configs/eval/compare.py, or, with --evaluate=paper, of all
                          evaluations that have it
  --eval.DATASET=FOLDER   with --evaluate=paper: prepared ucf101, hmdb51, esc50, fsd50k,
                          kinetics_sound or kinetics400; what is not given stays a gap
  --finetune.DATASET=FOLDER  the same for finetuning on video, prepared with --short_side=256
  --data.DATASET=FOLDER   with --evaluate=paper: prepared audioset or kinetics_sound, for the rows
                          that the paper pretrains on it
  --checkpoint.ROW=FOLDER  with --evaluate=paper: weights of a row, as xkd_jax.load_encoder takes
                          them. Then nothing is pretrained, and rows without weights are left out
  --input FILE ...        media files and folders whose attention maps figure3 shows (by default
                          eight clips of the base's data)
  --run=NAME              only the pretraining of this name; makes no table
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
import pathlib
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.programs import config_flag, program
from xkd_jax.ablation import (
    evaluations,
    figures,
    paper_tables,
    plan,
    run_figures,
    selection,
    tables,
    weights,
)
from xkd_jax.ablation.evaluations import Suite
from xkd_jax.ablation.runner import Failed, Runner, Stopped
from xkd_jax.downstream.figures import save
from xkd_jax.paper import rows

_CONFIG, _EVALUATION = "--config.", "--eval."
COMPARE, PAPER = "compare", "paper"
_BASE_OF_WEIGHTS = "configs/k400.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags, and runs, prints or tabulates.

    Args:
        argv: The flags; those of the process by default.

    Returns:
        The exit code.
    """
    try:
        with program.errors_in_one_line():
            failures = _run(_parse(sys.argv[1:] if argv is None else argv))
    except Stopped:
        print("Stopped. To go on, run the same command again.")
        return 0
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


class Flags(NamedTuple):
    """The command line.

    Attributes:
        arguments: Flags of this program with one value each.
        base: Flags of the base, `--config.FIELD=VALUE`.
        evaluation: Flags of the evaluations, as `--config.FIELD=VALUE`.
        folders: Folders of data sets.
        weights: Folders of weights, by name of the row.
    """

    arguments: argparse.Namespace
    base: tuple[str, ...]
    evaluation: tuple[str, ...]
    folders: evaluations.Folders
    weights: Mapping[str, str]


def _run(flags: Flags) -> list[Failed]:
    """Runs, prints or tabulates as the flags say, and returns the failures of runs."""
    arguments = flags.arguments
    flags.folders.check()
    base = plan.Base(
        arguments.base,
        flags.base,
        config_flag.load_config(arguments.base, flags.base),
        arguments.evaluate == PAPER,
        flags.folders.pretraining,
        weights.read(flags.weights),
    )
    if base.config.get("task") != "pretrain":
        raise ValueError(f"--base={base.path} is not a pretraining: it has another task")
    output = arguments.output or pathlib.Path("runs/ablations", pathlib.Path(base.path).stem)
    seeds = range(arguments.seeds) if arguments.seed is None else [arguments.seed]
    selected = selection.select(arguments.rows)
    suite = (
        evaluations.Paper(selected, flags.folders, flags.evaluation)
        if base.as_paper
        else evaluations.Compare(base, flags.evaluation)
    )
    jobs = [
        job for job in plan.jobs(base, selected, seeds, output) if suite.of(job) or suite.draws(job)
    ]
    for row, reason in plan.impossible(base, selected).items():
        print(f"left out: {row}, impossible on {base.path}: {reason}", file=sys.stderr)
    if arguments.run:
        jobs = _only(arguments.run, jobs)
    if arguments.jobs:
        for job in jobs:
            print(shlex.join(_command(flags, job, output)))
        return []
    for job in jobs:
        plan.check_same_run(base, job)
    runner = Runner(base, suite)
    if arguments.dry_run:
        for job in jobs:
            print(f"{job.workdir}: {runner.state(job)} ({', '.join(job.rows)})")
        return []
    failures = [] if arguments.table_only else runner.run(jobs)
    if arguments.seed is None and not arguments.run:
        _tabulate(suite, base, selected, jobs, output, arguments.input)
    return failures


def _only(run: str, jobs: Sequence[plan.Job]) -> list[plan.Job]:
    names = dict.fromkeys(job.run for job in jobs)
    if run not in names:
        raise ValueError(f"--run={run}; allowed with these --rows: {', '.join(names)}")
    return [job for job in jobs if job.run == run]


def _tabulate(
    suite: Suite,
    base: plan.Base,
    selected: Sequence[selection.Selected],
    jobs: Sequence[plan.Job],
    output: pathlib.Path,
    inputs: Sequence[pathlib.Path],
) -> None:
    """Writes and prints the tables and figures of what is finished."""
    if isinstance(suite, evaluations.Paper):
        results = paper_tables.collect(suite, base, selected, jobs)
        paper_tables.write(output, results)
        text, files = paper_tables.text(results), [paper_tables.RESULTS, paper_tables.MARKDOWN]
        files += _draw(output, figures.pictures(results).items())
        files += _draw(output, run_figures.pictures(base, selected, jobs, inputs))
    else:
        results = tables.collect(base, selected, jobs)
        tables.write(output, results)
        text, files = tables.text(results), (tables.FILE, tables.MARKDOWN, tables.PICTURE)
    print(text)
    print(f"In {output}: {', '.join(files)}", flush=True)


def _draw(output: pathlib.Path, pictures: Iterable[tuple[str, np.ndarray | None]]) -> Iterator[str]:
    """Writes pictures, and returns the names of their files."""
    for name, pixels in pictures:
        if pixels is None:
            print(f"not drawn: {name}, since its runs are not there yet", file=sys.stderr)
        else:
            save(output / name, pixels)
            yield name


def _parse(argv: Sequence[str]) -> Flags:
    """Parses the flags of this program, of the base, of the evaluations, and of data sets."""
    if config_flag.HELP & set(argv):
        print(__doc__)
        sys.exit(0)
    parser = program.Parser("xkd_jax.ablate", __doc__)
    parser.add_argument("--base")
    parser.add_argument("--rows", required=True, type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=program.count, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--run")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--evaluate", default=COMPARE)
    parser.add_argument("--input", type=pathlib.Path, nargs="+", default=[])
    only = parser.add_mutually_exclusive_group()
    for row in rows.ROWS:
        parser.add_argument(f"--checkpoint.{row}", dest=f"checkpoint.{row}")
    for name in ("--jobs", "--dry_run", "--table_only"):
        only.add_argument(name, action="store_true")
    folders = {
        "eval": evaluations.DATASETS,
        "finetune": evaluations.FINETUNED,
        "data": evaluations.PRETRAINING,
    }
    for kind, datasets in folders.items():
        for dataset in datasets:
            parser.add_argument(f"--{kind}.{dataset}")
    arguments, rest = parser.parse_known_args(argv)
    for flag in rest:
        if flag.startswith("--checkpoint."):
            parser.error(f"{flag} is of no row; allowed rows: {', '.join(rows.ROWS)}")
        if not flag.startswith((_CONFIG, _EVALUATION)) or "=" not in flag:
            parser.error(f"{flag} is not a flag; allowed: --config.FIELD=VALUE, --eval.FIELD=VALUE")
    if arguments.seed is not None and arguments.seed < 0:
        parser.error(f"--seed={arguments.seed}; allowed: 0 or more")
    if arguments.evaluate not in (COMPARE, PAPER):
        parser.error(f"--evaluate={arguments.evaluate}; allowed: {COMPARE}, {PAPER}")
    given = {
        kind: {name: path for name in datasets if (path := vars(arguments)[f"{kind}.{name}"])}
        for kind, datasets in folders.items()
    }
    for kind, paths in given.items():
        if paths and arguments.evaluate != PAPER:
            parser.error(f"--{kind}.{next(iter(paths))} is allowed with --evaluate=paper alone")
    given_weights = {
        row: path for row in rows.ROWS if (path := vars(arguments)[f"checkpoint.{row}"])
    }
    if given_weights:
        _check_weights(parser, arguments, next(iter(given_weights)))
    if not arguments.base:
        parser.error("--base is missing; allowed: one of configs/*.py")
    if arguments.input and arguments.evaluate != PAPER:
        parser.error("--input is allowed with --evaluate=paper alone")
    return Flags(
        arguments,
        tuple(flag for flag in rest if flag.startswith(_CONFIG)),
        tuple(
            _CONFIG + flag.removeprefix(_EVALUATION)
            for flag in rest
            if flag.startswith(_EVALUATION)
        ),
        evaluations.Folders(*given.values()),
        given_weights,
    )


def _check_weights(parser: program.Parser, arguments: argparse.Namespace, row: str) -> None:
    """Refuses flags that contradict --checkpoint.ROW, and sets the base if none is given."""
    if arguments.evaluate != PAPER:
        parser.error(f"--checkpoint.{row} is allowed with --evaluate=paper alone")
    if arguments.seeds > 1 or arguments.seed is not None:
        parser.error(f"--checkpoint.{row} is allowed without --seeds and --seed")
    arguments.base = arguments.base or _BASE_OF_WEIGHTS


def _command(flags: Flags, job: plan.Job, output: pathlib.Path) -> list[str]:
    """Returns the command that does one job."""
    arguments = flags.arguments
    # A row's name alone would select only the first of the tables that have it.
    which = (
        (f"--rows={','.join(arguments.rows)}", f"--run={job.run}", f"--evaluate={PAPER}")
        if arguments.evaluate == PAPER
        else (f"--rows={','.join(job.rows)}",)
    )
    return [
        *("python", "-m", "xkd_jax.ablate", f"--base={arguments.base}"),
        *(*which, f"--output={output}"),
        *([] if flags.weights else [f"--seed={job.seed}"]),
        *(f"--checkpoint.{row}={folder}" for row, folder in flags.weights.items()),
        *flags.folders.flags(),
        *flags.base,
        *(_EVALUATION + flag.removeprefix(_CONFIG) for flag in flags.evaluation),
    ]


if __name__ == "__main__":
    sys.exit(main())
