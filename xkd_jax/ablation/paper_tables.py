"""The paper's tables in its own layout, with our numbers on a line below each of its lines.

Ours are means and spreads over seeds. In `paper.json` they are shares of 1 and the paper's are in
percent, as it gives them; all other output is in percent.
"""

import json
import pathlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from input_pipeline.files import atomic
from input_pipeline.programs.wording import counted
from xkd_jax.ablation import axes, evaluations, plan
from xkd_jax.ablation.selection import Selected
from xkd_jax.ablation.tables import MISSING, over_seeds
from xkd_jax.downstream.results import FILE, aligned, percent
from xkd_jax.paper import rows, tables

RESULTS, MARKDOWN = "paper.json", "paper.md"
_SHOWN = 3  # number of differences and of missing results that the header names
_WIDTH = 90  # of the header's lines on a terminal
_OURS = {"ours": "ours", "held_out": "ours, C held out"}


def collect(
    paper: evaluations.Paper,
    base: plan.Base,
    selected: Sequence[Selected],
    jobs: Sequence[plan.Job],
) -> dict[str, Any]:
    """Collects the results of the finished evaluations.

    Args:
        paper: The evaluations.
        base: Base config.
        selected: Rows by study.
        jobs: Pretrainings of these rows.

    Returns:
        The content of `paper.json`: `base`, `flags`, `seeds` (how many), and `studies`. Each study
        has `study`, `number`, `name`, `figures`, `picture` (its file), `unit` (of the length of a
        pretraining), `title`, `where`, `note`, `methods_across`, `benchmarks`, `differences` (how
        our setting differs from the paper's), `gaps` (benchmarks without data, each with the flag
        that gives them), `left_out` (rows, each with the reason), and `entries` in the paper's
        order. Each entry has
        `label`, `row`, `place` (in a figure, see `axes`), and by benchmark `paper` and `ours`.
        `ours` has the scores of each seed (`by_seed`), and the mean and spread of each score. It is
        None for the methods of others.

    Raises:
        ValueError: The results of an evaluation are damaged.
    """
    return {
        "base": base.path,
        "flags": list(base.flags),
        "seeds": len({job.seed for job in jobs}),
        "studies": [_study(paper, base, study, jobs) for study in selected],
    }


def _study(
    paper: evaluations.Paper, base: plan.Base, selected: Selected, jobs: Sequence[plan.Job]
) -> dict[str, Any]:
    study, names = selected
    table = evaluations.table_of(rows.STUDIES[study])
    left_out = plan.impossible(base, [selected])
    names = [name for name in names if name not in left_out]
    return {
        "study": study,
        "number": table.number,
        "name": rows.STUDIES[study].name,
        "figures": list(rows.STUDIES[study].figures),
        "picture": _picture(rows.STUDIES[study]),
        "unit": axes.unit_of_length(base),
        "title": table.title,
        "where": rows.STUDIES[study].where,
        "note": table.note,
        "methods_across": table.methods_across,
        "benchmarks": [tables.title(benchmark) for benchmark in table.benchmarks],
        "differences": list(
            dict.fromkeys(
                [*paper.differences(base, study, names, jobs), *_measured(table, names, jobs)]
            )
        ),
        "gaps": {tables.title(b): evaluations.missing_flag(b) for b in paper.gaps(table)},
        "left_out": left_out,
        "entries": [
            {
                "label": " ".join(filter(None, (e.label, e.pretraining, e.modalities))),
                "row": e.row,
                "place": _place(base, study, table, e, jobs) if e.row in names else None,
                "paper": dict(zip(map(tables.title, table.benchmarks), e.percents, strict=True)),
                "ours": _ours(table, e, jobs) if e.row in names else None,
            }
            for e in table.entries
        ],
    }


def _picture(study: rows.Study) -> str:
    return f"table{study.number}.png" if study.number else f"figure{study.figures[0]}.png"


def _place(
    base: plan.Base,
    study: str,
    table: tables.Table,
    entry: tables.Entry,
    jobs: Sequence[plan.Job],
) -> dict[str, Any]:
    job = next((job for job in jobs if entry.row in job.rows), None)
    found = axes.place(base, rows.STUDIES[study], table, entry, job)
    return {whose: list(numbers) for whose, numbers in found._asdict().items()}


def _ours(table: tables.Table, entry: tables.Entry, jobs: Sequence[plan.Job]) -> dict[str, Any]:
    """Returns our scores of a method, by benchmark."""
    found = {}
    for benchmark in table.benchmarks:
        by_seed = {
            str(job.seed): scores
            for job in jobs
            if entry.row in job.rows
            and (scores := _read(job, entry, benchmark, table)[0]) is not None
        }
        found[tables.title(benchmark)] = {"by_seed": by_seed, **over_seeds(by_seed)}
    return found


def _measured(table: tables.Table, names: Sequence[str], jobs: Sequence[plan.Job]) -> Iterator[str]:
    """Yields how finished evaluations differ from the paper's, on whatever data they were made."""
    for benchmark in table.benchmarks:
        for job in jobs:
            for entry in (e for e in table.entries if e.row in names and e.row in job.rows):
                for text in _read(job, entry, benchmark, table)[1]:
                    yield f"{tables.title(benchmark)}: {text}"


