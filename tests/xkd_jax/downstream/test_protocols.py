"""An evaluation is the paper's protocol only if every field and the data are."""

import importlib

import pytest

from configs.eval import attentive, finetune_ucf101, finetune_vggsound, linear_vggsound, svm_ucf101
from input_pipeline.prepared.records import Recipe
from xkd_jax.downstream import protocols
from xkd_jax.paper.tables import BENCHMARKS


def departures(module, folder, dataset="ucf101", side=128, **changes):
    Recipe(dataset, 8.0, side, ("clap",), ()).save(folder)
    config = module.get_config()
    config.data.path = str(folder)
    config.update_from_flattened_dict(changes)
    return protocols.departures(config)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids="_".join)
def test_every_benchmark_has_a_config_without_departures(benchmark, tmp_path):
    name = protocols.config_name(benchmark).removesuffix(".py")
    module = importlib.import_module(f"configs.eval.{name}")
    assert module.get_config().paper == "/".join(benchmark)
    side = 256 if protocols.needs_large_frames(benchmark) else 128
    assert departures(module, tmp_path, benchmark[0], side) == []


@pytest.mark.parametrize(
    ("module", "changes", "expected"),
    [
        (svm_ucf101, {"clips.train.count": 2}, "clips.train.count is 2, not 25"),
        (svm_ucf101, {"clips.test.placement": "random"}, "clips.test.placement is 'random', not"),
        (svm_ucf101, {"classifier.svm.c": (1.0,)}, "classifier.svm.c is (1.0,), not (1e-05,"),
        (svm_ucf101, {"classifier.name": "knn"}, "classifier.name is 'knn', not 'svm'"),
        (finetune_ucf101, {"batch_size": 8}, "batch_size is 8, not 96"),
        (finetune_ucf101, {"epochs": 3.0}, "epochs is 3.0, not 100.0"),
    ],
)
def test_a_field_of_the_protocol_counts(module, changes, expected, tmp_path):
    side = 256 if module is finetune_ucf101 else 128
    [departure] = departures(module, tmp_path, side=side, **changes)
    assert departure.startswith(expected)


def test_what_does_not_change_the_protocol_does_not_count(tmp_path):
    free = {
        "batch_size": 8,
        "network": "student",
        "data.partitions": ("1",),
        "data.threads": 3,
        "features.cache": "out",
        "compute_dtype": "float32",
    }
    assert departures(svm_ucf101, tmp_path, **free) == []


def test_other_data_count(tmp_path):
    assert departures(svm_ucf101, tmp_path, "hmdb51") == ["the data are hmdb51, not ucf101"]
    assert departures(svm_ucf101, tmp_path, side=64) == [
        "the data were prepared with --short_side=64, not 128"
    ]
    assert departures(svm_ucf101, tmp_path, **{"data.path": str(tmp_path / "no")}) == [
        "the data are not ucf101, prepared"
    ]


def test_an_evaluation_without_numbers_of_the_paper_has_no_protocol_to_depart_from(tmp_path):
    assert departures(svm_ucf101, tmp_path, paper="", **{"clips.train.count": 2}) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (finetune_vggsound.get_config("joint"), ("vggsound", "finetune", "joint")),
        (finetune_vggsound.get_config("video"), ("vggsound", "finetune", "video")),
        (linear_vggsound.get_config("joint"), ("vggsound", "linear", "joint")),
        (linear_vggsound.get_config(), ("vggsound", "linear", "audio")),
        (attentive.get_config(), ("vggsound", "attentive", "video")),
    ],
    ids=str,
)
def test_what_is_measured(config, expected, tmp_path):
    config.data.path = str(tmp_path)
    assert protocols.measured(config) == ("", *expected[1:]), "no prepared data"
    for classes, dataset in ((308, ""), (309, "vggsound")):
        Recipe("vggsound", 8.0, 128, tuple(map(str, range(classes))), ()).save(tmp_path)
        assert protocols.measured(config) == (dataset, *expected[1:])
