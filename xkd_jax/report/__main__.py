"""One page about a run: whether it learns, what it sees, restores and attends to.

    python -m xkd_jax.report --workdir=RUN [--input=FILES]

RUN is the workdir of a run (its newest checkpoint is looked at, while it is running too), one of
its checkpoints, or a folder that xkd_jax.interop.export or xkd_jax.interop.import_release wrote.
What a folder does not hold cannot be shown, and the page says so: encoders alone have neither
reconstructions nor retrieval.

The clips are of the run's own data, those it was not trained on where the data say which; with
--input, of media files, or of all those in folders, whose names are taken for classes.

In RUN/report:

    report.html    everything in one file that needs no network, with sounds and animations
    *.png          the same pictures
    report.json    the numbers

Exit code 0 if the page is written, whatever its verdict; 1 for unusable arguments, in one line.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline import program

    program.start()

import argparse
import json
import math
import pathlib
import time

from input_pipeline.terminal import printable
from xkd_jax import command_line

_CLIPS, _SHOWN = 128, 3
_PAGE = "report.html"


def report(
    workdir: pathlib.Path,
    inputs: list[pathlib.Path],
    output: pathlib.Path,
    count: int = _CLIPS,
    shown: int = _SHOWN,
) -> str:
    """Makes the page and what goes with it.

    Args:
        workdir: See the module.
        inputs: Media files and folders of them; none for the data of the run.
        output: Folder to write to, made if missing.
        count: Clips to look at, at most.
        shown: Clips to show.

    Returns:
        The verdict in one sentence.

    Raises:
        FileNotFoundError: There is nothing at `workdir` or at one of `inputs`.
        ValueError: `workdir` holds neither weights nor a log, or no input is usable.
    """
    from xkd_jax.report import health, page
    from xkd_jax.report import survey as surveys
    from xkd_jax.report.sections import (
        attention,
        reconstruction,
        representations,
        retrieval,
        training,
        verdict,
    )

    if not workdir.is_dir():
        raise FileNotFoundError(f"--workdir={workdir}: no such folder")
    command_line.check_output(output, _PAGE)
    missing: list[str] = []
    log = _log(workdir, missing)
    networks = _networks(workdir, log, missing)
    progress = _Progress()
    clips = None if networks is None else _clips(networks, inputs, count, progress, missing)
    survey = None
    if networks is not None and clips is not None:
        survey = surveys.take(networks, clips, min(shown, len(clips)), progress.advance)
        missing += _lacking(networks, survey)
    measured = None if survey is None else surveys.measured(survey, networks)
    config = None if networks is None or networks.config is None else networks.config
    found = health.judge(log, config, networks and networks.outputs, measured)

    parts = [
        verdict.build(
            found,
            verdict.facts_of(networks, log, survey, printable(str(workdir))),
            missing,
            () if survey is None else survey.clips.left_out,
        )
    ]
    if log is not None:
        parts.append(training.build(log, found))
    if survey is not None:
        if survey.restored:
            parts.append(reconstruction.build(networks, survey, progress.advance))
        parts.append(attention.build(networks, survey))
        parts.append(representations.build(networks, survey))
        if survey.retrievals:
            parts.append(retrieval.build(survey))
    progress.close()
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    name = printable(workdir.absolute().name)
    text = page.render(
        f"What {name} has learned",
        f"XKD: masked autoencoders of picture and sound that teach one another. {made}.",
        parts,
        "Made by python -m xkd_jax.report. The same pictures are PNG files beside this page, the "
        "numbers are in report.json.",
    )
    _write(output, text, parts)
    return found.headline


def _log(workdir: pathlib.Path, missing: list[str]):
    """The log of the run that `workdir` is, or that it is a checkpoint of."""
    from xkd_jax.report import history

    folder = workdir.absolute()
    if folder.parent.name == "checkpoints" and not (folder / "metrics.jsonl").exists():
        folder = folder.parent.parent
    log = history.read(folder)
    if log is None or not len(log):
        missing.append("Training curves: there is no metrics.jsonl with a line, as runs write it.")
        return None
    return log


def _networks(workdir: pathlib.Path, log, missing: list[str]):
    """The networks; None where there is only a log."""
    from xkd_jax.checkpoint import DamagedError
    from xkd_jax.report import networks

    try:
        return networks.load(workdir)
    except DamagedError as error:
        if log is None:
            raise
        missing.append(f"What the networks do: {command_line.one_line(error)}.")
        return None


def _clips(networks, inputs: list[pathlib.Path], count: int, progress, missing: list[str]):
    """The clips to look at; None where there are none to be had."""
    from xkd_jax.report import clips

    if inputs:
        views = {m: networks.view(m) for m in networks.modalities}
        found = clips.of_files(inputs, views, count, lambda n: progress.advance("reading files", n))
        for name, reason in found.left_out:
            print(f"left out: {name}: {reason}", flush=True)
        return found
    if networks.config is None:
        missing.append(
            "What the networks do: encoders alone do not say what data they are of; name files "
            "with --input."
        )
        return None
    try:
        return clips.of_run(networks.config, count)
    except (ValueError, OSError) as error:
        missing.append(
            "What the networks do: the run's data cannot be read "
            f"({command_line.one_line(error)}); "
            "name some files with --input."
        )
        return None


def _lacking(networks, survey) -> list[str]:
    """What the page does not show, and why."""
    lines = []
    absent = [m for m in ("video", "audio") if m not in networks.modalities]
    lines += [f"Anything of {m}: there is no encoder of it." for m in absent]
    held = [m for m in networks.modalities if m not in survey.restored]
    if held:
        lines.append(
            f"Reconstructions of {' and '.join(held)}: the folder holds encoders and no decoders "
            "(xkd_jax.interop.export --everything keeps them)."
        )
    if not survey.outputs:
        lines.append(
            "Outputs, their collapse and retrieval: the folder holds no projectors, which make "
            "picture and sound comparable."
        )
    if not survey.untrained:
        lines.append("A comparison with untrained networks: the folder does not say the config.")
    if survey.clips.labels is None:
        lines.append("Classes: the clips have no labels, or several each.")
    return lines


class _Progress:
    """One progress bar after the other, for each thing that is being done."""

    def __init__(self) -> None:
        self._what = ""
        self._bar = None

    def advance(self, what: str, count: int) -> None:
        """Counts clips done with something."""
        import tqdm

        if what != self._what:
            self.close()
            self._what, self._bar = what, tqdm.tqdm(desc=what, unit="clip", leave=False)
        self._bar.update(count)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _write(output: pathlib.Path, text: str, parts) -> None:
    """Writes pictures and numbers, then the page; each whole or not at all."""
    from xkd_jax.downstream import figures
    from xkd_jax.telemetry import write_whole

    output.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, pixels in part.pictures.items():
            figures.save(output / f"{name}.png", pixels)
    numbers = {part.name: part.numbers for part in parts}
    write_whole(output / "report.json", json.dumps(_finite(numbers), indent=2).encode())
    # Names of folders may be anything but UTF-8.
    write_whole(output / _PAGE, text.encode(errors="backslashreplace"))


def _finite(values):
    """Plain values for JSON, which has no word for what is not a finite number."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    if isinstance(values, str | int) or values is None:
        return values
    return float(values) if math.isfinite(values) else None


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, and says what is wrong in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m xkd_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workdir", required=True, type=pathlib.Path, metavar="RUN", help="what to look at")
    add(
        "--input",
        action="extend",
        nargs="+",
        default=[],
        type=pathlib.Path,
        metavar="FILES",
        help="media files, or folders of them, in place of the run's data",
    )
    add("--output", type=pathlib.Path, metavar="DIR", help="folder to write (RUN/report)")
    add("--clips", type=_count, default=_CLIPS, metavar="N", help=f"to look at ({_CLIPS})")
    add("--shown", type=_count, default=_SHOWN, metavar="N", help=f"of them, to show ({_SHOWN})")
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    command_line.keep_compiled_programs()
    output = flags.output or flags.workdir / "report"
    with command_line.errors_in_one_line():
        headline = report(flags.workdir, flags.input, output, flags.clips, flags.shown)
    print(f"{headline}\n{output / _PAGE}")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed: 1 or more")
    return int(text)


if __name__ == "__main__":
    main()
