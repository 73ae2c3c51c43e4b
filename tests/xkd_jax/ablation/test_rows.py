"""The rows of the paper's ablations: none is missing, and each has its number's recipe."""

import re

import pytest

from configs import ablation, base
from xkd_jax.ablation import listing, rows
from xkd_jax.config import checks
from xkd_jax.paper import published

# All tables of the paper in which pretraining varies.
TABLES = {table for study in rows.STUDIES.values() for table in study.tables}


@pytest.mark.parametrize("name", rows.ROWS)
def test_every_row_is_a_config_that_can_be_trained(name):
    config = ablation.get_config(name)
    checks.check_step(config)
    assert config.epochs == 400
    for field, value in rows.changed(base.get_config(), rows.ROWS[name]).items():
        assert rows.value_of(config, field) == value


def test_every_row_stands_in_a_study_and_no_two_of_a_study_are_the_same():
    assert {name for study in rows.STUDIES.values() for name in study.rows} == set(rows.ROWS)
    for title, study in rows.STUDIES.items():
        assert len(set(study.rows)) == len(study.rows)
        if title not in ("ema", "mask_ratios"):  # their grids include the default
            made = [(str(rows.ROWS[n].changes), rows.ROWS[n].network) for n in study.rows]
            assert len(set(made)) == len(made)


@pytest.mark.parametrize("number", [*published.numbers()], ids=lambda n: f"{n.model}-{n.dataset}")
def test_every_number_of_the_paper_is_a_rows_and_the_row_is_its_recipe(number):
    assert number.table in TABLES
    found = [
        name
        for study in rows.STUDIES.values()
        for name in study.rows
        if number.table == study.tables[0] and number.model in rows.ROWS[name].published
    ]
    assert found
    for name in found:
        config = ablation.get_config(name)
        for field, value in number.recipe.items():
            assert rows.value_of(config, field) == value, field


def test_numbers_stand_where_the_paper_has_them():
    def numbers(study, row):
        return rows.paper(rows.STUDIES[study], rows.ROWS[row])

    assert numbers("main", "no_refine") == {
        ("ucf101", "svm"): 81.0,
        ("hmdb51", "svm"): 53.5,
        ("esc50", "svm"): 88.0,
    }
    assert numbers("main", "xkd")["ucf101", "svm"] == 84.7
    assert numbers("comparison", "xkd")["ucf101", "svm"] == 83.8
    # Table S16 lacks some of XKD's numbers, which other tables have: SVM and linear on Kinetics400.
    assert list(numbers("masked_video", "xkd").values()) == [83.8, 57.4, 51.4, 70.7, 46.4]
    assert numbers("alignment", "default")["hmdb51", "svm"] == 58.5
    assert numbers("ema", "ema_0.99") == {}


def test_lengths_are_multiples_of_the_bases_own():
    config = ablation.get_config("local_2s_2s")
    assert config.views.video.local_frames == 16
    assert (config.views.audio.local_seconds, config.views.audio.local_frames) == (2.0, 224)
    config.views.video.local_frames = 3
    assert rows.changed(config, rows.ROWS["local_4s_1s"]) == {"views.video.local_frames": 12}


def test_appendix_b_has_teacher_temperatures_of_its_own():
    fields = ("video_start", "video_end", "audio_start", "audio_end")
    expected = {
        "default": (0.04, 0.06, 0.04, 0.06),
        "da1": (0.04, 0.06, 0.04, 0.06),
        "temperature_v0.10_a0.07": (0.1, 0.1, 0.07, 0.07),
        "no_refine": (0.1, 0.1, 0.07, 0.07),
        "mas": (0.09, 0.11, 0.04, 0.06),
    }
    for name, values in expected.items():
        temperature = ablation.get_config(name).xkd.teacher_temperature
        assert tuple(temperature[field] for field in fields) == values


def test_rows_are_selected_by_name_study_and_table():
    assert rows.select(["table3"]) == rows.select(["table1"]) == rows.select(["main"])
    assert [s.study for s in rows.select(["tableS16", "table1"])] == ["main", "masked_video"]
    [selected] = rows.select(["no_refine", "xkd"])
    assert selected == ("main", ("xkd", "no_refine"))
    assert rows.select(["ema"]) == [("ema", rows.STUDIES["ema"].rows)]
    assert [s.study for s in rows.select(["all"])] == list(rows.STUDIES)
    assert all(rows.select([name]) for name in (*rows.TABLES, *rows.ROWS))


def test_an_unknown_row_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"'no_refin'.* no_refine.*ablation.py:list") as error:
        rows.select(["xkd", "no_refin"])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"no ablation 'xkdd'.* xkd"):
        ablation.get_config("xkdd")


def test_the_list_has_every_row_with_the_papers_numbers_beside():
    text = ablation.get_config("list")
    for name in rows.ROWS:
        assert re.search(rf"^  {re.escape(name)} ", text, re.MULTILINE)
    assert re.search(r"^  da1 +56\.1 +81\.1 +87\.3  alignment DA1", text, re.MULTILINE)
    assert re.search(r"^  ema_0\.99 +- +- +-  ", text, re.MULTILINE)
    assert text == listing.text()
