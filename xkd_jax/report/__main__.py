"""A report on a run: one HTML page that shows whether it learns and what its networks do.

    python -m xkd_jax.report --workdir=RUN [--input=FILES]

RUN is the workdir of a run, one of its checkpoints, or a folder that xkd_jax.interop.export or
xkd_jax.interop.import_release wrote. For a workdir, the report uses the newest checkpoint; the run
may still be going. The page says what it cannot show because the folder does not hold it: encoders
alone give neither reconstructions nor retrieval.

The clips come from the run's own data. If the data have a held-out part, only that part is used.
With --input, they come from media files or from folders of them; the names of the folders are then
the classes.

The report writes to RUN/report:

    report.html    the page: one file that works offline, with sounds and animations
    *.png          the same pictures
    report.json    the numbers

The exit code is 0 if the page is written, whatever its verdict, and 1 if an argument cannot be
used; then one line says why.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import json
import math
import pathlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from input_pipeline.files import atomic
from input_pipeline.programs import program, progress
from input_pipeline.programs.terminal import printable
from xkd_jax.run import command_line

if TYPE_CHECKING:
    from xkd_jax.encoders.networks import Networks
    from xkd_jax.report.clips import Clips
    from xkd_jax.report.comparison import Comparison
    from xkd_jax.report.history import History
    from xkd_jax.report.page import Section
    from xkd_jax.report.survey import Survey

_CLIPS, _SHOWN = 128, 3
_PAGE = "report.html"


def report(
    workdir: pathlib.Path,
    inputs: list[pathlib.Path],
    output: pathlib.Path,
    count: int = _CLIPS,
    shown: int = _SHOWN,
) -> str:
    """Writes the page, its pictures and its numbers.

    Args:
        workdir: Workdir of a run, a checkpoint, or an exported or imported folder of weights.
        inputs: Media files and folders of them; empty to use the data of the run.
        output: Folder to write to; created if missing.
        count: Largest number of clips to measure on.
        shown: Number of clips to show.

    Returns:
        The verdict in one sentence.

    Raises:
        FileNotFoundError: `workdir` or one of `inputs` does not exist.
        ValueError: `workdir` holds neither weights nor a log, or no input is usable.
    """
    from xkd_jax.report import page
    from xkd_jax.report import survey as surveys
    from xkd_jax.report.health.verdict import judge
    from xkd_jax.report.sections import (
        attention,
        evaluation,
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
    comparison = None if networks is None else _comparison(workdir, networks, missing)
    progress = _Progress()
    clips = None if networks is None else _clips(networks, inputs, count, progress, missing)
    survey = None
    if networks is not None and clips is not None:
        survey = surveys.take(networks, clips, min(shown, len(clips)), progress.advance)
        missing += _lacking(networks, survey)
    measured = None if survey is None else surveys.measured(survey, networks)
    config = None if networks is None or networks.config is None else networks.config
    judgment = judge(
        log, config, networks and networks.outputs, measured, comparison and evaluation.TITLE
    )

    parts = [
        verdict.build(
            judgment,
            verdict.facts_of(networks, log, survey, printable(str(workdir))),
            missing,
            () if survey is None else survey.clips.left_out,
        )
    ]
    if comparison is not None:
        parts.append(evaluation.build(comparison))
    if log is not None:
        parts.append(training.build(log, judgment))
    if survey is not None:
        if survey.restored:
            parts.append(reconstruction.build(networks, survey, progress.advance))
        parts.append(attention.build(networks, survey))
        parts.append(representations.build(networks, survey))
        if survey.retrievals:
            parts.append(retrieval.build(survey))
    progress.close()
    for line in missing:
        print(f"not shown: {line}", flush=True)
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    name = printable(workdir.absolute().name)
    text = page.render(
        f"{name}: what its networks have learned",
        f"XKD: masked autoencoders for video and audio that teach each other. {date}.",
        parts,
        "Made by python -m xkd_jax.report. The same pictures are PNG files beside this page; the "
        "numbers are in report.json.",
    )
    _write(output, text, parts)
    return judgment.headline


def _folder(workdir: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the run whose workdir or checkpoint `workdir` is."""
    folder = workdir.absolute()
    if folder.parent.name == "checkpoints" and not (folder / "metrics.jsonl").exists():
        return folder.parent.parent
    return workdir


def _log(workdir: pathlib.Path, missing: list[str]) -> "History | None":
    """Reads the log of the run; returns None if the run has not logged anything."""
    from xkd_jax.report import history

    log = history.read(_folder(workdir))
    if log is None or not len(log):
        missing.append("Training curves: the folder has no metrics.jsonl, or it has no lines yet.")
        return None
    return log


def _networks(
    workdir: pathlib.Path, log: "History | None", missing: list[str]
) -> "Networks | None":
    """Loads the networks; returns None if the folder holds only a log."""
    from xkd_jax.encoders import networks
    from xkd_jax.run.saved_checkpoint import DamagedError

    try:
        return networks.load(workdir)
    except DamagedError as error:
        if log is None:
            raise
        missing.append(f"What the networks do: {program.one_line(error).rstrip('.')}.")
        return None


