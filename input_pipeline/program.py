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
    signals.install()
    guard_outputs()
    sys.argv[1:] = expand_home(sys.argv[1:])


def guard_outputs() -> None:
    """Makes all that the process prints safe for terminals."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # of a process that has been started without
            terminal.guard(stream)


def expand_home(arguments: Iterable[str]) -> list[str]:
    """Arguments with `~` as the home folder, which shells do not expand in `--flag=~/folder`."""
    expanded = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if not (equals and flag.startswith("-")):
            flag, equals, value = "", "", argument
        expanded.append(flag + equals + os.path.expanduser(value))
    return expanded
