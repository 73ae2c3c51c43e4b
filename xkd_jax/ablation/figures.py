"""Pictures of the paper's tables and figures: our results beside the paper's.

A table becomes bars. A figure becomes what it is in the paper: curves, or a grid of cells. Figures
that show the runs themselves are in `run_figures`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline.programs.wording import counted
from xkd_jax.ablation import axes, paper_tables
from xkd_jax.paper import rows
from xkd_jax.report import panels
from xkd_jax.report.panels import Value

_NETWORKS = {"teacher": False, "student": True}  # whether the curve is dashed
_SIZES = {"ViT-B": 0, "ViT-L": 1}  # color of each video encoder in Figure 4
_MAGNITUDES = {1e3: "K", 1e6: "M"}


def pictures(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Draws the studies that have results.

    Args:
        content: What `paper_tables.collect` returned.

    Returns:
        (H, W, 3) uint8 by file name.
    """
    return {
        study["picture"]: panels.picture(_title(content, study), list(_panels(study)))
        for study in content["studies"]
        if study["benchmarks"]
    }


def _title(content: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    seeds = counted(content["seeds"], "seed")
    return " ".join(
        [
            f"{study['name']}. {study['title']}. In %; the paper's: {study['where']};",
            f"ours: mean ± spread of {seeds} on {content['base']}, C as the paper chooses it.",
            *paper_tables.remarks(study),
        ]
    )


def _panels(study: Mapping[str, Any]) -> Iterator[panels.Panel]:
    number = next(iter(study["figures"]), "")
    draw = {axes.RECORDINGS: _recordings, "S1": _momenta, "S2": _ratios, axes.LENGTH: _lengths}
    for benchmark in study["benchmarks"]:
        yield draw.get(number, _bars)(study, benchmark)


def _ours(entry: Mapping[str, Any], benchmark: str) -> Value | None:
    score = ((entry["ours"] or {}).get(benchmark) or {}).get("ours")
    if score is None:
        return None
    return Value(100 * score["mean"], score["spread"] and 100 * score["spread"])


def _theirs(entry: Mapping[str, Any], benchmark: str) -> Value | None:
    percent = entry["paper"][benchmark]
    return None if percent is None else Value(percent)


def _bars(study: Mapping[str, Any], benchmark: str) -> panels.Bars:
    entries = study["entries"]
    return panels.Bars(
        benchmark,
        [entry["label"] for entry in entries],
        [_ours(entry, benchmark) for entry in entries],
        [_theirs(entry, benchmark) for entry in entries],
    )


def _points(
    entries: Sequence[Mapping[str, Any]], benchmark: str
) -> tuple[dict[Any, Value], dict[Any, Value]]:
    """Returns our results and the paper's by their places, which are numbers or pairs of them."""
    ours, theirs = {}, {}
    for entry in filter(lambda entry: entry["place"], entries):
        for whose, value, points in (
            ("ours", _ours(entry, benchmark), ours),
            ("paper", _theirs(entry, benchmark), theirs),
        ):
            place = entry["place"][whose]
            if value is not None and place:
                points[place[0] if len(place) == 1 else tuple(place)] = value
    return ours, theirs


def _places(study: Mapping[str, Any]) -> list[tuple[float, ...]]:
    """Returns all places of a study, the paper's included, in increasing order."""
    return sorted({tuple(p) for e in study["entries"] for p in (e["place"] or {}).values()} - {()})


def _recordings(study: Mapping[str, Any], benchmark: str) -> panels.Curves:
    curves = []
    for name, color in _SIZES.items():
        entries = [e for e in study["entries"] if _size(e["row"]) == name]
        ours, theirs = _points(entries, benchmark)
        curves.append(panels.Curve(f"{name}, {panels.OURS}", ours, color))
        curves.append(panels.Curve(f"{name}, {panels.PAPER}", theirs, color, single=True))
    ticks = {float(n): _rounded(n) for n in rows.RECORDINGS.values()}
    return panels.Curves(benchmark, "pretraining recordings", curves, True, ticks)


def _size(row: str) -> str:
    """Returns the video encoder of a row of Figure 4."""
    return "ViT-L" if "model.video.encoder.width" in rows.ROWS[row].changes else "ViT-B"


def _rounded(number: int) -> str:
    factor = max(size for size in _MAGNITUDES if number >= size)
    return f"{number / factor:g}{_MAGNITUDES[factor]}"


def _momenta(study: Mapping[str, Any], benchmark: str) -> panels.Curves:
    ours, theirs = _points(study["entries"], benchmark)
    places = {x: number for number, (x,) in enumerate(_places(study))}
    curves = [
        panels.Curve(panels.OURS, {places[x]: value for x, value in ours.items()}, 0),
        panels.Curve(panels.PAPER, {places[x]: v for x, v in theirs.items()}, 1, single=True),
    ]
    ticks = {number: f"{x:g}" for x, number in places.items()}
    return panels.Curves(benchmark, "teachers' momentum at first", curves, ticks=ticks)


def _ratios(study: Mapping[str, Any], benchmark: str) -> panels.Heat:
    ours, theirs = _points(study["entries"], benchmark)
    video, audio = (sorted({place[axis] for place in _places(study)}) for axis in (0, 1))
    return panels.Heat(
        benchmark, ("mask ratio of video", "mask ratio of sound"), video, audio, ours, theirs
    )


def _lengths(study: Mapping[str, Any], benchmark: str) -> panels.Curves:
    curves = []
    for number, (network, dashed) in enumerate(_NETWORKS.items()):
        entries = [e for e in study["entries"] if rows.ROWS[e["row"]].network == network]
        ours, theirs = _points(entries, benchmark)
        curves.append(panels.Curve(f"{network}, {panels.OURS}", ours, number, dashed))
        curves.append(panels.Curve(f"{network}, {panels.PAPER}", theirs, number, single=True))
    return panels.Curves(benchmark, study["unit"], curves)
