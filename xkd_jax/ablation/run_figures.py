"""Pictures of the paper's figures that show pretrainings themselves: curves and attention maps."""

import functools
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline.caption import as_caption
from input_pipeline.programs.terminal import printable
from xkd_jax.ablation import plan
from xkd_jax.ablation.selection import Selected
from xkd_jax.encoders import networks
from xkd_jax.paper import rows
from xkd_jax.report import attention, clips, history
from xkd_jax.report.charts import Lines
from xkd_jax.report.survey import BATCH_SIZE

_LOSSES = ("Cross-modal distillation", "KL of the teacher from its student")  # of Figure S3
_CURVES = tuple(history.CHARTS)[:5]  # of Figure S4
_CLIPS = 8  # of Figure S7
_CLIPS_ACROSS, _CHARTS_ACROSS = 2, 2

Runs = Mapping[str, plan.Job]  # by row
Read = Callable[[Mapping[str, Any]], clips.Clips]  # clips of a preprocessing


def pictures(
    base: plan.Base,
    selected: Sequence[Selected],
    jobs: Sequence[plan.Job],
    inputs: Sequence[pathlib.Path],
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Draws the figures of the selected studies from runs of the first seed.

    Args:
        base: Base config of the runs.
        selected: Rows by study.
        jobs: Their pretrainings.
        inputs: Media files and folders whose attention maps are shown. If empty, clips of the
            base's data are.

    Yields:
        Name of the file, and (H, W, 3) uint8. None instead if there are no runs to draw yet.

    Raises:
        ValueError, FileNotFoundError: A run, the data or the media files cannot be read.
    """
    first = min((job.seed for job in jobs), default=0)
    for study, names in selected:
        runs = {row: job for row in names for job in jobs if job.seed == first and row in job.rows}
        if draw := _DRAWN.get(study):
            name = f"figure{rows.STUDIES[study].figures[0]}.png"
            yield name, draw(runs, functools.partial(_read_clips, base, inputs))


def _collapse(runs: Runs, _: Read) -> np.ndarray | None:
    """Draws the losses that show a collapse, of all runs in the same chart."""
    logs = _logs(runs)
    charts = []
    for title in _LOSSES:
        metrics = {m for log in logs.values() for m in history.charts(log).get(title, ())}
        for metric in sorted(metrics):
            known = {row: log.known(metric) for row, log in logs.items()}
            steps = np.unique(np.concatenate([k.steps for k in known.values()]))
            series = {row: _at(steps, k) for row, k in known.items()}
            charts.append(Lines(metric, "step", steps.astype(float), series))
    return _tiled([chart.picture() for chart in charts], _CHARTS_ACROSS) if charts else None


def _at(steps: np.ndarray, known: history.Known) -> np.ndarray:
    """Returns the values of a metric at steps, NaN where it has none."""
    values = np.full(len(steps), np.nan)
    values[np.searchsorted(steps, known.steps)] = known.values
    return values


def _curves(runs: Runs, _: Read) -> np.ndarray | None:
    """Draws the losses of a run."""
    charts = [
        Lines(title, "step", log.steps.astype(float), {name: log.metrics[name] for name in names})
        for log in _logs(runs).values()
        for title, names in history.charts(log).items()
        if title in _CURVES
    ]
    return _tiled([chart.picture() for chart in charts], _CHARTS_ACROSS) if charts else None


def _logs(runs: Runs) -> dict[str, history.History]:
    logs = {row: history.read(job.source) for row, job in runs.items()}
    return {row: log for row, log in logs.items() if log}


def _attention(runs: Runs, read: Read) -> np.ndarray | None:
    """Draws the video teachers' attention, a model without refinement above one with it."""
    if set(runs) != {"no_refine", "xkd"} or not all(map(_has_weights, runs.values())):
        return None
    loaded = {row: networks.load(job.source) for row, job in runs.items()}
    shown = read(loaded["xkd"].view("video"))
    views = {"video": shown.views["video"]}
    maps = {
        row: network.encode(views, BATCH_SIZE)["teacher", "video"].attention.mean(axis=1)
        for row, network in loaded.items()
    }
    grid = loaded["xkd"].grid("video")
    montages = []
    for n, name in enumerate(_captions(shown)):
        strips = {name: attention.over_frames(views["video"][n], None, grid)}
        for title, row in (("without refinement", "no_refine"), ("with refinement", "xkd")):
            strips[title] = attention.over_frames(views["video"][n], maps[row][n], grid)
        montages.append(attention.montage(strips))
    return _tiled(montages, _CLIPS_ACROSS)


def _has_weights(job: plan.Job) -> bool:
    return bool(job.weights) or plan.checkpoint.latest_step(job.workdir) is not None


def _read_clips(
    base: plan.Base, inputs: Sequence[pathlib.Path], view: Mapping[str, Any]
) -> clips.Clips:
    """Reads the clips to show: of the files, or else of the base's data.

    Raises:
        ValueError, FileNotFoundError: They cannot be read, or have no picture.
    """
    if inputs:
        shown = clips.of_files(inputs, {"video": view}, _CLIPS)
        for name, reason in shown.left_out:
            print(f"left out: {name}: {reason}", file=sys.stderr)
        return shown
    try:
        shown = clips.of_run(plan.row_config(base, "xkd", 0), _CLIPS)
    except (ValueError, OSError) as error:
        raise ValueError(f"{error}; --input=FILES names clips for the attention maps") from None
    if "video" not in shown.views:
        raise ValueError("the data have no pictures; --input=FILES names clips for attention maps")
    return shown


def _captions(shown: clips.Clips) -> list[str]:
    """Returns a short name of each clip: its class, or its file."""
    if shown.labels is not None:
        names = [shown.class_names[label] for label in shown.labels]
    else:
        names = [pathlib.PurePath(name).stem for name in shown.names]
    return [as_caption(printable(name))[:18] for name in names]


def _tiled(images: Sequence[np.ndarray], across: int) -> np.ndarray:
    """Places pictures (H, W, 3) uint8 in lines, white around the smaller ones."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    across = min(across, len(images))
    down = -(-len(images) // across)
    tiled = np.full((down * height, across * width, 3), 255, np.uint8)
    for n, image in enumerate(images):
        top, left = n // across * height, n % across * width
        tiled[top : top + image.shape[0], left : left + image.shape[1]] = image
    return tiled


_DRAWN = {"attention_maps": _attention, "collapse": _collapse, "training_curves": _curves}
