"""The paper's numbers, compared with a second list that was typed independently."""

import collections

import pytest

from tests.xkd_jax.paper import paper_numbers
from xkd_jax.config import pretraining
from xkd_jax.paper import published, rows, tables

DATASETS = {
    "ucf101": "UCF101",
    "hmdb51": "HMDB51",
    "kinetics400": "Kinetics400",
    "kinetics_sound": "Kinetics-Sound",
    "esc50": "ESC50",
    "fsd50k": "FSD50K",
}


def listed(table):
    """Returns a table in the form of the second list."""
    columns = tuple(f"{DATASETS[dataset]} {protocol}" for dataset, protocol in table.benchmarks)
    return columns, {
        entry.row or f"{entry.label} {entry.pretraining} {entry.modalities}".strip(): entry.percents
        for entry in table.entries
    }


@pytest.mark.parametrize("number", [*map(str, range(1, 10)), *(f"S{n}" for n in range(8, 17))])
def test_both_lists_have_the_same_numbers_in_the_same_places(number):
    columns, lines = listed(tables.TABLES[number])
    assert (columns, lines) == paper_numbers.TABLES[number]
    assert len(lines) == len(tables.TABLES[number].entries)
    # The paper's order of methods is part of its layout.
    if tables.TABLES[number].methods_across:
        assert list(lines) == list(paper_numbers.TABLES[number][1])


def test_both_lists_have_the_same_tables():
    assert list(tables.TABLES) == list(paper_numbers.TABLES)


def test_how_many_numbers_there_are():
    counts = {
        number: (
            sum(p is not None for e in table.entries for p in e.percents if e.row),
            sum(p is not None for e in table.entries for p in e.percents),
        )
        for number, table in tables.TABLES.items()
    }
    assert {n: c for n, c in counts.items() if c[0] != c[1]} == {
        "7": (24, 101),
        "8": (16, 35),
        "9": (4, 5),
        "S16": (5, 14),
    }
    assert [sum(column) for column in zip(*counts.values(), strict=True)] == [217, 323]


def test_a_number_that_several_tables_have_is_the_same_in_all():
    values = collections.defaultdict(set)
    for table in tables.TABLES.values():
        for entry in filter(lambda entry: entry.row, table.entries):
            for (dataset, protocol), percent in zip(table.benchmarks, entry.percents, strict=True):
                values[entry.row, dataset, protocol, table.splits_of(dataset)].add(percent)
    assert all(len(percents) == 1 for percents in values.values())
    assert {(n.row, n.dataset, n.protocol, n.of): {n.percent} for n in published.numbers()} == {
        key: value for key, value in values.items() if value != {None}
    }


def test_a_number_names_its_tables():
    found = {(n.row, n.dataset, n.protocol, n.of): n for n in published.numbers()}
    number = found["xkd", "ucf101", "svm", "split 1"]
    assert (number.percent, number.source) == (84.7, "Tables 1, 3, 4, 5, 6, S15")
    number = found["xkd", "fsd50k", "linear", ""]
    assert (number.percent, number.source) == (45.8, "Tables 2, 8")
    number = found["ae", "fsd50k", "linear", ""]
    assert (number.percent, number.source, number.model) == (
        44.3,
        "Table 2",
        "L_ae alone, Kinetics400",
    )
    number = found["mats_student", "hmdb51", "svm", "split 1"]
    assert (number.percent, number.source) == (52.4, "Table S15")


def test_the_large_encoder_has_the_configs_sizes():
    changes = rows.ROWS["xkd_audioset"].changes
    for network, sizes in (("encoder", pretraining.ENCODERS), ("decoder", pretraining.DECODERS)):
        fields = ("width", "depth", "heads")
        assert (
            tuple(changes[f"model.video.{network}.{field}"] for field in fields) == sizes["large"]
        )
