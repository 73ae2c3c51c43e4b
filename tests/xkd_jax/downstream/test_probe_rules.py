"""Invalid probe configs are refused in one line: the field, its value, what is allowed."""

import importlib
import math
import pkgutil
import re

import pytest

import configs.eval
from configs.eval import probe
from tests.xkd_jax.config.test_checks import put
from xkd_jax.config.checks import ConfigError, fields_of
from xkd_jax.downstream import probe_rules

FIELDS = list(fields_of(probe.get_config()))

HOSTILE = (0, -1, math.nan, math.inf, -math.inf, 10**12, 1e30, (), None, "", "nonsense")
# Fields for which a hostile value is valid.
ALLOWED = {
    0: """seed frame_size data.held_out data.seed data.threads data.max_bad_fraction
        data.generated.val data.generated.seed
        augmentation.flip_probability augmentation.gray_probability augmentation.gain
        classifier.svm.jobs classifier.linear.weight_decay classifier.linear.dropout""",
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


def shipped():
    """Yields the names of the shipped probe configs."""
    for module in pkgutil.iter_modules(configs.eval.__path__):
        make = getattr(importlib.import_module(f"configs.eval.{module.name}"), "get_config", None)
        if make and make().task == "probe":
            yield module.name


@pytest.mark.parametrize("name", list(shipped()))
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
        ({"data.held_out": 0.9}, "config.data.held_out is 0.9; allowed: a number from 0 to 0.5"),
        ({"selection.tune_on": "test"}, "config.selection.tune_on is 'test'; allowed: 'first'"),
    ],
)
def test_refusals(config, changes, message):
    config.update_from_flattened_dict(changes)
    assert message in refusal(config)
