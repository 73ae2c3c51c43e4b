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
  --compile_for=TOPOLOGY  trains nothing: compiles the step for a TPU slice such as v5e:16x16, which
                          need not be there (needs the extra tpu), or for the devices here (local);
                          prints memory, arithmetic and communication; 1 if it does not fit
  --coordinator=HOST:PORT, --processes=N, --process=I
                          of several processes, each with its own number from 0, and the address
                          of process 0; Slurm and Cloud TPUs tell them by themselves
  --join_seconds=SECONDS  how long to wait for the other processes (300)
  --help, --helpfull      this text; the flags of the libraries too

Exit codes: 0 done, or stopped on request and saved; 1 an error; 3 nothing left to train; 4 no
step has ended for too long (config.log.stall_minutes).
"""

import contextlib
import importlib
import os
import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from xkd_jax import command_line

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file such as configs/k400.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, metrics, pictures. Made if missing."
)
_COMPILE_FOR = flags.DEFINE_string(
    "compile_for", None, "Only compile the step, for a TPU topology or for the `local` devices."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "Number of this process, from 0.", lower_bound=0)
_JOIN_SECONDS = flags.DEFINE_float(
    "join_seconds", 300, "How long to wait for the other processes.", lower_bound=1
)

# Exit code where there is nothing left to train, so that scripts can tell it from a failure.
ALREADY_FINISHED = 3
# Of flags, files and folders: one line is all that a user needs.
USER_ERRORS = (ValueError, OSError)
# What config.task may be, and where its function is: of the same name, of (config, workdir).
TASKS = {
    "pretrain": "xkd_jax.pretrain",
    "probe": "xkd_jax.downstream.probe",
    "compare": "xkd_jax.downstream.compare",
    "finetune": "xkd_jax.downstream.finetune",
}


def main(argv: list[str]) -> None:
    """Starts the devices up and hands the config to its task."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}: flags are --config and --workdir.")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    command_line.quieten_libraries()
    import jax

    from xkd_jax import checkpoint, processes, train, workdir

    command_line.keep_compiled_programs()
    config = _CONFIG.value
    # The loop has its own way to stop, with a save; this is for the time before it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if config.get("task") not in TASKS:
            raise ValueError(f"config.task is {config.get('task')!r}; allowed: {', '.join(TASKS)}")
        if _COMPILE_FOR.value:
            from xkd_jax import compile_check

            return compile_check.check(config, _COMPILE_FOR.value)
        group = processes.find(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        if group:
            processes.join(group, _JOIN_SECONDS.value)
            processes.check_same(f"{config}\n{_WORKDIR.value}", "the config or workdir")
        task = getattr(importlib.import_module(TASKS[config.task]), config.task)
        writes = jax.process_index() == 0
        with workdir.claimed(_WORKDIR.value) if writes else contextlib.nullcontext():
            if writes:
                print(config, flush=True)
            task(config, _WORKDIR.value)
    except KeyboardInterrupt:
        print("Stopped. To go on, run the same command again.")
    except train.FinishedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ALREADY_FINISHED)
    except (train.NonFiniteError, checkpoint.SaveError, *USER_ERRORS) as error:
        if os.environ.get("XKD_TRACEBACK"):
            raise
        sys.exit(f"error: {command_line.one_line(error)}{_hint(error)}")


def _hint(error: Exception) -> str:
    """Where the message may not say enough: it is of a library, and names nothing of the user's."""
    ours = type(error) not in (ValueError, OSError) or "config." in str(error)
    return "" if ours else " (XKD_TRACEBACK=1 shows where)"


def run() -> None:
    """Parses the flags and runs; a wrong flag is one line and exit code 1."""
    flags.mark_flag_as_required("config")
    flags.register_multi_flags_validator(
        ["workdir", "compile_for"],
        lambda values: (
            values["workdir"] is not None
            or values["compile_for"]
            or isinstance(_CONFIG.value, str)  # text to be printed, not a run
        ),
        message="--workdir=FOLDER is missing",
    )
    app.run(main, flags_parser=command_line.parser(__doc__, _CONFIG))


if __name__ == "__main__":
    run()
