"""What the programs with a --config have in common: flags read, errors told in one line."""

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

# Of a device's memory, what programs may take. The rest is for the runtime, and for the batches
# that `sharding.Prefetch` has under way: of 16 GiB on TPU v5e, the compiler allows programs 15.75.
USABLE_MEMORY = 0.95


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


def use_most_memory_of_gpus() -> None:
    """Lets JAX take `USABLE_MEMORY` of each GPU, not three quarters; before it asks for devices.

    The environment variables that JAX has for it are the user's to set otherwise.
    """
    if not os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION"):  # its former name
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", str(USABLE_MEMORY))


def keep_compiled_programs() -> None:
    """Has JAX keep what it compiles on disk, so that the same program starts at once next time."""
    import jax

    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = chosen or str(user_cache.folder() / "compiled")
    jax.config.update("jax_compilation_cache_dir", folder)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Ends the program with one line where its input is wrong, exit code 1.

    With the environment variable XKD_TRACEBACK, errors come with all that led to them.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if os.environ.get("XKD_TRACEBACK"):
            raise
        sys.exit(f"error: {one_line(error)}")


def check_output(output: pathlib.Path, file: str = "") -> None:
    """Refuses an --output that cannot be written before the work that takes long.

    Args:
        output: The file, or the folder.
        file: Name of a file in the folder.

    Raises:
        ValueError: It cannot be written; the message says why.
    """
    try:
        atomic.check_writable(output / file)
    except OSError as error:
        raise ValueError(f"--output={output} cannot be written: {error.strerror}") from error


def one_line(error: BaseException) -> str:
    """An error's message without line breaks; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def exit_code(program: Callable[[], None]) -> int:
    """What a process that is this program alone would end with; says what it would say last.

    Args:
        program: May call `sys.exit`.
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
    """Reads the flags; a wrong one is one line and exit code 1.

    Args:
        argv: The command line, the program's name first.
        help_text: What --help prints.
        config: The flag --config.
        values: Where the flags are defined.

    Returns:
        What is left of the command line, the program's name first.
    """
    if HELP & set(argv):
        print(help_text)
        sys.exit(0)
    path = _config_path(argv)
    if path and not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        sys.exit(f"error: --config={path}: {what}; the shipped ones are configs/*.py")
    # config_flags loads every config file into this module, where get_config would stay.
    sys.modules.pop("config_config", None)
    try:
        rest = values(argv)
    except Exception as error:  # a config file is a program: it may raise anything
        sys.exit(f"error: {(path and _config_file_error(error, path)) or _flag_error(error)}")
    if isinstance(config.value, str):  # what configs/ablation.py:list has to say
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
    """What --config=PATH and --config.FIELD=VALUE give, in programs whose flags they are not.

    Args:
        path: As --config takes it.
        overrides: Flags, `--config.FIELD=VALUE` each.

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
    """Makes `~` in paths that the config file gives the home folder; of flags it is already."""
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            _expand_home(value)
        elif isinstance(value, str) and value.startswith("~"):
            config[name] = os.path.expanduser(value)


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
        error: What parsing the flags raised.
        path: The file.

    Returns:
        None where the error did not come from the file.
    """
    while error.__context__:  # to what began it
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
    reason = error.args[0]  # an unknown field, with the nearest known one
    while isinstance(reason, Exception):
        reason = reason.args[0]
    return f"no such field in the config: {' '.join(str(reason).split())}"
