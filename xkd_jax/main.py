"""Runs the task that a config describes.

    python -m xkd_jax.main --config=configs/folder.py --config.data.path=VIDEOS --workdir=RUN

The same command resumes an interrupted run from its newest checkpoint. Every field of the config
(xkd_jax/config documents them) can be set as a flag: --config.FIELD=VALUE, such as
--config.batch_size=64 or --config.model.video.patch="(4,16,16)".

Flags:
  --config=FILE           the experiment: one of configs/*.py, or a file like them; FILE:NAME for a
                          file of several, such as configs/ablation.py, and FILE:list to see them
  --config.FIELD=VALUE    sets a field of the config; any number of these
  --workdir=FOLDER        folder of the run, for checkpoints, metrics and pictures; it is created if
                          it does not exist
  --compile_for=TARGET    trains nothing: compiles the step of pretraining, finetuning or an
                          attentive probe for GPUs (h100, h100:8, h100:4x8 for 4 hosts; a100,
                          a100-80gb, h200, b200), for a TPU slice (v5e:16x16), or for the devices
                          here (local), and prints memory, arithmetic, traffic and communication.
                          GPUs and TPUs need not be here, but need the extra cuda or tpu. Exit code
                          1 if the step does not fit
  --dry_run               runs nothing: checks the config and that its data and weights exist, and
                          prints what would run, with the whole config, one fact on each line
  --coordinator=HOST:PORT, --processes=N, --process=I
                          for a run of several processes: the address of process 0, the number of
                          processes, and the number of this one, from 0. Slurm and Cloud TPUs
                          provide them
  --join_seconds=SECONDS  how long to wait for the other processes (300)
  --help, --helpfull      prints this text; also the flags of the libraries

SIGINT (Ctrl-C), SIGTERM and SIGHUP save and stop. Before the first step, they stop without saving.

Exit codes: 0 done, or stopped on request and saved; 1 an error; 3 nothing left to train; 4 no
step has ended for too long (config.log.stall_minutes); 5 another process of the run is gone; 128
plus the signal's number, such as 130 and 143: stopped with nothing to save.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from input_pipeline.programs import config_flag, program, signals
from xkd_jax.run import command_line

# Exit code if there is nothing left to train, so that scripts can tell it from a failure.
ALREADY_FINISHED = 3
_PATIENCE = 20.0  # seconds to wait for another run to leave the workdir
# Values of config.task, and the module of each. It has a function `task(config, workdir)`, of the
# same name as the task.
TASKS = {
    "pretrain": "xkd_jax.pretrain_run",
    "probe": "xkd_jax.downstream.probe",
    "compare": "xkd_jax.downstream.compare",
    "attentive": "xkd_jax.downstream.attentive",
    "few_shot": "xkd_jax.downstream.few_shot",
    "retrieval": "xkd_jax.downstream.retrieval",
    "finetune": "xkd_jax.downstream.finetuning.finetune",
}
# File of the workdir that has the whole config, by task.
_WHOLE_CONFIG = {
    "pretrain": "config.json",
    "probe": "results.json",
    "compare": "results.json",
    "attentive": "results.json",
    "few_shot": "results.json",
    "retrieval": "results.json",
    "finetune": "results.json",
}


class Flags(NamedTuple):
    """The program's flags, which hold values once the command line is parsed."""

    config: flags.FlagHolder
    workdir: flags.FlagHolder
    compile_for: flags.FlagHolder
    dry_run: flags.FlagHolder
    coordinator: flags.FlagHolder
    processes: flags.FlagHolder
    process: flags.FlagHolder
    join_seconds: flags.FlagHolder


def define_flags(values: flags.FlagValues, argv: Sequence[str]) -> Flags:
    """Defines the program's flags.

    Args:
        values: Where to define them; nothing else changes.
        argv: The command line, the program's name first; its config file defines more flags.

    Returns:
        The flags, not parsed yet.
    """
    options = {"flag_values": values}
    defined = Flags(
        config=config_flag.define(values, argv),
        workdir=flags.DEFINE_string(
            "workdir",
            None,
            "Folder of the run: checkpoints, metrics, pictures. Created if missing.",
            **options,
        ),
        compile_for=flags.DEFINE_string(
            "compile_for",
            None,
            "Only compile the step, for GPUs, a TPU topology or the `local` devices.",
            **options,
        ),
        dry_run=flags.DEFINE_boolean(
            "dry_run", False, "Only check the config, and print what would run.", **options
        ),
        coordinator=flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.", **options),
        processes=flags.DEFINE_integer(
            "processes", None, "Number of processes.", lower_bound=1, **options
        ),
        process=flags.DEFINE_integer(
            "process", None, "Number of this process, from 0.", lower_bound=0, **options
        ),
        join_seconds=flags.DEFINE_float(
            "join_seconds",
            300,
            "How long to wait for the other processes.",
            lower_bound=1,
            **options,
        ),
    )
    flags.mark_flag_as_required("config", **options)
    flags.register_multi_flags_validator(
        ["compile_for", "dry_run"],
        lambda parsed: not (parsed["compile_for"] and parsed["dry_run"]),
        message="--dry_run and --compile_for exclude each other",
        **options,
    )
    flags.register_multi_flags_validator(
        ["workdir", "compile_for", "dry_run"],
        lambda parsed: (
            parsed["workdir"] is not None
            or parsed["compile_for"]
            or parsed["dry_run"]
            or isinstance(defined.config.value, str)  # text to be printed, not a run
        ),
        message="--workdir=FOLDER is missing",
        **options,
    )
    return defined


