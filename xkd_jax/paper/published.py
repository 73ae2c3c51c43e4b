"""The paper's numbers of its own methods, each once, with the tables that have it."""

import functools
from typing import NamedTuple

from xkd_jax.paper.rows import ROWS
from xkd_jax.paper.tables import TABLES, Benchmark, Table

_DATA = {"kinetics400": "Kinetics400", "audioset": "AudioSet"}


class Published(NamedTuple):
    """A result of the paper.

    Attributes:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        protocol: "svm", "linear", "finetune" or "fusion".
        row: Name of the evaluated method in `xkd_jax.paper.rows.ROWS`.
        percent: The result.
        of: Splits that the result is for, such as "split 1"; empty if the data set has only one.
        tables: Numbers of the tables of the paper with the result, such as ("1", "S16").
    """

    dataset: str
    protocol: str
    row: str
    percent: float
    of: str
    tables: tuple[str, ...]

    @property
    def model(self) -> str:
        """Description of the method and its pretraining data, for display."""
        row = ROWS[self.row]
        return f"{row.about}, {_DATA[row.data]}"

    @property
    def source(self) -> str:
        """The tables with the result, in words."""
        return f"Table{'s' if len(self.tables) > 1 else ''} {', '.join(self.tables)}"


@functools.cache
def numbers() -> tuple[Published, ...]:
    """Returns the results of all methods of the paper, those with all splits first."""
    found: dict[tuple, Published] = {}
    order = list(TABLES)
    for table in sorted(TABLES.values(), key=lambda table: not _is_main(table)):
        for entry in filter(lambda entry: entry.row, table.entries):
            for (dataset, protocol), percent in zip(table.benchmarks, entry.percents, strict=True):
                key = dataset, protocol, entry.row, table.splits_of(dataset)
                former = found.get(key)
                tables = sorted((*(former.tables if former else ()), table.number), key=order.index)
                found[key] = Published(*key[:3], percent, key[3], tuple(tables))
    return tuple(found.values())


def percent(row: str, benchmark: Benchmark, of: str) -> float | None:
    """Returns the paper's result of a row; None if no table has it.

    Args:
        row: Name of the row.
        benchmark: What it is measured by.
        of: Splits, as in `Published`.
    """
    key = *benchmark, ROWS[row].same_as or row, of
    return next((n.percent for n in numbers() if (*n[:3], n.of) == key), None)


def _is_main(table: Table) -> bool:
    return table.number in ("7", "8", "9")
