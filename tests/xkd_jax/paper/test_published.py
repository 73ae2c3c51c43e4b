import collections

from configs import base
from xkd_jax.config.checks import fields_of
from xkd_jax.paper import published


def percents(dataset, protocol, **changes):
    config = base.get_config()
    config.update_from_flattened_dict(changes)
    found = published.find(dataset, protocol, config.to_dict())
    return {(number.model, number.of): number.percent for number in found}


def test_what_stands_beside_the_papers_model():
    assert percents("hmdb51", "svm") == {
        ("XKD, Kinetics400", "mean of all splits"): 57.4,
        ("XKD, AudioSet, ViT-L for video", "mean of all splits"): 62.2,
        ("XKD, Kinetics400", "split 1"): 59.3,
        ("XKD, student, Kinetics400", "split 1"): 57.8,
        # The temperature ablation has a row with the recipe of all other runs.
        ("XKD with teacher temperatures 0.07 (audio) and 0.1 (video), Kinetics400", "400 epochs"): (
            55.9
        ),
    }
    assert percents("kinetics400", "linear")["XKD, Kinetics400", ""] == 51.4
    assert percents("kinetics400", "svm") == {("XKD, Kinetics400", ""): 46.4}
    assert percents("fsd50k", "finetune")["XKD, Kinetics400", ""] == 54.1


def test_the_numbers_follow_the_variant():
    found = percents("esc50", "svm", **{"model.variant": "xkd_mats"})
    assert found == {
        ("XKD-MATS, Kinetics400", "mean of all splits"): 88.7,
        ("XKD-MATS, Kinetics400", "split 1"): 90.3,
    }
    fusion = percents("kinetics_sound", "fusion", **{"model.variant": "xkd_mas"})
    assert list(fusion.values()) == [78.8]


def test_an_ablation_has_its_own_number_beside():
    refine = percents("ucf101", "svm", **{"xkd.refine": False})
    assert refine["without refinement, Kinetics400", "split 1"] == 81.0
    assert refine["XKD, Kinetics400", "mean of all splits"] == 83.8
    reconstruction = percents("ucf101", "svm", **{"xkd.lambda_da": 0.0, "xkd.lambda_kd": 0.0})
    assert reconstruction["L_ae alone, Kinetics400", "split 1"] == 76.3
    assert reconstruction["masked video alone, Kinetics400", "mean of all splits"] == 78.9
    temperatures = {f"xkd.teacher_temperature.{m}_start": 0.04 for m in ("video", "audio")}
    temperatures |= {f"xkd.teacher_temperature.{m}_end": 0.06 for m in ("video", "audio")}
    layers = percents("hmdb51", "svm", **temperatures, **{"model.projector.layers": 2})
    assert layers["XKD with 2 projector layers, Kinetics400", "400 epochs"] == 55.4


def test_without_a_config_all_main_results_are_shown():
    found = published.find("ucf101", "finetune")
    assert [number.percent for number in found] == [94.1, 93.4, 93.1, 95.8]


def test_the_paper_says_nothing_of_other_data_and_protocols():
    assert published.find("generated", "svm") == []
    assert published.find("ucf101", "knn") == []


def test_every_recipe_is_of_fields_that_there_are():
    fields = set(fields_of(base.get_config()))
    numbers = list(published.numbers())
    assert all(set(number.recipe) <= fields for number in numbers)
    assert all(0 < number.percent < 100 for number in numbers)
    counts = collections.Counter(number.table for number in numbers)
    assert counts == {
        "comparison with other methods": 3 * 11 + 10 + 1,
        "Tables 1-3": 4 + 2 + (4 + 4 + 3 + 3) + 2 + 4 * 3 + 3,
        "Table S16": 5,
        "ablations": 27 * 3,
    }
