"""The rows of the paper: none is missing, each is a config, and names select what they say."""

import pathlib
import re

import pytest

from configs import (
    ablation,
    audioset,
    audioset_base,
    base,
    k400,
    k400_mas,
    k400_mats,
    kinetics_sound,
)
from input_pipeline.programs import config_fields
from xkd_jax.ablation import listing, selection
from xkd_jax.config import checks
from xkd_jax.paper import rows, tables

EPOCHS = {
    **dict.fromkeys(("xkd", "ae", "no_refine", "mas", "mats_student", "recon_audio"), 800),
    **dict.fromkeys(("default", "temperature_v0.10_a0.07", "ema_0.99", "no_cls", "da1"), 400),
    **dict.fromkeys(("xkd_audioset", "xkd_audioset_base", "no_alignment"), 400),
    "xkd_kinetics_sound": 800,
}


@pytest.mark.parametrize("name", rows.ROWS)
def test_every_row_is_a_config_that_can_be_trained(name):
    config = ablation.get_config(name)
    checks.check_step(config)
    for field, value in rows.changed(base.get_config(), rows.ROWS[name]).items():
        assert config_fields.value_of(config, field) == value


def test_rows_have_the_epochs_of_their_tables():
    assert {name: ablation.get_config(name).epochs for name in EPOCHS} == EPOCHS
    for study in rows.STUDIES.values():
        is_appendix = study.number in {f"S{n}" for n in range(8, 15)}
        is_appendix |= bool({"S1", "S2", "S3", "S4", "S5"} & set(study.figures))
        for name in study.rows:
            expected = 400 if is_appendix or rows.ROWS[name].data == "audioset" else 800
            assert ablation.get_config(name).epochs == expected


def test_the_main_run_and_the_row_of_its_temperatures_differ_in_epochs():
    main, row = (
        config_fields.fields(ablation.get_config(n)) for n in ("xkd", "temperature_v0.10_a0.07")
    )
    assert {field for field in main if main[field] != row[field]} == {"epochs"}


def test_rows_are_the_shipped_configs_of_their_runs():
    shipped = {"xkd": k400, "mas": k400_mas, "mats": k400_mats, "xkd_audioset": audioset}
    shipped |= {"xkd_audioset_base": audioset_base, "xkd_kinetics_sound": kinetics_sound}
    for name, module in shipped.items():
        assert ablation.get_config(name) == module.get_config()


def test_no_two_rows_of_one_config_and_network_have_different_numbers():
    def run(name):
        row = rows.ROWS[name]
        return row.data, row.network, str(config_fields.fields(ablation.get_config(name)))

    runs = {}
    for study in rows.STUDIES.values():
        for name in filter(lambda name: rows.numbers(study, name), study.rows):
            assert runs.setdefault(run(name), name) == name


def test_every_row_stands_in_a_study_and_has_one_recipe():
    assert {name for study in rows.STUDIES.values() for name in study.rows} == set(rows.ROWS)
    for name in rows.ROWS:
        recipes = [study.recipe for study in rows.STUDIES.values() if name in study.rows]
        assert all(recipe == recipes[0] for recipe in recipes)
    for study in rows.STUDIES.values():
        assert len(set(study.rows)) == len(study.rows)


def test_rows_of_one_recipe_are_declared_to_be_the_same():
    """So that a figure has the numbers that the paper's tables have of the same run."""
    runs = {}
    for name, row in rows.ROWS.items():
        key = row.data, row.network, str(config_fields.fields(ablation.get_config(name)))
        first = runs.setdefault(key, name)
        assert row.same_as == ("" if first == name else first)


def test_numbers_stand_where_the_paper_has_them():
    def numbers(study, row):
        return rows.numbers(rows.STUDIES[study], row)

    assert numbers("refinement", "no_refine") == {
        ("ucf101", "svm"): 81.0,
        ("hmdb51", "svm"): 53.5,
        ("esc50", "svm"): 88.0,
    }
    assert numbers("distillation_video", "xkd")["ucf101", "svm"] == 84.7
    assert numbers("distillation_sound", "ae") == {("fsd50k", "linear"): 44.3, ("esc50", "svm"): 90}
    assert numbers("video_recognition", "xkd")["ucf101", "svm"] == 83.8
    assert list(numbers("masked_video", "xkd").values()) == [83.8, 57.4, 70.7, 46.4, 51.4]
    assert list(numbers("all_networks", "mats_student").values()) == [52.4, 80.0, 89.8]
    assert numbers("alignment", "default")["hmdb51", "svm"] == 58.5
    assert numbers("ema", "ema_0.99") == {}


