"""All rows of the paper's ablations as text, with the paper's numbers."""

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
    """A table for each study: names, the paper's numbers in percent, what each row is."""
    return "\n\n".join("\n".join(_lines(name)) for name in rows.STUDIES)


def column(of: tuple[str, str]) -> str:
    """A column's head, of (data set, protocol)."""
    dataset, protocol = of
    return f"{DATASETS[dataset]} {PROTOCOLS[protocol]}"


def numbers(study: rows.Study, row: rows.Row) -> list[str]:
    """The paper's numbers of a row, in the order of `rows.columns`."""
    found = rows.paper(study, row)
    return [f"{found[of]:.1f}" if of in found else UNKNOWN for of in shown_columns(study)]


def shown_columns(study: rows.Study) -> list[tuple[str, str]]:
    """The columns of which the paper has a number of any of the study's rows."""
    found = {of for name in study.rows for of in rows.paper(study, rows.ROWS[name])}
    return [of for of in rows.columns(study) if of in found]


def _lines(name: str) -> Iterator[str]:
    study = rows.STUDIES[name]
    yield f"{name}: {study.title} (the paper's numbers, in %; {study.where})"
    table = [("", [column(of) for of in shown_columns(study)], "")]
    for row in study.rows:
        table.append((row, numbers(study, rows.ROWS[row]), rows.ROWS[row].about))
    yield from aligned(table)
