"""Tables of an ablation's results: mean and spread over seeds, beside the paper's numbers.

In `results.json`, our numbers are shares of 1 and the paper's are in percent, as it gives them. All
other output is in percent.
"""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from input_pipeline.files import atomic
from xkd_jax.ablation import plan
from xkd_jax.ablation.selection import Selected
from xkd_jax.downstream import figures, metrics
from xkd_jax.downstream.results import FILE, aligned, percent
from xkd_jax.paper import rows
from xkd_jax.paper import tables as paper

MARKDOWN, PICTURE = "table.md", "table.png"
MISSING = "-"
UNTRAINED = "untrained networks"
_WEIGHTS = ("pretrained", "untrained")


def collect(
    base: plan.Base, selected: Sequence[Selected], jobs: Sequence[plan.Job]
) -> dict[str, Any]:
    """Collects the results of the finished evaluations.

    Args:
        base: Base config.
        selected: Rows by study.
        jobs: Pretrainings of these rows.

    Returns:
        The content of `results.json`: `base` and `flags`; `metric` and `chance`, None if no
        evaluation is finished; `measures`, such as "video svm"; and `studies`, each with `study`,
        `title`, `where` and `rows`. Each row has `row`, `about`, `network`, `changes`, `seeds` (by
        seed, the score of each measure), `scores` (mean and spread of each measure), `untrained`
        (the score of each measure with initial weights, the same for all seeds) and `paper` (by
        column, in percent).

    Raises:
        ValueError: The results of an evaluation are damaged.
    """
    evaluations = {
        (row, job.seed): _evaluation(job, rows.ROWS[row].network)
        for job in jobs
        for row in job.rows
    }
    any_evaluation = next(filter(None, evaluations.values()), None)
    return {
        "base": base.path,
        "flags": list(base.flags),
        "metric": any_evaluation and any_evaluation["metric"],
        "chance": any_evaluation and any_evaluation["chance"],
        "measures": [_measure(row) for row in any_evaluation["rows"]] if any_evaluation else [],
        "studies": [
            {
                "study": study,
                "title": rows.STUDIES[study].title,
                "where": rows.STUDIES[study].where,
                "rows": [
                    _row(
                        base,
                        study,
                        name,
                        {seed: e for (row, seed), e in evaluations.items() if row == name},
                    )
                    for name in names
                ],
            }
            for study, names in selected
        ],
    }


def _evaluation(job: plan.Job, network: str) -> dict[str, Any] | None:
    """Reads the results of an evaluation, and checks what the table needs of them.

    Raises:
        ValueError: They are damaged.
    """
    content = plan.evaluated(job, network)
    try:
        if content:
            if content["metric"] not in metrics.TITLES:
                raise ValueError
            numbers = [content["chance"]]
            for row in content["rows"]:
                _measure(row)
                numbers += [_score(row, weights, content) for weights in _WEIGHTS]
            if not all(map(math.isfinite, numbers)):
                raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        path = job.evaluation(network) / FILE
        raise ValueError(f"{path} is damaged; remove it to evaluate again") from None
    return content


def _score(row: Mapping[str, Any], weights: str, evaluation: Mapping[str, Any]) -> float:
    return row[weights]["scores"][evaluation["metric"]]["mean"]


def _measure(row: Mapping[str, Any]) -> str:
    return f"{row['features']} {row['classifier']}"


def _row(
    base: plan.Base, study: str, name: str, evaluations: Mapping[int, dict[str, Any] | None]
) -> dict[str, Any]:
    row = rows.ROWS[name]
    scores = {
        weights: {
            str(seed): {_measure(r): _score(r, weights, evaluation) for r in evaluation["rows"]}
            for seed, evaluation in evaluations.items()
            if evaluation
        }
        for weights in _WEIGHTS
    }
    return {
        "row": name,
        "about": row.about,
        "network": row.network,
        "changes": rows.changed(base.config, row),
        "seeds": scores["pretrained"],
        "scores": over_seeds(scores["pretrained"]),
        "untrained": next(iter(scores["untrained"].values()), {}),
        "paper": {
            paper.title(benchmark): percents
            for benchmark, percents in rows.numbers(rows.STUDIES[study], name).items()
        },
    }


