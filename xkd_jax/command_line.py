"""Common code of the programs with a --config: parses flags, reports errors in one line."""

import contextlib
import itertools
import logging as python_logging
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from input_pipeline import atomic, user_cache

HELP = {"--help", "-help", "-h", "--h", "-?", "--helpshort", "-helpshort"}

# Share of a device's memory that programs may use. The rest is for the runtime, and for batches
# that `sharding.Prefetch` is copying. On TPU v5e, the compiler allows programs 15.75 of 16 GiB.
USABLE_MEMORY = 0.95


def quieten_libraries() -> None:
    """Silences libraries, so that their logs do not bury those of the run. Call it before JAX.

    Errors that libraries log with a traceback are raised too, and reported in one line. If one
    array of a checkpoint cannot be read, Python would print an error for each of the others.
    XKD_TRACEBACK=1 shows everything.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if os.environ.get("XKD_TRACEBACK"):
        return
    for logger in (logging.get_absl_logger(), python_logging.getLogger("asyncio")):
        logger.addFilter(lambda record: not record.exc_info)
    sys.unraisablehook = lambda _: None


def use_most_memory_of_gpus() -> None:
    """Lets JAX use `USABLE_MEMORY` of each GPU instead of three quarters. Call it before JAX.

    It does not change the environment variables that JAX reads if the user has set them.
    """
    if not os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION"):  # its former name
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", str(USABLE_MEMORY))


def keep_compiled_programs() -> None:
    """Makes JAX cache compiled programs on the disk, so that the next start is fast."""
    import jax

    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = chosen or str(user_cache.folder() / "compiled")
    jax.config.update("jax_compilation_cache_dir", folder)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turns a ValueError or OSError into one line and exit code 1.

    If the environment variable XKD_TRACEBACK is set, errors keep their traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if os.environ.get("XKD_TRACEBACK"):
            raise
        sys.exit(f"error: {one_line(error)}")


def check_output(output: pathlib.Path, file: str = "") -> None:
    """Refuses an --output that cannot be written, before the program begins to compute.

    Args:
        output: Path of the output, a file or a folder.
        file: Name of a file in the folder; empty if the output is a file.

    Raises:
        ValueError: The output cannot be written; the message says why.
    """
    try:
        atomic.check_writable(output / file)
    except OSError as error:
        raise ValueError(f"--output={output} cannot be written: {error.strerror}") from error


def one_line(error: BaseException) -> str:
    """Formats an error as one line: its message, or its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def exit_code(program: Callable[[], None]) -> int:
    """Runs a program in this process, and returns its exit code.

    Args:
        program: Function that may call `sys.exit`; a message is printed to stderr.

    Returns:
        The exit code that the program would have as a process.
    """
    try:
        program()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0


def parse(
    argv: list[str],
    help_text: str,
    config: flags.FlagHolder,
    values: flags.FlagValues = flags.FLAGS,
) -> list[str]:
    """Parses the flags. A wrong one is reported in one line, with exit code 1.

    Args:
        argv: The command line, the program's name first.
        help_text: Text that --help prints.
        config: The flag --config.
        values: Where the flags are defined.

    Returns:
        The arguments that are not flags, the program's name first.

    Raises:
        SystemExit: A flag is wrong, or there is only text to print.
    """
    if HELP & set(argv):
        print(help_text)
        sys.exit(0)
    path = _config_path(argv)
    if path and not path.is_file():
        problem = "a folder" if path.is_dir() else "no such file"
        sys.exit(f"error: --config={path}: {problem}; the shipped ones are configs/*.py")
    # config_flags loads every config file into this module, where a former get_config would stay.
    sys.modules.pop("config_config", None)
    try:
        rest = values(argv)
    except Exception as error:  # a config file is a program and may raise anything
        sys.exit(f"error: {(path and _config_file_error(error, path)) or _flag_error(error)}")
    if isinstance(config.value, str):  # text to print, such as that of configs/ablation.py:list
        print(config.value)
        sys.exit(0)
    if not isinstance(config.value, ml_collections.ConfigDict):
        sys.exit(
            f"error: --config={path}: get_config() returns {type(config.value).__name__}; "
            "allowed: a ConfigDict, such as configs/base.py's"
        )
    _expand_home(config.value)
    return rest


def load_config(path: str, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    """Loads a config as --config=PATH and --config.FIELD=VALUE do, without defining these flags.

    Args:
        path: Value of --config.
        overrides: Flags of the form `--config.FIELD=VALUE`.

    Returns:
        The config.

    Raises:
        SystemExit: There is no such config, or a flag is wrong; the message is one line.
    """
    argv = ["", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    parse(argv, "", config, values)
    return config.value


def _expand_home(config: ml_collections.ConfigDict) -> None:
    """Expands `~` in the paths of a config file; in flags it is expanded already."""
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            _expand_home(value)
        elif isinstance(value, str) and value.startswith("~"):
            config[name] = os.path.expanduser(value)


def _config_path(argv: list[str]) -> pathlib.Path | None:
    """Returns the file that --config names, which absl knows only after running the file."""
    for flag, following in itertools.pairwise([*argv, ""]):
        if flag.split("=")[0] in ("--config", "-config"):
            value = flag.partition("=")[2] if "=" in flag else following
            return pathlib.Path(value.partition(":")[0])
    return None


def _config_file_error(error: BaseException, path: pathlib.Path) -> str | None:
    """Describes in one line what is wrong with a config file.

    Args:
        error: Error that parsing the flags has raised.
        path: Path of the config file.

    Returns:
        The description; None if the error does not come from the file.
    """
    while error.__context__:  # goes to the first cause
        error = error.__context__
    where = f"--config={path}"
    if isinstance(error, AttributeError) and error.name == "get_config":
        return f"{where}: has no function get_config"
    if isinstance(error, SyntaxError):
        return f"{where}: {one_line(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if pathlib.Path(f.filename).absolute() == path.absolute()]
    if not lines:
        return None
    return f"{where}, line {lines[-1]}: {type(error).__name__}: {one_line(error)}"


def _flag_error(error: BaseException) -> str:
    if not isinstance(error, (AttributeError, KeyError)):
        return one_line(error)
    reason = error.args[0]  # names the unknown field and the nearest known one
    while isinstance(reason, Exception):
        reason = reason.args[0]
    return f"no such field in the config: {' '.join(str(reason).split())}"
