"""What every program of both packages does first."""

import os
import sys
from collections.abc import Iterable

from input_pipeline import signals, terminal


def start() -> None:
    """Installs signal handlers, makes output safe and expands `~` in flags.

    Call it only in a process that is a program, before the slow imports: it changes how the process
    handles signals, and `sys.stdout`, `sys.stderr` and `sys.argv`.
    """
    _open_missing_streams()
    signals.install()
    guard_outputs()
    sys.argv[1:] = expand_home(sys.argv[1:])


def guard_outputs() -> None:
    """Makes everything that the process prints safe for terminals."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None if the process was started without it
            terminal.guard(stream)


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