def over_seeds(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Returns the mean and spread of each measure, from the scores of each seed."""
    values: dict[str, list[float]] = {}
    for scores_of_seed in scores.values():
        for measure, score in scores_of_seed.items():
            values.setdefault(measure, []).append(score)
    return {
        measure: {
            "mean": float(np.mean(per_seed)),
            "spread": float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
        }
        for measure, per_seed in values.items()
    }


def write(output: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes `results.json`, `table.md` and `table.png`, each atomically.

    Args:
        output: Folder; created if missing.
        content: What `collect` returned.
    """
    output.mkdir(parents=True, exist_ok=True)
    atomic.write_text(output / FILE, json.dumps(content, indent=2, allow_nan=False) + "\n")
    atomic.write_text(output / MARKDOWN, markdown(content))
    figures.save(output / PICTURE, picture(content))


def text(content: Mapping[str, Any]) -> str:
    """Formats the tables as text for a terminal."""
    return "\n\n".join("\n".join(_terminal(content, study)) for study in content["studies"])


def _terminal(content: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    """Formats our numbers above the paper's; side by side they would be too wide."""
    yield f"{study['title']} ({study['study']})"
    for title, lines in ((_ours(content), _our_cells), (_theirs(study), _paper_cells)):
        yield title
        yield from aligned([(row, values, "") for row, *values in lines(content, study)])


def markdown(content: Mapping[str, Any]) -> str:
    """Formats the tables as Markdown, with the paper's numbers to the right of ours."""
    return "\n".join(line for study in content["studies"] for line in _markdown(content, study))


def _markdown(content: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    ours, theirs = list(_our_cells(content, study)), list(_paper_cells(content, study))
    abouts = ["what", *(row["about"] for row in study["rows"]), ""]
    theirs.append([UNTRAINED, *[MISSING] * len(_paper_columns(study))])
    yield f"**{study['title']}.** {_ours(content)}. {_theirs(study)}."
    yield ""
    for place, (our, their, about) in enumerate(zip(ours, theirs, abouts, strict=False)):
        cells = [our[0], about, *our[1:], *their[1:]]
        if not place:
            cells = [*cells[: len(our) + 1], *(f"paper: {column}" for column in their[1:])]
        yield f"| {' | '.join(cells)} |"
        if not place:
            yield f"| --- | --- |{' ---: |' * (len(cells) - 2)}"
    yield ""


def _ours(content: Mapping[str, Any]) -> str:
    metric = "" if content["metric"] is None else f"{metrics.TITLES[content['metric']]} "
    chance = "" if content["chance"] is None else f", chance {percent(content['chance'])}"
    return (
        f"Ours: {metric}on the data of {content['base']}, in %, mean ± spread of the seeds{chance}"
    )


def _theirs(study: Mapping[str, Any]) -> str:
    return f"The paper's, by another protocol, in %: {study['where']}"


def _our_cells(content: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yields rows of cells: the head, each row, and untrained networks if they are known."""
    yield ["row", "seeds", *content["measures"]]
    for row in study["rows"]:
        scores = [row["scores"].get(measure) for measure in content["measures"]]
        cells = [percent(**score) if score else MISSING for score in scores]
        yield [row["row"], str(len(row["seeds"])), *cells]
    first = next((row for row in study["rows"] if row["untrained"]), None)
    if first:
        yield [UNTRAINED, "", *(percent(first["untrained"][m]) for m in content["measures"])]


def _paper_cells(content: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yields rows of cells with the paper's numbers: the head, then each row."""
    columns = _paper_columns(study)
    yield ["row", *columns]
    for row in study["rows"]:
        yield [
            row["row"],
            *(f"{row['paper'][c]:.1f}" if c in row["paper"] else MISSING for c in columns),
        ]


def _paper_columns(study: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(column for row in study["rows"] for column in row["paper"]))


def picture(content: Mapping[str, Any]) -> np.ndarray:
    """Draws each study as a line of panels, one for each of our measures and the paper's columns.

    Args:
        content: What `collect` returned.

    Returns:
        (H, W, 3) uint8.
    """
    studies = content["studies"]
    panels = [[*content["measures"], *_paper_columns(study)] for study in studies]
    heights = [0.24 * len(study["rows"]) + 1.1 for study in studies]
    widest = max(1, *map(len, panels))
    left = 0.3 + 0.085 * max(len(row["row"]) for study in studies for row in study["rows"])
    width, height = left + 1.6 * widest + 0.2, sum(heights) + 0.3
    figure = Figure((width, height), figures.DPI)
    top = height
    for study, names, space in zip(studies, panels, heights, strict=True):
        figure.text(
            0.1 / width,
            (top - 0.25) / height,
            f"{study['title']}. {_ours(content)} (blue). {_theirs(study)} (orange).",
            **figures.FONT,
        )
        for place, name in enumerate(names):
            box = (left + 1.6 * place, top - space + 0.3, 1.45, space - 0.85)
            axes = figure.add_axes([v / w for v, w in zip(box, (width, height) * 2, strict=True)])
            is_ours = place < len(content["measures"])
            _panel(axes, study["rows"], name, is_ours)
            axes.set_title(name if is_ours else f"paper: {name}", loc="left", **figures.FONT)
            if place:
                axes.set_yticklabels([])
        top -= space
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _panel(axes: Axes, study_rows: Sequence[Mapping[str, Any]], name: str, is_ours: bool) -> None:
    color = figures.COLORS[0 if is_ours else 1]
    for y, row in enumerate(study_rows):
        if is_ours:
            score = row["scores"].get(name)
            mean = score and 100 * score["mean"]
            spread = 100 * (score["spread"] or 0.0) if score else 0.0
        else:
            mean, spread = row["paper"].get(name), 0.0
        if mean is None:
            continue
        axes.errorbar(mean, y, xerr=spread, fmt="o", color=color, markersize=4, capsize=2)
        axes.annotate(
            f"{mean:.1f}", (mean, y), (0, 3), textcoords="offset points", ha="center", size=6,
            color=figures.INK,
        )  # fmt: skip
    axes.set_yticks(range(len(study_rows)), [row["row"] for row in study_rows])
    axes.set_ylim(len(study_rows) - 0.5, -0.7)
    axes.margins(x=0.2)
    if not axes.containers:  # no point in the panel
        axes.set_xticks([])
    axes.grid(axis="y", color=figures.GRAY)
    axes.tick_params(labelsize=7, colors=figures.INK, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
