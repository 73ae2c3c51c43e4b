"""docs/paper.md has every table and figure of the paper, and commands that work."""

import re

import pytest

from tests import documented_commands
from tests.documented_commands import DATA, DOCS
from xkd_jax.ablation import selection
from xkd_jax.paper import rows, tables

PAGE = (DOCS / "paper.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| (Table|Figure)", line)
]
COMMANDS = documented_commands.of_page(PAGE)
EVALUATIONS = sorted({name for row in ROWS for name in re.findall(r"`(\w+_\w+)`", row[2])})
SETS = {
    "ucf101": "UCF",
    "hmdb51": "HMDB",
    "esc50": "ESC",
    "fsd50k": "FSD",
    "k400": "K400",
    "kinetics_sound": "KS",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    found = documented_commands.places(folder)
    for name in ("CLIP", "CLIPS"):
        (folder / name).touch()
        found[name] = str(folder / name)
    return found | {"OUT": str(folder / "OUT")}


def listed(text):
    """Returns the tables and figures in a cell such as "Figure 5, Figures S8 to S12"."""
    for kind, first, last in re.findall(
        r"(Table|Figure|Algorithm)s? (S?\d+)(?: to (S?\d+))?", text
    ):
        numbers = range(int(first.lstrip("S")), int((last or first).lstrip("S")) + 1)
        yield from (f"{kind} {'S' * first.startswith('S')}{number}" for number in numbers)


def test_every_table_and_figure_has_one_row():
    found = [item for row in ROWS for item in listed(row[0])]
    expected = [
        *(f"Table {number}" for number in range(1, 10)),
        *(f"Table S{number}" for number in range(1, 17)),
        *(f"Figure {number}" for number in range(1, 6)),
        *(f"Figure S{number}" for number in range(1, 13)),
        "Algorithm 1",
    ]
    assert sorted(found) == sorted(expected)
    assert all(len(row) == 3 and all(row) for row in ROWS)


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_a_command_is_accepted(command, places, tmp_path):
    documented_commands.check(command, places, tmp_path / "out")


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_is_accepted(name, places, tmp_path):
    data = SETS[name.partition("_")[2]]
    flags = f"--config.checkpoint=RUN --config.data.path={data}"
    command = f"python -m xkd_jax.main --config=configs/eval/{name}.py {flags}"
    said = documented_commands.check(command, places, tmp_path / "out")
    assert f"data: {DATA[data]}, " in said


def test_a_table_is_made_by_the_command_of_its_number():
    found = {}
    for row in ROWS:
        for number in re.findall(r"--rows=table(\w+)", row[1]):
            found[f"Table {number}"] = row[0]
    assert found == {f"Table {number}": f"Table {number}" for number in tables.TABLES}


def test_a_figure_of_runs_is_made_by_one_command_of_its_number():
    for study in filter(lambda study: study.figures, rows.STUDIES.values()):
        [row] = [row for row in ROWS if f"Figure {study.figures[0]}" in listed(row[0])]
        assert set(listed(row[0])) == {f"Figure {number}" for number in study.figures}
        assert re.findall(r"--rows=(\S+)", row[1]) == [f"figure{study.figures[0]}"]


def test_every_row_of_the_ablations_is_in_a_command():
    named = [name for text in re.findall(r"--rows=(\S+)", PAGE) for name in text.split(",")]
    assert set(rows.ROWS) == {row for study in selection.select(named) for row in study.rows}
