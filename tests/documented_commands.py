"""Commands in the documentation, and a check of each that runs nothing."""

import contextlib
import io
import pathlib
import re
import shlex
from collections.abc import Mapping
from unittest import mock

from input_pipeline.prepare import __main__ as prepare
from tests.input_pipeline import prepared_files
from tests.saved_runs import save_run
from xkd_jax import ablate, inpaint, main
from xkd_jax.interop import import_release
from xkd_jax.report import __main__ as report

DOCS = pathlib.Path(__file__).parent.parent / "docs"
# Names that stand for prepared data in commands, and the data set of each.
DATA = {
    "K400": "kinetics400",
    "KS": "kinetics_sound",
    "AS": "audioset",
    "UCF": "ucf101",
    "HMDB": "hmdb51",
    "ESC": "esc50",
    "FSD": "fsd50k",
}


def of_page(text: str) -> list[str]:
    """Returns the commands in backticks or in code blocks, each on one line."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    lines = [line.partition("  #")[0] for line in blocks.splitlines()]
    return [
        command.strip()
        for command in [*re.findall(r"`(python -m [^`]+)`", text), *lines]
        if command.startswith("python -m ")
    ]


def places(folder: pathlib.Path) -> dict[str, str]:
    """Makes tiny data and a run, and returns their paths by the names that commands have."""
    found = {}
    for name, dataset in DATA.items():
        record = prepared_files.clock_record("a", 1.0)
        prepared_files.write_prepared(folder / name, {"train": [record]}, dataset=dataset, shards=1)
        found[name] = found[f"{name}_256"] = str(folder / name)
    save_run(folder / "RUN")
    return found | {"RUN": str(folder / "RUN")}


def check(command: str, names: Mapping[str, str], output: pathlib.Path) -> str:
    """Checks a command without running it: by --dry_run, or by the program's own parser.

    Args:
        command: The command.
        names: Paths by the names that stand for them.
        output: Folder that does not exist.

    Returns:
        What the program has printed.

    Raises:
        AssertionError: The program refuses the command.
    """
    pattern = rf"(?<![\w./-])({'|'.join(sorted(names, key=len, reverse=True))})(?![\w.])"
    flags = [re.sub(pattern, lambda m: names[m[0]], flag) for flag in shlex.split(command)[2:]]
    module, *flags = flags
    with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = _dry_run(module, flags, output)
        except SystemExit as error:
            code = error.code
        assert code == 0, f"{command}: {code} {said.getvalue()}"
        assert not output.exists()
        return said.getvalue()


class _Parsed(Exception):
    """The program has accepted its flags and begins its work."""


# The function with which each program begins its work.
_WORK = {
    "xkd_jax.report": (report, "report"),
    "xkd_jax.inpaint": (inpaint, "inpaint"),
    "xkd_jax.interop.import_release": (import_release, "read_release"),
    "input_pipeline.prepare": (prepare, "prepare"),
}


def _dry_run(module: str, flags: list[str], output: pathlib.Path) -> int:
    """Returns the exit code of a program that runs nothing."""
    if module == "xkd_jax.main":
        return main.call(*flags, "--dry_run")
    if module == "xkd_jax.ablate":
        return ablate.main([*flags, "--dry_run", f"--output={output}"])
    program, work = _WORK[module]
    with mock.patch.object(program, work, side_effect=_Parsed):
        try:
            program.main(flags)
        except _Parsed:
            return 0
    return 1
