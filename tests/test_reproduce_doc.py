"""docs/reproduce.md: its commands are accepted, and its numbers are the published ones."""

import re

import pytest

from tests import documented_commands
from tests.documented_commands import DOCS
from tests.test_paper_doc import SETS
from xkd_jax.paper import published

PAGE = (DOCS / "reproduce.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| `(svm|linear|fusion|finetune)_", line)
]
EXPECTED = [row for row in ROWS if len(row) == 7]
CHECKPOINTS = ("xkd", "mas", "mats", "audioset")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    found = documented_commands.places(tmp_path_factory.mktemp("places"))
    return found | dict.fromkeys(CHECKPOINTS, found["RUN"])


@pytest.mark.parametrize("command", dict.fromkeys(documented_commands.of_page(PAGE)))
def test_a_command_is_accepted(command, places, tmp_path):
    documented_commands.check(command, places, tmp_path / "out")


@pytest.mark.parametrize("row", EXPECTED, ids=lambda row: row[0].strip("`"))
def test_an_evaluation_is_accepted_and_its_numbers_are_the_papers(row, places, tmp_path):
    name, dataset = row[0].strip("`"), row[1]
    protocol, _, place = name.partition("_")
    flags = f"--config.checkpoint=xkd --config.data.path={SETS[place]}"
    command = f"python -m xkd_jax.main --config=configs/eval/{name}.py {flags}"
    documented_commands.check(command, places, tmp_path / "out")
    of = (dataset, protocol)
    known = {n.percent for n in published.numbers() if (n.dataset, n.protocol) == of}
    numbers = [float(cell) for cell in row[2:6] if cell != "-"]
    assert len(set(numbers)) == len(numbers) >= 3 and set(numbers) <= known


def test_every_published_checkpoint_has_its_commands():
    for name in CHECKPOINTS:
        commands = [c for c in documented_commands.of_page(PAGE) if f"out/{name}/" in c]
        assert len(commands) == 2
        assert all(f"--config.checkpoint={name} " in command for command in commands)
        assert all(("network=student" in command) == (name == "mas") for command in commands)
    assert {row[0] for row in ROWS if len(row) == 6} == {row[0] for row in EXPECTED}


def test_the_standard_errors_are_those_of_the_test_sets():
    sizes = {"ucf101": 3 * 3783, "hmdb51": 3 * 1530, "kinetics400": 19_800, "esc50": 2000,
             "kinetics_sound": 1600}  # fmt: skip
    for row in EXPECTED:
        if row[1] in sizes:
            share = float(row[2]) / 100
            error = 100 * (share * (1 - share) / sizes[row[1]]) ** 0.5
            assert abs(float(row[6]) - error) < 0.06, row
        else:
            assert row[6] == "-"