def main(parsed: Flags, origin: config_flag.Origin) -> None:
    """Runs the task of the config, and reports errors in one line.

    Args:
        parsed: The parsed flags.
        origin: Where the config comes from.

    Raises:
        SystemExit: The task has failed, or there is nothing left to train.
    """
    from xkd_jax.run import checkpoint, loop, step_metrics

    with contextlib.ExitStack() as together:  # in it, an error ends all processes of the run
        try:
            _run(parsed, origin, together)
        except loop.FinishedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(ALREADY_FINISHED)
        except (step_metrics.NonFiniteError, checkpoint.SaveError, *program.USER_ERRORS) as error:
            if os.environ.get("XKD_TRACEBACK"):
                raise
            sys.exit(f"error: {program.one_line(error)}{_hint(error)}")


def _run(parsed: Flags, origin: config_flag.Origin, together: contextlib.ExitStack) -> None:
    """Joins the other processes, if there are any, and runs the task."""
    from xkd_jax.run import console, peers, processes, workdir

    config, folder = parsed.config.value, parsed.workdir.value
    if config.get("task") not in TASKS:
        raise ValueError(f"config.task is {config.get('task')!r}; allowed: {', '.join(TASKS)}")
    if parsed.dry_run.value:
        from xkd_jax.measure import dry_run

        print(f"Task {config.task} of {origin.file} would run; --dry_run runs nothing")
        print("\n".join(dry_run.facts(config, folder)))
        return None
    if parsed.compile_for.value:
        from xkd_jax.measure import compile_check

        return compile_check.check(config, parsed.compile_for.value)
    group = processes.find(parsed.coordinator.value, parsed.processes.value, parsed.process.value)
    if group:
        processes.join(group, parsed.join_seconds.value)
        together.enter_context(peers.Peers())
        processes.check_same(f"{config}\n{folder}", "the config or workdir")
    task = getattr(importlib.import_module(TASKS[config.task]), config.task)
    writes = processes.is_first()
    # The program that started this run may have been killed while a run before it was saving.
    patience = _PATIENCE if os.environ.get(signals.STARTED_BY_A_PROGRAM) else 0
    with workdir.claimed(folder, patience) if writes else contextlib.nullcontext():
        console.say(_first_lines(config.task, origin, folder))
        task(config, folder)


def _first_lines(task: str, origin: config_flag.Origin, folder: str) -> str:
    """Formats what runs: the config's file, what flags have changed in it, and where all of it is.

    Args:
        task: Name of the task.
        origin: Where the config comes from.
        folder: Folder of the run.
    """
    whole = os.path.join(folder, _WHOLE_CONFIG[task])
    lines = [f"Task {task} of {origin.file}; the whole config goes to {whole}"]
    if origin.changed:
        lines.append("Changed by flags:")
        lines += [f"  config.{name} = {value!r}" for name, value in origin.changed.items()]
    return "\n".join(lines)


def _hint(error: Exception) -> str:
    """Returns a hint if the error is a library's and names no field or file of the user's."""
    is_specific = type(error) not in (ValueError, OSError) or "config." in str(error)
    is_specific = is_specific or getattr(error, "filename", None) is not None
    return "" if is_specific else " (XKD_TRACEBACK=1 shows where)"


def call(*argv: str) -> int:
    """Runs the program in this process.

    Unlike the command line, this does not change settings of the whole process: the verbosity of
    libraries, the cache of compiled programs, signal handlers. The flags of libraries are missing.

    Args:
        argv: The flags.

    Returns:
        The exit code.
    """
    values = flags.FlagValues()
    command = ["xkd_jax.main", *program.expand_home(argv)]
    defined = define_flags(values, command)

    def parse_and_run() -> None:
        config_flag.parse(command, __doc__, defined.config, values)
        main(defined, config_flag.origin(values))

    return command_line.exit_code(parse_and_run)


def run() -> None:
    """Runs the command line: sets up the process, parses the flags, and runs the task."""
    defined = define_flags(flags.FLAGS, sys.argv)

    def start() -> None:
        command_line.quieten_libraries()
        command_line.use_most_memory_of_gpus()
        command_line.keep_compiled_programs()
        main(defined, config_flag.origin(flags.FLAGS))

    config_flag.run(start, __doc__, defined.config)


if __name__ == "__main__":
    run()
