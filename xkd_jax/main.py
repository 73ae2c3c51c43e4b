"""Runs the task that a config describes.

    python -m xkd_jax.main --config=configs/folder.py --config.data.path=VIDEOS --workdir=RUN

The same command resumes an interrupted run from its newest checkpoint. Every field of the config
(configs/base.py documents them) can be set as a flag: --config.FIELD=VALUE, such as
--config.batch_size=64 or --config.model.video.patch="(4,16,16)".

Flags:
  --config=FILE           the experiment: one of configs/*.py, or a file like them
  --config.FIELD=VALUE    sets a field of the config; any number of these
  --workdir=FOLDER        of the run: checkpoints, metrics, pictures; made if missing
  --coordinator=HOST:PORT, --processes=N, --process=I
                          of several processes, each with its own number from 0, and the address
                          of process 0; Slurm and Cloud TPUs tell them by themselves
  --join_seconds=SECONDS  how long to wait for the other processes (300)
  --help, --helpfull      this text; the flags of the libraries too

Exit codes: 0 done, or stopped on request and saved; 1 an error; 3 nothing left to train.
"""

import contextlib
import importlib
import itertools
import logging as python_logging
import os
import pathlib
import signal
import sys
import traceback

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file such as configs/k400.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, metrics, pictures. Made if missing."
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
HELP = {"--help", "-help", "-h", "--h", "-?", "--helpshort", "-helpshort"}


def main(argv: list[str]) -> None:
    """Starts the devices up and hands the config to its task."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}: flags are --config and --workdir.")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    quieten_libraries()
    import jax

    from xkd_jax import checkpoint, processes, train, workdir

    jax.config.update("jax_compilation_cache_dir", _compilation_cache())
    config = _CONFIG.value
    # The loop has its own way to stop, with a save; this is for the time before it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if config.get("task") not in TASKS:
            raise ValueError(f"config.task is {config.get('task')!r}; allowed: {', '.join(TASKS)}")
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
        print("Stopped before the first step. To go on, run the same command again.")
    except train.FinishedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ALREADY_FINISHED)
    except (train.NonFiniteError, checkpoint.SaveError, *USER_ERRORS) as error:
        if os.environ.get("XKD_TRACEBACK"):
            raise
        sys.exit(f"error: {_one_line(error)}{_hint(error)}")


def quieten_libraries() -> None:
    """Keeps what libraries say of themselves from burying what the run says; before JAX is there.

    Errors that they log with a traceback are raised as well, and told of in one line. Where one
    array of a checkpoint cannot be read, the reads of all others fail with nobody to tell.
    XKD_TRACEBACK=1 shows all that.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if os.environ.get("XKD_TRACEBACK"):
        return
    for logger in (logging.get_absl_logger(), python_logging.getLogger("asyncio")):
        logger.addFilter(lambda record: not record.exc_info)
    sys.unraisablehook = lambda _: None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _hint(error: Exception) -> str:
    """Where the message may not say enough: it is of a library, and names nothing of the user's."""
    ours = type(error) not in (ValueError, OSError) or "config." in str(error)
    return "" if ours else " (XKD_TRACEBACK=1 shows where)"


def _compilation_cache() -> str:
    """Where compiled programs are kept, so that a resumed run starts at once."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(default / "xkd_jax" / "compiled")


def run() -> None:
    """Parses the flags and runs; a wrong flag is one line and exit code 1."""
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    if HELP & set(argv):
        print(__doc__)
        sys.exit(0)
    path = _config_path(argv)
    if path and not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        sys.exit(f"error: --config={path}: {what}; the shipped ones are configs/*.py")
    try:
        rest = flags.FLAGS(argv)
    except Exception as error:  # a config file is a program: it may raise anything
        sys.exit(f"error: {(path and _config_file_error(error, path)) or _flag_error(error)}")
    if not isinstance(_CONFIG.value, ml_collections.ConfigDict):
        sys.exit(
            f"error: --config={path}: get_config() returns {type(_CONFIG.value).__name__}; "
            "allowed: a ConfigDict, such as configs/base.py's"
        )
    return rest


def _config_path(argv: list[str]) -> pathlib.Path | None:
    """The file that --config names: absl knows it only after it has run the file."""
    for flag, following in itertools.pairwise([*argv, ""]):
        if flag.split("=")[0] in ("--config", "-config"):
            value = flag.partition("=")[2] if "=" in flag else following
            return pathlib.Path(value.partition(":")[0])
    return None


def _config_file_error(error: BaseException, path: pathlib.Path) -> str | None:
    """What is wrong with a config file, in one line.

    Args:
      error: what parsing the flags raised.
      path: the file.

    Returns:
      None where the error did not come from the file.
    """
    while error.__context__:  # to what began it
        error = error.__context__
    where = f"--config={path}"
    if isinstance(error, AttributeError) and error.name == "get_config":
        return f"{where}: has no function get_config"
    if isinstance(error, SyntaxError):
        return f"{where}: {_one_line(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if pathlib.Path(f.filename).absolute() == path.absolute()]
    if not lines:
        return None
    return f"{where}, line {lines[-1]}: {type(error).__name__}: {_one_line(error)}"


def _flag_error(error: BaseException) -> str:
    if not isinstance(error, (AttributeError, KeyError)):
        return _one_line(error)
    reason = error.args[0]  # an unknown field, with the nearest known one
    while isinstance(reason, Exception):
        reason = reason.args[0]
    return f"no such field in the config: {' '.join(str(reason).split())}"


if __name__ == "__main__":
    run()
