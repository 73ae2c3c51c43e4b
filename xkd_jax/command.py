"""The command `xkd`: every program of this package under one short name."""

import importlib.resources
import itertools
import pathlib
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_CONFIGS = pathlib.Path(str(importlib.resources.files("configs")))


class Program(NamedTuple):
    """A program that `xkd NAME` runs.

    Attributes:
        module: What `python -m` runs.
        summary: What it does, for --help.
        short: Flags that `xkd` adds, and the program's flag that each stands for.
        config: Config that `xkd` takes if none is given; or None.
    """

    module: str
    summary: str
    short: Mapping[str, str] = {}
    config: str | None = None


_RUN = {"--data": "--config.data.path", "--out": "--workdir"}
PROGRAMS = {
    "pretrain": Program(
        "xkd_jax.main", "pretrain on a folder of videos, or go on with it", _RUN, "folder"
    ),
    "evaluate": Program(
        "xkd_jax.main",
        "evaluate a run or an export, by --config=NAME of configs/eval",
        _RUN | {"--checkpoint": "--config.checkpoint"},
    ),
    "report": Program("xkd_jax.report", "look inside a run, in one HTML page"),
    "features": Program("xkd_jax.features", "write the features of media files"),
    "inpaint": Program("xkd_jax.inpaint", "mask a recording and restore it, as a video"),
    "ablate": Program("xkd_jax.ablate", "run rows of the paper's tables"),
    "prepare": Program("input_pipeline.prepare", "make shards of a published data set"),
    "inspect": Program("input_pipeline.inspect", "show and verify prepared data"),
    "export": Program("xkd_jax.interop.export", "write a run's encoders, for others as well"),
    "import": Program("xkd_jax.interop.import_release", "read the authors' weights"),
    "benchmark": Program("xkd_jax.benchmark", "measure the speed of the training step"),
}


def command_line(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Translates the arguments of `xkd` into those of a program.

    Args:
        argv: Name of the program, then its flags, with the short ones that `Program` lists and
            --config=NAME for a shipped config.

    Returns:
        The module that `python -m` runs, and its arguments.

    Raises:
        ValueError: There is no such program.
    """
    name, *given = argv
    if name not in PROGRAMS:
        raise ValueError(f"xkd {name}: no such command; allowed: {', '.join(PROGRAMS)}")
    program = PROGRAMS[name]
    flags = [_long(argument, program.short) for argument in given]
    asks_help = any(flag in ("--help", "-h", "--helpfull") for flag in flags)
    if program.config and not asks_help and not _gives(flags, "--config"):
        flags.insert(0, f"--config={program.config}")
    return program.module, _with_config_files(flags)


def _long(argument: str, short: Mapping[str, str]) -> str:
    flag, equals, value = argument.partition("=")
    return f"{short.get(flag, flag)}{equals}{value}"


def _gives(flags: Sequence[str], name: str) -> bool:
    return any(flag.partition("=")[0] == name for flag in flags)


def _with_config_files(flags: Sequence[str]) -> list[str]:
    """Replaces the name of a shipped config by its file, and puts it first, as absl requires it."""
    configs, others, remaining = [], [], iter(flags)
    for flag in remaining:
        name, equals, value = flag.partition("=")
        if name not in ("--config", "--base"):
            others.append(flag)
        elif equals:
            configs.append(f"{name}={config_file(value)}")
        else:
            configs += [name, *(config_file(value) for value in itertools.islice(remaining, 1))]
    return configs + others


def config_file(value: str) -> str:
    """Returns the file of a shipped config, such as `k400` or `svm_ucf101`; or the value itself."""
    stem, colon, row = value.partition(":")
    if stem.isidentifier():
        for folder in (_CONFIGS, _CONFIGS / "eval"):
            file = folder / f"{stem}.py"
            if file.exists():
                return f"{file}{colon}{row}"
    return value


def help_text() -> str:
    """Returns what `xkd --help` prints."""
    lines = ["Self-supervised learning from video with sound.", ""]
    lines += ["  xkd pretrain --data=VIDEOS --out=RUN", "  xkd report --workdir=RUN", ""]
    lines += ["Commands, each with --help of its own:"]
    for name, program in PROGRAMS.items():
        lines.append(f"  {name:<10} {program.summary} (python -m {program.module})")
        lines += [f"  {'':<10}   {short} is {long}" for short, long in program.short.items()]
        if program.config:
            lines.append(f"  {'':<10}   --config is {program.config} unless given")
    lines += ["", "--config=NAME is a shipped config: k400 is configs/k400.py, svm_ucf101 is"]
    return "\n".join([*lines, "configs/eval/svm_ucf101.py. Any other value is a file."])


def run() -> None:
    """Runs the command line."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(help_text())
        return
    try:
        module, arguments = command_line(argv)
    except ValueError as error:
        sys.exit(f"error: {error}")
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        sys.exit(in_short(end.code, PROGRAMS[argv[0]].short))


def in_short(message: str, short: Mapping[str, str]) -> str:
    """Replaces a program's flags and fields in a message by the short flags that stand for them.

    Args:
        message: Message of the program.
        short: `Program.short`.
    """
    for flag, long in short.items():
        name = re.escape(long.removeprefix("--"))
        dashes = "(--)?" if "." in long else "--"  # a message names a field of a config without
        message = re.sub(rf"(?<![\w./-]){dashes}{name}(?![\w.])", flag, message)
    return message