def _read(
    job: plan.Job, entry: tables.Entry, benchmark: tables.Benchmark, table: tables.Table
) -> tuple[dict[str, float] | None, list[str]]:
    """Reads the scores of an evaluation, None if there are none yet, and its departures.

    Raises:
        ValueError: The results are damaged.
    """
    name = evaluations.name(entry, benchmark, table)
    content = plan.evaluated(job, name)
    if content is None:
        return None, []
    try:
        return evaluations.scores(content), [str(text) for text in content["unlike_paper"]]
    except (KeyError, TypeError, AttributeError, ValueError):
        path = job.evaluation(name) / FILE
        raise ValueError(f"{path} is damaged; remove it to evaluate again") from None


def write(output: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes `paper.json` and `paper.md`, each atomically.

    Args:
        output: Folder; created if missing.
        content: What `collect` returned.
    """
    output.mkdir(parents=True, exist_ok=True)
    atomic.write_text(output / RESULTS, json.dumps(content, indent=2, allow_nan=False) + "\n")
    atomic.write_text(output / MARKDOWN, markdown(content))


def text(content: Mapping[str, Any]) -> str:
    """Formats the tables as text for a terminal."""
    return "\n\n".join("\n".join(_terminal(content, study)) for study in content["studies"])


def _terminal(content: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    for line in header(content, study):
        yield from textwrap.wrap(line, _WIDTH, break_on_hyphens=False)
    if study["benchmarks"]:
        yield from aligned([(*line, "") for line in _lines(study)])


def markdown(content: Mapping[str, Any]) -> str:
    """Formats the tables as Markdown."""
    return "\n".join(line for study in content["studies"] for line in _markdown(content, study))


def _markdown(content: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    title, *remarks = header(content, study)
    yield f"**{title}**"
    yield from ("", *remarks, "", f"![{study['name']}]({study['picture']})", "")
    if not study["benchmarks"]:
        return
    for place, (label, cells) in enumerate(_lines(study)):
        yield f"| {' | '.join([label.strip(), *cells])} |"
        if not place:
            yield f"| --- |{' ---: |' * len(cells)}"
    yield ""


def header(content: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    """Yields the title, and lines that say what the numbers are and what they are not."""
    yield f"{study['name']}. {study['title']}"
    yield _numbers_in_words(content, study)
    yield from _unlike(study)
    if gaps := {b: flag for b, flag in study["gaps"].items() if not _has_results(study, b)}:
        flags = ", ".join(dict.fromkeys(gaps.values()))
        yield f"No data were given for {', '.join(gaps)} (see {flags})."
    for row, reason in study["left_out"].items():
        yield f"Left out: {row}: {reason}."
    if missing := _missing(content, study):
        yield f"Of ours, not all seeds are evaluated: {_first(missing)}."
    yield from _note(study)


def remarks(study: Mapping[str, Any]) -> list[str]:
    """Returns what must be said wherever the numbers of a study are shown."""
    return [*_unlike(study), *_note(study)]


def _unlike(study: Mapping[str, Any]) -> Iterator[str]:
    if study["differences"]:
        yield f"NOT the paper's setting: {_first(study['differences'])}."


def _note(study: Mapping[str, Any]) -> Iterator[str]:
    if study["note"]:
        yield f"{study['note']}."


def _numbers_in_words(content: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    if not study["benchmarks"]:
        return f"The runs themselves, on {content['base']}; the paper's: {study['where']}."
    mean_ap = " (FSD50K: mean average precision)" if "FSD50K" in str(study["benchmarks"]) else ""
    seeds = counted(content["seeds"], "seed")
    return (
        f"The paper's, in %{mean_ap}: {study['where']}. Ours, below: mean ± spread of {seeds} on "
        f"{content['base']}; C chosen on the test set, as the paper chooses it, and C chosen on "
        "held-out recordings."
    )


def _has_results(study: Mapping[str, Any], benchmark: str) -> bool:
    return any(e["ours"] and e["ours"][benchmark]["by_seed"] for e in study["entries"])


def _first(texts: Sequence[str]) -> str:
    """Joins the first few texts, and counts the others."""
    more = len(texts) - _SHOWN
    return "; ".join([*texts[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _missing(content: Mapping[str, Any], study: Mapping[str, Any]) -> list[str]:
    """Lists our numbers that have fewer seeds than were asked for."""
    return [
        f"{benchmark} of {entry['row']} ({len(ours['by_seed'])} of {content['seeds']})"
        for entry in study["entries"]
        for benchmark, ours in (entry["ours"] or {}).items()
        if benchmark not in study["gaps"] and len(ours["by_seed"]) < content["seeds"]
    ]


def _lines(study: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yields the label and the cells of each line, the head first."""
    entries, benchmarks = study["entries"], study["benchmarks"]
    if study["methods_across"]:
        lines = [(b, [(entry, b) for entry in entries]) for b in benchmarks]
        head = [entry["label"] for entry in entries]
    else:
        lines = [(entry["label"], [(entry, b) for b in benchmarks]) for entry in entries]
        head = benchmarks
    yield "", list(head)
    for label, cells in lines:
        yield label, [_cell(entry["paper"][benchmark]) for entry, benchmark in cells]
        for score, title in _OURS.items():
            ours = [(entry["ours"] or {}).get(b, {}).get(score) for entry, b in cells]
            if any(ours) or (score == "ours" and any(entry["ours"] for entry, _ in cells)):
                yield f"  {title}", [percent(**value) if value else MISSING for value in ours]


def _cell(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"