def test_a_study_says_where_its_numbers_are():
    where = {name: study.where for name, study in rows.STUDIES.items()}
    assert where["refinement"] == "Table 4, split 1, 800 epochs"
    assert where["fusion"] == "Table 9, 800 epochs"
    assert where["projector_layers"] == "Table S11, split 1, 400 epochs"
    assert where["sound_classification"] == (
        "Table 8, mean of all splits, 800 epochs, of AudioSet 400"
    )
    assert where["ema"] == "Figure S1, split 1, 400 epochs"
    assert where["scale"] == "Figure 4, mean of all splits, 800 epochs, of AudioSet 400"
    assert where["attention_maps"] == "Figures 3, S7, 800 epochs"


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


def test_a_table_selects_its_own_rows():
    select = selection.select
    assert select(["table4"]) == [("refinement", ("no_refine", "xkd"))]
    assert select(["table3"]) == [("alignment_terms", ("ae", "ae_kd", "ae_da", "xkd"))]
    assert select(["tableS11"]) == [
        ("projector_layers", ("projector_layers_2", "default", "projector_layers_4"))
    ]
    assert select(["table8"]) == [("sound_classification", ("xkd", "mas", "mats", "xkd_audioset"))]
    for number, table in tables.TABLES.items():
        [(name, selected)] = select([f"table{number}"])
        assert rows.STUDIES[name].table is table
        assert set(selected) == {entry.row for entry in table.entries if entry.row}


def test_a_figure_selects_its_own_rows():
    for number in ("4", "S1", "S2", "S3", "S4", "S5", "S6", "3", "S7"):
        [(name, selected)] = selection.select([f"figure{number}"])
        assert number in rows.STUDIES[name].figures and selected == rows.STUDIES[name].rows
    assert selection.select(["figure4"]) == [
        ("scale", ("xkd_kinetics_sound", "xkd", "xkd_audioset_base", "xkd_audioset"))
    ]
    assert selection.select(["figureS7"]) == [("attention_maps", ("no_refine", "xkd"))]


def test_the_documentation_has_each_table_beside_its_study():
    page = pathlib.Path(__file__).parents[3] / "docs" / "ablations.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    for table, (study,) in selection.TABLES.items():
        [line] = [line for line in lines if f"`{table}`" in line]
        cells = line.split("|")
        names = [re.findall("`([^`]+)`", cell) for cell in cells]
        assert names[2][min(names[1].index(table), len(names[2]) - 1)] == study
        assert f"{rows.STUDIES[study].recipe.get('epochs', 800):g}" in cells[4]


def test_rows_are_selected_by_name_study_and_group():
    select = selection.select
    assert [s.study for s in select(["tableS16", "table1"])] == [
        "distillation_video",
        "masked_video",
    ]
    [selected] = select(["no_refine"])
    assert selected == ("refinement", ("no_refine",))
    assert select(["ema"]) == [("ema", rows.STUDIES["ema"].rows)]
    assert [s.study for s in select(["all"])] == list(rows.STUDIES)
    assert [s.study for s in select(["comparison"])] == [
        "video_recognition",
        "sound_classification",
        "fusion",
    ]
    assert [rows.STUDIES[s.study].number for s in select(["main"])] == [*"123456", "S15"]
    assert all(select([name]) for name in rows.ROWS)


def test_an_unknown_row_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"'no_refin'.* no_refine.*ablation.py:list") as error:
        selection.select(["xkd", "no_refin"])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"no ablation 'xkdd'.* xkd"):
        ablation.get_config("xkdd")


def test_the_list_has_every_row_with_the_papers_numbers_beside():
    text = ablation.get_config("list")
    for name in rows.ROWS:
        assert re.search(rf"^  {re.escape(name)} ", text, re.MULTILINE)
    assert re.search(r"^  da1 +56\.1 +81\.1 +87\.3  alignment DA1", text, re.MULTILINE)
    assert re.search(r"^  ema_0\.99 +teachers' momentum from", text, re.MULTILINE)
    assert text == listing.text()
