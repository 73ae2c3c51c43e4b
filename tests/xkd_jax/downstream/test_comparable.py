"""A run has a number of the paper beside it only if its whole recipe is the number's."""

import pytest

from configs import ablation, k400, k400_mas
from input_pipeline.prepared.records import Recipe
from xkd_jax.downstream import comparable
from xkd_jax.paper import rows


def beside(dataset, protocol, network="teacher", base=k400, **changes):
    config = base.get_config()
    config.update_from_flattened_dict(changes)
    return comparable.find(dataset, protocol, config.to_dict(), network)


def same(*args, **kwargs):
    """Returns the numbers of the same recipe."""
    found = [c for c in beside(*args, **kwargs) if not c.differences]
    return {(c.number.row, c.number.of): c.number.percent for c in found}


APPENDIX = {"epochs": 400.0} | {
    f"xkd.teacher_temperature.{m}_{end}": value
    for m in ("video", "audio")
    for end, value in (("start", 0.04), ("end", 0.06))
}
AE = {"xkd.lambda_da": 0.0, "xkd.lambda_kd": 0.0}


def test_what_stands_beside_the_papers_model():
    # The row of Table S8 with the same temperatures has half the epochs.
    assert same("hmdb51", "svm") == {("xkd", "mean of all splits"): 57.4, ("xkd", "split 1"): 59.3}
    assert same("kinetics400", "linear") == {("xkd", ""): 51.4}
    assert same("kinetics400", "svm") == {("xkd", ""): 46.4}
    assert same("fsd50k", "finetune") == {("xkd", ""): 54.1}


def test_the_numbers_follow_the_variant_and_the_network():
    mats = {"model.variant": "xkd_mats"}
    assert same("esc50", "svm", **mats) == {
        ("mats", "mean of all splits"): 88.7,
        ("mats", "split 1"): 90.3,
    }
    assert same("hmdb51", "svm", "student", **mats) == {("mats_student", "split 1"): 52.4}
    assert same("ucf101", "svm", "student") == {("student", "split 1"): 84.4}
    assert same("kinetics_sound", "fusion", "student", k400_mas) == {("mas", ""): 78.8}
    assert same("ucf101", "svm", "teacher", k400_mas) == {("mas_teacher", "split 1"): 81.9}


def test_an_ablation_has_its_own_number_beside():
    assert same("ucf101", "svm", **{"xkd.refine": False}) == {("no_refine", "split 1"): 81.0}
    assert same("ucf101", "svm", **AE) == {("ae", "split 1"): 76.3}
    assert same("esc50", "svm", **AE) == {("ae", "split 1"): 90.0}
    recon = AE | {"xkd.reconstruct": ("video",)}
    assert same("ucf101", "svm", **recon) == {("recon_video", "split 1"): 76.1}
    assert same("hmdb51", "svm", **APPENDIX) == {("default", "split 1"): 58.5}
    layers = APPENDIX | {"model.projector.layers": 2}
    assert same("hmdb51", "svm", **layers) == {("projector_layers_2", "split 1"): 55.4}
    assert same("hmdb51", "svm", epochs=400.0) == {("temperature_v0.10_a0.07", "split 1"): 55.9}


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 20.0},
        {"steps": 1000},
        {"batch_size": 64},
        {"xkd.ema_video": 0.99},
        {"model.video.mask_ratio": 0.8},
        {"model.audio.encoder.depth": 6},
        {"model.projector.norm": "last"},
        {"xkd.centering": False},
        {"xkd.lambda_ae": 0.0},
        {"optimizer.weight_decay": 0.05},
        {"views.video.global_frames": 16},
        {"init_from": "RUN"},
        {"data.require": "any"},
        {"data.dataset": "generated"},
        {"data.split": "val"},
    ],
    ids=str,
)
def test_one_field_makes_another_recipe(change):
    for base in ({}, APPENDIX):
        assert same("ucf101", "svm", **base | change) == {}
    found = beside("ucf101", "svm", **change)
    [field] = change
    assert [(c.number.row, c.number.of) for c in found] == [
        ("xkd", "mean of all splits"),
        ("xkd", "split 1"),
    ]
    for c in found:
        [difference] = c.differences
        assert difference.startswith(f"{field} is ")


def test_what_does_not_change_the_method_does_not_count():
    free = {
        "seed": 3,
        "compute_dtype": "float32",
        "parallel.fsdp": 8,
        "parallel.remat": "none",
        "data.threads": 4,
        "probe.every_steps": 5,
        "log.every_steps": 5,
        "saving.keep": 1,
    }
    assert same("kinetics_sound", "svm", **free) == {("xkd", ""): 70.7}


def test_a_run_on_other_data_has_no_number_of_its_own(tmp_path):
    for dataset, expected in (("kinetics400", {("xkd", ""): 70.7}), ("kinetics_sound", {})):
        Recipe(dataset, 8.0, 128, ("clap",), ()).save(tmp_path)
        assert same("kinetics_sound", "svm", **{"data.path": str(tmp_path)}) == expected
    [found] = beside("kinetics_sound", "svm", **{"data.path": str(tmp_path)})
    assert found.differences == ("pretrained on kinetics_sound, not kinetics400",)
    [found] = beside("kinetics_sound", "svm", **{"data.sources": ("K400", "ESC50")})
    assert found.differences == ("pretrained on a mixture of K400, ESC50, not kinetics400",)


def test_an_untrained_network_has_no_number_of_its_own():
    found = beside("kinetics400", "svm", "untrained teacher")
    assert [c.number.row for c in found] == ["xkd"]
    assert found[0].differences == ("the untrained teacher, not the teacher",)


@pytest.mark.parametrize("row", rows.ROWS)
def test_the_config_of_a_row_has_no_difference_from_the_papers(row):
    config = ablation.get_config(row).to_dict()
    assert comparable.differences(config, rows.ROWS[row].network, row) == []


def test_a_saved_config_of_lists_and_fewer_fields_is_the_same():
    config = k400.get_config().to_dict()
    config["xkd"]["reconstruct"] = ["video", "audio"]
    del config["xkd"]["refine_weight"], config["data"]["require"]
    assert comparable.differences(config, "teacher", "xkd") == []


def test_without_a_config_all_main_results_are_shown():
    found = comparable.find("ucf101", "finetune", None, "teacher")
    assert [c.number.percent for c in found] == [94.1, 93.4, 93.1, 95.8]
    assert {c.differences for c in found} == {None}


def test_the_paper_says_nothing_of_other_data_and_protocols():
    assert beside("generated", "svm") == beside("ucf101", "knn") == beside("", "") == []