def _comparison(
    workdir: pathlib.Path, networks: "Networks", missing: list[str]
) -> "Comparison | None":
    """Reads the table of the task `compare`; returns None without a table of these weights."""
    from xkd_jax.report import comparison

    try:
        return comparison.read(_folder(workdir), networks.description["provenance"])
    except FileNotFoundError:
        state = "is not there"
    except ValueError as error:
        state = str(error)
    remedy = comparison.command(printable(str(workdir)), printable(str(_folder(workdir))))
    missing.append(
        f"Evaluation: {comparison.FILE} {state}. To make it from labeled VIDEOS: {remedy}"
    )
    return None


def _clips(
    networks: "Networks",
    inputs: list[pathlib.Path],
    count: int,
    progress: "_Progress",
    missing: list[str],
) -> "Clips | None":
    """Reads the clips to measure on; returns None if there are none."""
    from xkd_jax.report import clips

    if inputs:
        views = {m: networks.view(m) for m in networks.modalities}
        read = clips.of_files(inputs, views, count, lambda n: progress.advance("reading files", n))
        for name, reason in read.left_out:
            print(f"left out: {name}: {reason}", flush=True)
        return read
    if networks.config is None:
        missing.append(
            "What the networks do: encoders alone do not say which data they were trained on; "
            "name files with --input."
        )
        return None
    try:
        return clips.of_run(networks.config, count)
    except (ValueError, OSError) as error:
        missing.append(
            "What the networks do: the run's data cannot be read "
            f"({program.one_line(error)}); "
            "name some files with --input."
        )
        return None


def _lacking(networks: "Networks", survey: "Survey") -> list[str]:
    """Lists what the page does not show, and why."""
    lines = []
    absent = [m for m in ("video", "audio") if m not in networks.modalities]
    lines += [f"Anything about {m}: the folder holds no {m} encoder." for m in absent]
    seen = survey.clips.views
    lines += [
        f"Anything about {m}: none of the clips has {'a picture' if m == 'video' else 'sound'}."
        for m in networks.modalities
        if m not in seen
    ]
    without_decoder = [m for m in networks.modalities if m in seen and m not in survey.restored]
    if without_decoder:
        lines.append(
            f"Reconstructions of {' and '.join(without_decoder)}: the folder holds encoders but no "
            "decoders (xkd_jax.interop.export --everything keeps them)."
        )
    if len(networks.modalities) > len(seen):
        lines.append(
            "Outputs, their collapse and retrieval: students and teachers of the two modalities "
            "meet only in clips that have both."
        )
    elif not survey.outputs:
        lines.append(
            "Outputs, their collapse and retrieval: the folder holds no projectors, which make "
            "video and audio comparable."
        )
    if not survey.untrained:
        lines.append("A comparison with untrained networks: the folder does not hold the config.")
    if survey.clips.labels is None:
        lines.append("Classes: the clips have no labels, or several labels each.")
    return lines


class _Progress:
    """One progress bar for each task, one task after the other."""

    def __init__(self) -> None:
        self._task = ""
        self._bar = None

    def advance(self, task: str, count: int) -> None:
        """Adds finished clips to the bar of a task, and starts the bar if the task is new."""
        if task != self._task:
            self.close()
            self._task, self._bar = task, progress.bar(task, None, "clip")
        self._bar.update(count)

    def close(self) -> None:
        """Closes the current bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _write(output: pathlib.Path, text: str, parts: "Sequence[Section]") -> None:
    """Writes pictures, numbers and the page, each file atomically."""
    from xkd_jax.downstream import figures

    output.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, pixels in part.pictures.items():
            figures.save(output / f"{name}.png", pixels)
    numbers = {part.name: part.numbers for part in parts}
    atomic.write_text(output / "report.json", json.dumps(_finite(numbers), indent=2))
    atomic.write_text(output / _PAGE, text)


def _finite(values: Any) -> Any:
    """Returns plain values for JSON, with None for numbers that are not finite."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    if isinstance(values, str | int) or values is None:
        return values
    return float(values) if math.isfinite(values) else None


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; reports a wrong argument in one line."""
    parser = program.Parser("xkd_jax.report", __doc__)
    add = parser.add_argument
    add(
        "--workdir",
        required=True,
        type=pathlib.Path,
        metavar="RUN",
        help="run, checkpoint or export",
    )
    add(
        "--input",
        action="extend",
        nargs="+",
        default=[],
        type=pathlib.Path,
        metavar="FILES",
        help="media files, or folders of them, instead of the run's data",
    )
    add("--output", type=pathlib.Path, metavar="DIR", help="folder to write (RUN/report)")
    add("--clips", type=program.count, default=_CLIPS, metavar="N", help=f"clips to use ({_CLIPS})")
    add(
        "--shown", type=program.count, default=_SHOWN, metavar="N", help=f"clips to show ({_SHOWN})"
    )
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    command_line.keep_compiled_programs()
    output = flags.output or flags.workdir / "report"
    with program.errors_in_one_line():
        headline = report(flags.workdir, flags.input, output, flags.clips, flags.shown)
    print(f"{headline}\n{output / _PAGE}")


if __name__ == "__main__":
    main()
