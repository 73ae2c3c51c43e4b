"""Invalid probe configs are refused in one line: the field, its value, what is allowed."""

import importlib
import math
import re

import pytest

from configs.eval import probe
from input_pipeline.programs import config_fields
from tests import shipped_configs
from tests.xkd_jax.config.test_checks import put
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream import probe_rules

FIELDS = list(config_fields.fields(probe.get_config()))

HOSTILE = (0, -1, math.nan, math.inf, -math.inf, 10**12, 1e30, (), None, "", "nonsense")
# Fields for which a hostile value is valid.
ALLOWED = {
    0: """seed frame_size data.held_out data.seed data.threads data.max_bad_fraction
        data.generated.val data.generated.seed
        augmentation.flip_probability augmentation.gray_probability augmentation.gain
        classifier.svm.jobs classifier.linear.weight_decay classifier.linear.dropout
        classifier.linear.warmup_epochs""",
    (): "data.partitions",
    ("nonsense",): "data.partitions",
    (0, 0, 0, 0): "augmentation.color_jitter",
    (1e-5,) * 9: "classifier.svm.c",  # any number of values
    (5,) * 9: "classifier.knn.k",
    "": "paper data.train_split data.test_split data.validation_split features.cache",
    "nonsense": """checkpoint data.train_split data.test_split data.validation_split
        features.cache""",
}


@pytest.fixture
def config(tmp_path):
    config = probe.get_config()
    config.data.path = config.checkpoint = str(tmp_path)
    return config


def refusal(config):
    with pytest.raises(ConfigError) as error:
        probe_rules.check(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", list(shipped_configs.probes()))
def test_shipped_configs_pass(name, tmp_path):
    module = importlib.import_module(f"configs.eval.{name}")
    config = module.get_config()
    config.data.path = config.checkpoint = str(tmp_path)
    probe_rules.check(config)
    assert f"--config=configs/eval/{name}.py" in module.__doc__
    # The docstring says that the number is the paper's.
    assert ("(the paper's, not ours)" in module.__doc__) == bool(config.paper)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_takes_a_value_that_cannot_work(config, field):
    good = config
    for name in field.split("."):
        good = good[name]
    values = list(HOSTILE)
    if isinstance(good, tuple):
        values += [(value,) * max(len(good), 1) for value in HOSTILE] + [good[:1] * 9]
    for value in values:
        put(config, field, value)
        if field in ALLOWED.get(value, "").split():
            probe_rules.check(config)
        else:
            assert re.match(rf"config\.{field} is .*; allowed: .", refusal(config)), value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": ""}, "config.checkpoint is ''; allowed: the folder of a run"),
        ({"data.path": ""}, "config.data.path is ''; allowed: the folder"),
        ({"data.path": "/nowhere"}, "config.data.path is '/nowhere'; allowed: an existing folder"),
        ({"modalities": ("sound",)}, "config.modalities is ('sound',); allowed: ('video',)"),
        ({"modalities": ("audio", "video")}, "('video', 'audio')"),
        ({"modalities": ("audio",), "frame_size": 224}, "config.frame_size is 224; allowed: 0"),
        ({"network": "both"}, "config.network is 'both'; allowed: 'teacher', 'student'"),
        ({"paper": "ucf101"}, "config.paper is 'ucf101'; allowed: '', 'esc50/finetune'"),
        ({"clips.train.placement": "middle"}, "allowed: 'uniform', 'random'"),
        ({"clips.test.crop": 1.5}, "config.clips.test.crop is 1.5; allowed: a number above 0, at"),
        ({"fusion": "mean"}, "config.fusion is 'mean'; allowed: 'plain', 'unit'"),
        (
            {"classifier.linear.warmup_epochs": 20.0},
            "warmup_epochs is 20.0; allowed: less than classifier.linear.epochs=20",
        ),
        ({"data.held_out": 0.9}, "config.data.held_out is 0.9; allowed: a number from 0 to 0.5"),
        ({"selection.tune_on": "test"}, "config.selection.tune_on is 'test'; allowed: 'first'"),
    ],
)
def test_refusals(config, changes, message):
    config.update_from_flattened_dict(changes)
    assert message in refusal(config)


def evaluation_config(name, recipe="paper"):
    module = importlib.import_module(f"configs.eval.{name}")
    return module.get_config() if recipe == "paper" else module.get_config(recipe)


def flat(config):
    fields = {}
    for field in config_fields.fields(config):
        value = config
        for part in field.split("."):
            value = value[part]
        fields[field] = value
    return fields


_VIDEO = {
    "augmentation.rand_augment.operations": 4,
    "augmentation.rand_augment.magnitude": 7.0,
    "augmentation.rand_augment.magnitude_std": 0.5,
    "evaluation.crops": 3,
}
RELEASE = {
    "svm_esc50": {"clips.train.count": 100},
    "linear_k400": {
        "frame_size": 224,
        "classifier.linear.epochs": 100,
        "classifier.linear.warmup_epochs": 10.0,
        "classifier.linear.batch_size": 256,
    },
    "fusion_kinetics_sound": {"fusion": "unit"},
    "finetune_video": _VIDEO,
    "finetune_ucf101": _VIDEO,
    "finetune_hmdb51": _VIDEO | {"optimizer.layer_decay": 0.75},
    "finetune_k400": _VIDEO | {"optimizer.warmup_epochs": 5.0},
    "finetune_esc50": {"head.normalize": True},
    "finetune_fsd50k": {"batch_size": 128},
}


@pytest.mark.parametrize("name", RELEASE)
def test_the_release_s_recipe_differs_where_the_release_does(name):
    paper, release = flat(evaluation_config(name)), flat(evaluation_config(name, "release"))
    assert {field: x for field, x in release.items() if x != paper[field]} == RELEASE[name]
    with pytest.raises(ValueError, match="no recipe 'relase'; allowed: 'paper', 'release'"):
        evaluation_config(name, "relase")


def test_the_numbers_of_the_paper():
    """Values of appendix A.5, and where it is silent those of the release."""

    def of(name):
        return flat(evaluation_config(name))

    def clips(name):
        fields = of(name)
        names = ("train.count", "train.placement", "test.count", "test.placement")
        return tuple(fields[f"clips.{part}"] for part in names)

    for name in ("svm_ucf101", "svm_hmdb51", "svm_kinetics_sound"):
        assert clips(name) == (25, "random", 3, "uniform")
    for name in ("svm_k400", "linear_k400"):
        assert clips(name) == (3, "random", 3, "random")
    assert clips("svm_esc50") == (10, "random", 3, "uniform")
    assert clips("linear_fsd50k") == (10, "random", 8, "uniform")
    assert clips("fusion_kinetics_sound") == (20, "random", 2, "uniform")
    assert of("fusion_kinetics_sound")["fusion"] == "plain"
    for name in shipped_configs.probes():
        fields = of(name)
        if not fields["paper"]:
            continue
        assert fields["clips.test.crop"] == 0.875
        is_sound = fields["modalities"] == ("audio",)
        assert fields["data.short_sound"] == ("silence" if is_sound else "repeat")
    linear = ("learning_rate", "schedule", "weight_decay", "batch_size", "epochs", "epoch")
    k400, fsd50k = (
        tuple(of(name)[f"classifier.linear.{field}"] for field in linear)
        for name in ("linear_k400", "linear_fsd50k")
    )
    assert k400 == (0.01, "cosine", 0.0, 512, 20, "last")
    assert fsd50k == (1e-3, "constant", 1e-5, 256, 50, "last")
