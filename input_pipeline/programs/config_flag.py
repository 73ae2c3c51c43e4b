"""The flag --config of programs: the file of an experiment, and flags that set its fields."""

import itertools
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from input_pipeline.programs import config_fields, former_names, program

_SHIPPED = "the shipped ones are configs/*.py and configs/eval/*.py"
HELP = {"--help", "-help", "-h", "--h", "-?", "--helpshort", "-helpshort"}


def define(
    values: flags.FlagValues = flags.FLAGS, argv: Sequence[str] | None = None
) -> flags.FlagHolder:
    """Defines the flag --config.

    Args:
        values: Where to define it.
        argv: The command line, the program's name first, whose config file defines more flags; that
            of the process by default.

    Returns:
        The flag, which holds a `ConfigDict` once the command line is parsed.
    """
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "The experiment: a file such as configs/k400.py.",
        lock_config=True,
        sys_argv=None if argv is None else list(argv),
        flag_values=values,
    )


def run(main: Callable[[], None], text: str, config: flags.FlagHolder) -> None:
    """Runs a program whose flags are defined: parses them, and calls it.

    Libraries log warnings and errors only, unless the flag --verbosity says otherwise.

    Args:
        main: The program.
        text: Text that --help prints.
        config: The flag --config.
    """

    def quiet_main(_: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        main()

    app.run(quiet_main, flags_parser=lambda argv: parse(argv, text, config))


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
        The program's name, alone in a list, as absl wants it.

    Raises:
        SystemExit: A flag is wrong, an argument is no flag, or there is only text to print.
    """
    if HELP & set(argv):
        print(help_text)
        sys.exit(0)
    path = _config_path(argv)
    if path and not path.is_file():
        problem = "a folder" if path.is_dir() else "no such file"
        sys.exit(f"error: --config={path}: {problem}; {_SHIPPED}")
    # config_flags loads every config file into this module, where a former get_config would stay.
    sys.modules.pop("config_config", None)
    try:
        rest = values(argv)
    except Exception as error:  # a config file is a program and may raise anything
        if path is None and _lacks_config(error):
            sys.exit(f"error: --config=FILE is missing; {_SHIPPED}")
        problem = (path and _config_file_error(error, path)) or _former_name(argv)
        sys.exit(f"error: {problem or _flag_error(error)}")
    if len(rest) > 1:
        sys.exit(f"error: unexpected argument {rest[1]!r}; allowed: flags, see --help")
    if isinstance(config.value, str):  # text to print, such as that of configs/ablation.py:list
        print(config.value)
        sys.exit(0)
    if not isinstance(config.value, ml_collections.ConfigDict):
        if path is None:
            sys.exit("error: --config is empty; allowed: a file such as configs/k400.py")
        sys.exit(
            f"error: --config={path}: get_config() returns {type(config.value).__name__}; "
            "allowed: a ConfigDict, such as configs/base.py's"
        )
    _expand_home(config.value)
    return rest


class Origin(NamedTuple):
    """Where a config comes from.

    Attributes:
        file: Value of --config.
        changed: Values of the fields that flags have set, by name, such as `data.path`.
    """

    file: str
    changed: Mapping[str, Any]


def origin(values: flags.FlagValues = flags.FLAGS) -> Origin:
    """Returns where the config of parsed flags comes from."""
    flag = values["config"]
    return Origin(config_flags.get_config_filename(flag), config_flags.get_override_values(flag))


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
    config = define(values, argv)
    parse(argv, "", config, values)
    return config.value


def _expand_home(config: ml_collections.ConfigDict) -> None:
    """Expands `~` in paths, which flags have expanded where it is their first character."""
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            _expand_home(value)
        elif isinstance(value, str):
            config[name] = os.path.expanduser(value)
        elif isinstance(value, tuple):
            config[name] = tuple(os.path.expanduser(x) if isinstance(x, str) else x for x in value)


def _config_value(argv: Sequence[str]) -> str:
    """Returns the value of --config, or "". absl knows it only after running the file."""
    for flag, following in itertools.pairwise([*argv, ""]):
        if flag.split("=")[0] in ("--config", "-config"):
            return flag.partition("=")[2] if "=" in flag else following
    return ""


def _config_path(argv: Sequence[str]) -> pathlib.Path | None:
    """Returns the file that --config names."""
    value = _config_value(argv)
    return pathlib.Path(value.partition(":")[0]) if value else None


def _former_name(argv: Sequence[str]) -> str | None:
    """Describes the first flag that names a field as earlier versions did; None if none does."""
    for flag in argv:
        match = re.match(r"--?config\.([^=]+)", flag)
        today = former_names.todays(match[1]) if match else None
        if today and config_fields.has(load_config(_config_value(argv), []), today):
            return f"{flag}: this field is now called config.{today}"
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
    if isinstance(error, TypeError) and str(error).startswith("get_config() takes 0 positional"):
        return f"{where}: takes nothing after a colon"
    if isinstance(error, SyntaxError) and error.filename != "<unknown>":  # that of a flag's value
        return f"{where}: {program.one_line(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if pathlib.Path(f.filename).absolute() == path.absolute()]
    if not lines:
        return None
    return f"{where}, line {lines[-1]}: {type(error).__name__}: {program.one_line(error)}"


def _lacks_config(error: BaseException) -> bool:
    """Returns whether an error of parsing means that there is no --config."""
    if isinstance(error, flags.UnrecognizedFlagError):  # the config file would define it
        return error.flagname.startswith("config.")
    return isinstance(error, flags.IllegalFlagValueError) and "--config=None:" in str(error)


def _flag_error(error: BaseException) -> str:
    if not isinstance(error, (AttributeError, KeyError)):
        # Of a rule for several flags, absl puts all their values before the message.
        return re.sub(r"^flags \w+=.*?: (?=--)", "", program.one_line(error))
    reason = error.args[0]  # names the unknown field and the nearest known one
    while isinstance(reason, Exception):
        reason = reason.args[0]
    return f"no such field in the config: {' '.join(str(reason).split())}"
