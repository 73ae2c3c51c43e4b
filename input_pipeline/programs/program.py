"""What all programs have in common: how they start, parse flags and report errors."""

import argparse
import contextlib
import gc
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from input_pipeline.programs import quiet_import, signals, terminal

# Errors in flags, files and folders, which a program reports in one line.
USER_ERRORS = (ValueError, OSError)


def start() -> None:
    """Prepares the process for everything that follows.

    It installs signal handlers, makes output safe, collects garbage rarely, silences TensorFlow and
    expands `~` in flags. Call it only in a process that is a program, before the slow imports: it
    changes how the process handles signals and memory, its environment, and `sys.stdout`,
    `sys.stderr` and `sys.argv`.
    """
    _open_missing_streams()
    signals.install()
    guard_outputs()
    collect_garbage_rarely()
    _quieten_tensorflow()
    sys.argv[1:] = expand_home(sys.argv[1:])


def guard_outputs() -> None:
    """Makes everything that the process prints safe for terminals."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None if the process was started without it
            terminal.guard(stream)


def collect_garbage_rarely() -> None:
    """Has Python look for cycles once per 200,000 new objects, not per 700.

    Importing and tracing allocate millions of objects that stay: with Python's defaults, a tenth of
    a program's start goes into looking for cycles among them.
    """
    gc.set_threshold(200_000, 20, 100)


def _quieten_tensorflow() -> None:
    """Silences TensorFlow's messages about itself, unless the user asks for them."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") >= "2":  # not for information
        sys.meta_path.insert(0, quiet_import.Finder())


def _open_missing_streams() -> None:
    """Opens /dev/null for each standard stream that the process was started without.

    Otherwise the first file that is opened gets the stream's number, and libraries print into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def expand_home(arguments: Iterable[str]) -> list[str]:
    """Expands `~` to the home folder in arguments. Shells do not expand it in `--flag=~/folder`."""
    expanded = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if not (equals and flag.startswith("-")):
            flag, equals, value = "", "", argument
        expanded.append(flag + equals + os.path.expanduser(value))
    return expanded


class Parser(argparse.ArgumentParser):
    """Parser that reports a wrong flag in one line, with exit code 1 as for every other error.

    Args:
        module: Name of the program's module, such as `xkd_jax.features`.
        text: What --help prints besides the flags: the module's docstring.
    """

    def __init__(self, module: str, text: str) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses as argparse does, and refuses empty values, which as paths would mean here."""
        args = sys.argv[1:] if args is None else list(args)
        for flag, following in itertools.pairwise([*args, None]):
            name, equals, value = flag.partition("=")
            if name in self._option_string_actions and not value and (equals or following == ""):
                self.error(f"{name} is empty; allowed: a value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the program; argparse calls it with what is wrong."""
        sys.exit(f"error: {' '.join(message.split())}; see --help")


def count(text: str) -> int:
    """Converts the value of a flag to a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}; allowed: 1 or more")
    return int(text)


def whole(text: str) -> int:
    """Converts the value of a flag to a whole number, 0 or more, such as a seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}; allowed: whole numbers, 0 or more")
    return int(text)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turns one of `USER_ERRORS` into one line and exit code 1.

    If the environment variable XKD_TRACEBACK is set, errors keep their traceback.
    """
    try:
        yield
    except USER_ERRORS as error:
        if os.environ.get("XKD_TRACEBACK"):
            raise
        sys.exit(f"error: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """Formats an error as one line: its message, or its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
