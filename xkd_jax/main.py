"""Runs the task that a config describes.

    python -m xkd_jax.main --config=configs/folder.py --config.data.path=VIDEOS --workdir=RUN

The same command resumes an interrupted run from its newest checkpoint. Every field of the config
(configs/base.py documents them) can be set as a flag, `--config.batch_size=64`.
"""

import os
import pathlib
import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file such as configs/k400.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, metrics, pictures. Made if missing."
)

# Exit code where there is nothing left to train, so that scripts can tell it from a failure.
ALREADY_FINISHED = 3
# The errors of a wrong argument, folder or file: their one line is all that a user needs.
EXPECTED_ERRORS = (ValueError, FileNotFoundError, NotADirectoryError, PermissionError)


def main(argv: list[str]) -> None:
    """Starts the devices up and hands the config to its task."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}: flags are --config and --workdir.")
    try:
        pathlib.Path(_WORKDIR.value).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"error: --workdir={_WORKDIR.value} cannot be made a folder: {error.strerror}")
    # Start-up messages of libraries, and a page for each checkpoint, would bury the run's own.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    import jax

    from xkd_jax import pretrain, train

    jax.config.update("jax_compilation_cache_dir", _compilation_cache())
    tasks = {"pretrain": pretrain.pretrain}
    config = _CONFIG.value
    # The loop has its own way to stop, with a save; this is for the time before it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if config.task not in tasks:
            raise ValueError(f"config.task is {config.task!r}; allowed: {', '.join(tasks)}")
        print(config, flush=True)
        tasks[config.task](config, _WORKDIR.value)
    except KeyboardInterrupt:
        print("Stopped before the first step. To go on, run the same command again.")
    except train.FinishedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ALREADY_FINISHED)
    except train.NonFiniteError as error:
        sys.exit(f"error: {error}")
    except EXPECTED_ERRORS as error:
        if os.environ.get("XKD_TRACEBACK"):
            raise
        sys.exit(f"error: {' '.join(str(error).split())} (XKD_TRACEBACK=1 shows where)")


def _compilation_cache() -> str:
    """Where compiled programs are kept, so that a resumed run starts at once."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(default / "xkd_jax" / "compiled")


def run() -> None:
    """Parses the flags and runs; a wrong flag is one line and exit code 1."""
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:  # an unknown field, with the nearest known one
        reason = error.args[0]
        while isinstance(reason, Exception):
            reason = reason.args[0]
        sys.exit(f"error: no such field in the config: {' '.join(reason.split())}")
    except (flags.Error, ValueError, TypeError) as error:
        if "Traceback" in str(error):  # of an error within the config file, for its author
            sys.exit(f"error: {error}")
        sys.exit(f"error: {' '.join(str(error).split())}")
    path = config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]
    if not pathlib.Path(path).is_file():
        sys.exit(f"error: --config={path}: no such file; the shipped ones are in configs/")
    return rest


if __name__ == "__main__":
    run()
