"""What every program of both packages does before anything else."""

import os
import sys
from collections.abc import Iterable

from input_pipeline import signals, terminal


def start() -> None:
    """Has signals end the program, makes its outputs safe, and `~` in its flags the home folder.

    Only for a process that is a program, before what it takes long to import: it changes what the
    process does at signals, `sys.stdout`, `sys.stderr` and `sys.argv`.
    """
    _open_missing_streams()
    signals.install()
    guard_outputs()
    sys.argv[1:] = expand_home(sys.argv[1:])


def guard_outputs() -> None:
    """Makes all that the process prints safe for terminals."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # of a process that has been started without
            terminal.guard(stream)


def _open_missing_streams() -> None:
    """Opens to nowhere what of the standard streams the process has been started without.

    Otherwise the first file that is opened is taken for one of them, and libraries print into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def expand_home(arguments: Iterable[str]) -> list[str]:
    """Arguments with `~` as the home folder, which shells do not expand in `--flag=~/folder`."""
    expanded = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if not (equals and flag.startswith("-")):
            flag, equals, value = "", "", argument
        expanded.append(flag + equals + os.path.expanduser(value))
    return expanded
