"""The choice of rows of the paper by names of rows, studies, tables and figures."""

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xkd_jax.paper.rows import ROWS, STUDIES, study_of

# The studies that a name stands for, besides the names of studies.
TABLES: Mapping[str, tuple[str, ...]] = {
    f"table{study.number}": (name,) for name, study in STUDIES.items() if study.number
} | {f"figure{number}": (name,) for name, study in STUDIES.items() for number in study.figures}
_GROUPS = {
    # Losses, refinement, variants and networks: what the paper measures on split 1.
    "main": tuple(
        name
        for name, study in STUDIES.items()
        if study.number in ("1", "2", "3", "4", "5", "6", "S15")
    ),
    # What it compares with the methods of others.
    "comparison": tuple(name for name, study in STUDIES.items() if study.number in ("7", "8", "9")),
    "all": tuple(STUDIES),
}


class Selected(NamedTuple):
    """Selected rows of one study.

    Attributes:
        study: Name of the study.
        rows: Names of the rows, in the study's order.
    """

    study: str
    rows: tuple[str, ...]


def select(names: Sequence[str]) -> list[Selected]:
    """Selects rows by names of rows, studies, tables, figures or groups of studies.

    Args:
        names: Names such as `no_refine`, `local_views`, `table4`, `figureS1`, `main` or `all`.

    Returns:
        The studies in the order of `STUDIES`, each with its selected rows. A row that is selected
        by its own name is listed in the first study that has it.

    Raises:
        ValueError: A name is unknown.
    """
    wanted: dict[str, set[str]] = {study: set() for study in STUDIES}
    for name in names:
        if name in ROWS and name not in STUDIES:
            wanted[study_of(name)].add(name)
            continue
        for study in _studies_called(name):
            wanted[study] |= set(STUDIES[study].rows)
    return [
        Selected(study, tuple(name for name in STUDIES[study].rows if name in rows))
        for study, rows in wanted.items()
        if rows
    ]


def _studies_called(name: str) -> Sequence[str]:
    if name in STUDIES:
        return (name,)
    groups = {**TABLES, **_GROUPS}
    if name in groups:
        return groups[name]
    raise ValueError(f"--rows has {name!r}: {unknown(name, (*groups, *STUDIES, *ROWS))}")


def unknown(name: str, known: Sequence[str]) -> str:
    """Returns the part of a message that suggests known names near an unknown one."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    listed = "--config=configs/ablation.py:list prints all"
    return f"the nearest are {', '.join(near)}; {listed}" if near else f"nothing like it; {listed}"
