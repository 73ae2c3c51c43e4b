"""Runs the task that a config describes.

    python -m xkd_jax.main --config=configs/folder.py --config.data.path=VIDEOS --workdir=RUN

The same command resumes an interrupted run from its newest checkpoint. Every field of the config
(configs/base.py documents them) can be set as a flag: --config.FIELD=VALUE, such as
--config.batch_size=64 or --config.model.video.patch="(4,16,16)".

Flags:
  --config=FILE           the experiment: one of configs/*.py, or a file like them; FILE:NAME for a
                          file of several, such as configs/ablation.py, and FILE:list to see them
  --config.FIELD=VALUE    sets a field of the config; any number of these
  --workdir=FOLDER        of the run: checkpoints, metrics, pictures; made if missing
  --compile_for=TARGET    trains nothing: compiles the step of pretraining or finetuning for GPUs
                          (h100, h100:8, h100:4x8 of 4 hosts; a100, a100-80gb, h200, b200) or for a
                          TPU slice (v5e:16x16), which need not be there (needs the extra cuda or
                          tpu), or for the devices here (local); prints memory, arithmetic, traffic
                          and communication; 1 if it does not fit
  --coordinator=HOST:PORT, --processes=N, --process=I
                          of several processes, each with its own number from 0, and the address
                          of process 0; Slurm and Cloud TPUs tell them by themselves
  --join_seconds=SECONDS  how long to wait for the other processes (300)
  --help, --helpfull      this text; the flags of the libraries too

SIGINT (Ctrl-C), SIGTERM and SIGHUP save and stop; where there is no step to save yet, they end it.

Exit codes: 0 done, or stopped on request and saved; 1 an error; 3 nothing left to train; 4 no
step has ended for too long (config.log.stall_minutes); 5 another process of the run is gone; 128
and the signal's number, as 130 and 143: stopped with nothing to save.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline import program

    program.start()

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from absl import app, flags, logging
from ml_collections import config_flags

from input_pipeline import program, signals
from xkd_jax import command_line

# Exit code where there is nothing left to train, so that scripts can tell it from a failure.
ALREADY_FINISHED = 3
_PATIENCE = 20.0  # seconds for another run to leave the workdir
# Of flags, files and folders: one line is all that a user needs.
USER_ERRORS = (ValueError, OSError)
# What config.task may be, and where its function is: of the same name, of (config, workdir).
TASKS = {
    "pretrain": "xkd_jax.pretrain",
    "probe": "xkd_jax.downstream.probe",
    "compare": "xkd_jax.downstream.compare",
    "finetune": "xkd_jax.downstream.finetune",
}


class Flags(NamedTuple):
    """The program's flags; each has its value once they are parsed."""

    config: flags.FlagHolder
    workdir: flags.FlagHolder
    compile_for: flags.FlagHolder
    coordinator: flags.FlagHolder
    processes: flags.FlagHolder
    process: flags.FlagHolder
    join_seconds: flags.FlagHolder


def define_flags(values: flags.FlagValues, argv: Sequence[str]) -> Flags:
    """Defines the program's flags.

    Args:
        values: Where; nothing else is changed.
        argv: The command line, the program's name first: it says which config file there is.
    """
    here = {"flag_values": values}
    found = Flags(
        config=config_flags.DEFINE_config_file(
            "config",
            None,
            "The experiment: a file such as configs/k400.py.",
            lock_config=True,
            sys_argv=list(argv),
            **here,
        ),
        workdir=flags.DEFINE_string(
            "workdir",
            None,
            "Folder of the run: checkpoints, metrics, pictures. Made if missing.",
            **here,
        ),
        compile_for=flags.DEFINE_string(
            "compile_for",
            None,
            "Only compile the step, for GPUs, a TPU topology or the `local` devices.",
            **here,
        ),
        coordinator=flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.", **here),
        processes=flags.DEFINE_integer(
            "processes", None, "Number of processes.", lower_bound=1, **here
        ),
        process=flags.DEFINE_integer(
            "process", None, "Number of this process, from 0.", lower_bound=0, **here
        ),
        join_seconds=flags.DEFINE_float(
            "join_seconds", 300, "How long to wait for the other processes.", lower_bound=1, **here
        ),
    )
    flags.mark_flag_as_required("config", **here)
    flags.register_multi_flags_validator(
        ["workdir", "compile_for"],
        lambda of: (
            of["workdir"] is not None
            or of["compile_for"]
            or isinstance(found.config.value, str)  # text to be printed, not a run
        ),
        message="--workdir=FOLDER is missing",
        **here,
    )
    return found


