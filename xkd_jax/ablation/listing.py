"""A listing of all rows of the paper, with its numbers."""

from collections.abc import Iterator

from xkd_jax.downstream.results import aligned
from xkd_jax.paper import rows
from xkd_jax.paper.tables import title

UNKNOWN = "-"


def text() -> str:
    """Formats a table of each study: names, the paper's numbers in percent, descriptions."""
    return "\n\n".join("\n".join(_lines(name)) for name in rows.STUDIES)


def _lines(name: str) -> Iterator[str]:
    study = rows.STUDIES[name]
    yield f"{name}: {study.title} (the paper's numbers, in %; {study.where})"
    benchmarks = study.table.benchmarks if study.table else ()
    lines = [("", [title(benchmark) for benchmark in benchmarks], "")]
    for row in study.rows:
        percents = rows.numbers(study, row)
        cells = [
            f"{percents[benchmark]:.1f}" if benchmark in percents else UNKNOWN
            for benchmark in benchmarks
        ]
        lines.append((row, cells, rows.ROWS[row].about))
    yield from aligned(lines)
