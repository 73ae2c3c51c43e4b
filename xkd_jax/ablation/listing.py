"""A listing of all rows of the paper's ablations, with the paper's numbers."""

from collections.abc import Iterator

from xkd_jax.ablation import rows
from xkd_jax.downstream.results import aligned

DATASETS = {
    "ucf101": "UCF101",
    "hmdb51": "HMDB51",
    "kinetics400": "K400",
    "kinetics_sound": "KS",
    "esc50": "ESC-50",
    "fsd50k": "FSD50K",
}
PROTOCOLS = {"svm": "SVM", "linear": "linear", "finetune": "FT", "fusion": "fusion"}
UNKNOWN = "-"


def text() -> str:
    """Formats a table of each study: names, the paper's numbers in percent, descriptions."""
    return "\n\n".join("\n".join(_lines(name)) for name in rows.STUDIES)


def column(benchmark: tuple[str, str]) -> str:
    """Formats the head of the column of a (data set, protocol)."""
    dataset, protocol = benchmark
    return f"{DATASETS[dataset]} {PROTOCOLS[protocol]}"


def numbers(study: rows.Study, row: rows.Row) -> list[str]:
    """Formats the paper's numbers of a row, in the order of `shown_columns`."""
    percents = rows.paper(study, row)
    return [
        f"{percents[benchmark]:.1f}" if benchmark in percents else UNKNOWN
        for benchmark in shown_columns(study)
    ]


def shown_columns(study: rows.Study) -> list[tuple[str, str]]:
    """Lists the columns for which the paper has a number in at least one of the study's rows."""
    filled = {benchmark for name in study.rows for benchmark in rows.paper(study, rows.ROWS[name])}
    return [benchmark for benchmark in rows.columns(study) if benchmark in filled]


def _lines(name: str) -> Iterator[str]:
    study = rows.STUDIES[name]
    yield f"{name}: {study.title} (the paper's numbers, in %; {study.where})"
    table = [("", [column(benchmark) for benchmark in shown_columns(study)], "")]
    for row in study.rows:
        table.append((row, numbers(study, rows.ROWS[row]), rows.ROWS[row].about))
    yield from aligned(table)