def main(found: Flags, rest: Sequence[str]) -> None:
    """Starts the devices up and hands the config to its task.

    Args:
        found: The flags, parsed.
        rest: What is left of the command line, the program's name first.

    Raises:
        SystemExit: With anything but success.
    """
    if len(rest) > 1:
        raise app.UsageError(f"Unexpected argument {rest[1]!r}: flags are --config and --workdir.")
    from xkd_jax import checkpoint, train

    with contextlib.ExitStack() as together:  # where an error ends all processes of the run
        try:
            _run(found, together)
        except train.FinishedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(ALREADY_FINISHED)
        except (train.NonFiniteError, checkpoint.SaveError, *USER_ERRORS) as error:
            if os.environ.get("XKD_TRACEBACK"):
                raise
            sys.exit(f"error: {command_line.one_line(error)}{_hint(error)}")


def _run(found: Flags, together: contextlib.ExitStack) -> None:
    """Meets the other processes, if there are any, and does the task."""
    import jax

    from xkd_jax import peers, processes, workdir

    config, folder = found.config.value, found.workdir.value
    if config.get("task") not in TASKS:
        raise ValueError(f"config.task is {config.get('task')!r}; allowed: {', '.join(TASKS)}")
    if found.compile_for.value:
        from xkd_jax import compile_check

        return compile_check.check(config, found.compile_for.value)
    group = processes.find(found.coordinator.value, found.processes.value, found.process.value)
    if group:
        processes.join(group, found.join_seconds.value)
        together.enter_context(peers.Peers())
        processes.check_same(f"{config}\n{folder}", "the config or workdir")
    task = getattr(importlib.import_module(TASKS[config.task]), config.task)
    writes = jax.process_index() == 0
    # Who started it may have been killed with a run before this one, which is saving yet.
    patience = _PATIENCE if os.environ.get(signals.STARTED_BY_A_PROGRAM) else 0
    with workdir.claimed(folder, patience) if writes else contextlib.nullcontext():
        if writes:
            print(config, flush=True)
        task(config, folder)


def _hint(error: Exception) -> str:
    """Where the message may not say enough: it is of a library, and names nothing of the user's."""
    ours = type(error) not in (ValueError, OSError) or "config." in str(error)
    ours = ours or getattr(error, "filename", None) is not None
    return "" if ours else " (XKD_TRACEBACK=1 shows where)"


def call(*argv: str) -> int:
    """Does in this process what the command line does in one of its own.

    What the command line sets for the whole process stays as it is: how much libraries say, where
    compiled programs are kept, what signals do. The flags that libraries have are not there.

    Args:
        argv: The flags.

    Returns:
        The exit code.
    """
    values = flags.FlagValues()
    command = ["xkd_jax.main", *program.expand_home(argv)]
    found = define_flags(values, command)
    return command_line.exit_code(
        lambda: main(found, command_line.parse(command, __doc__, found.config, values))
    )


def run() -> None:
    """Is the command line: sets the process up, parses the flags, runs and ends it."""
    found = define_flags(flags.FLAGS, sys.argv)

    def start(rest: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        command_line.quieten_libraries()
        command_line.use_most_memory_of_gpus()
        command_line.keep_compiled_programs()
        main(found, rest)

    app.run(start, flags_parser=lambda argv: command_line.parse(argv, __doc__, found.config))


if __name__ == "__main__":
    run()
