"""Impossible configs are refused in one line: the field, its value, and what is allowed."""

import importlib
import math
import pkgutil
import re

import ml_collections
import pytest

import configs
from configs import base
from input_pipeline.programs import config_fields
from xkd_jax.config import checks

SHIPPED = [m.name for m in pkgutil.iter_modules(configs.__path__) if not m.ispkg]
FIELDS = list(config_fields.fields(base.get_config()))

# Values that a typo or a script's mistake may put into any field.
HOSTILE = (0, -1, math.nan, math.inf, -math.inf, 10**12, 1e30, (), None, "", "nonsense")
# Fields where such a value is allowed.
ALLOWED = {
    0: """seed data.threads data.max_bad_fraction epochs steps
        data.generated.train data.generated.test data.generated.val data.generated.seed
        views.video.local_count views.video.flip_probability views.video.local_gray_probability
        views.video.local_blur_probability
        views.audio.mean views.audio.global_gain views.audio.local_gain views.audio.local_count
        xkd.lambda_ae xkd.lambda_da xkd.lambda_kd xkd.teacher_temperature.warmup_epochs
        xkd.center_momentum xkd.ema_video xkd.ema_audio xkd.ema_end
        optimizer.warmup_epochs optimizer.warmup_steps optimizer.b1 optimizer.b2
        optimizer.weight_decay optimizer.clip_norm
        probe.every_steps probe.seed log.images_every_steps log.stall_minutes
        saving.keep_every_steps saving.milestones""",
    -1: "views.audio.mean",
    (): "data.sources data.weights log.writers",
    (0, 0, 0, 0): "views.video.color_jitter",
    (1e-3,) * 9: "xkd.mmd_gammas",  # any number of them
    "": "data.split init_from probe.path probe.train_split probe.test_split",
    "nonsense": "data.split init_from probe.path probe.train_split probe.test_split",
}


@pytest.fixture
def config(tmp_path):
    config = base.get_config()
    config.data.path = str(tmp_path)
    return config


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_pass(name, tmp_path):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    config.data.path = str(tmp_path)
    checks.check(config)
    assert module.__doc__


def put(config, field, value):
    """Sets a field to a value of any type, also if it does not exist, as a config file can."""
    *sections, name = field.split(".")
    for section in sections:
        config = config[section]
    with config.unlocked(), config.ignore_type():
        config[name] = value


def refusal(config):
    with pytest.raises(checks.ConfigError) as error:
        checks.check(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_takes_a_value_that_cannot_work(config, field):
    config.steps = 10  # with steps set, 0 epochs are allowed
    good = config
    for name in field.split("."):
        good = good[name]
    values = list(HOSTILE)
    if isinstance(good, tuple):
        values += [(value,) * len(good) for value in HOSTILE] + [good[:1] * 9]
    for value in values:
        if field in ALLOWED.get(value, "").split():
            put(config, field, value)
            checks.check(config)
        else:
            put(config, field, value)
            assert re.match(rf"config\.{field} is .*; allowed: .", refusal(config)), value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.path": ""}, "config.data.path is ''; allowed: the folder of the media files"),
        ({"data.path": "/nowhere"}, "config.data.path is '/nowhere'; allowed: an existing folder"),
        ({"model.variant": "mas"}, "config.model.variant is 'mas'; allowed: 'xkd', 'xkd_mas'"),
        (
            {"model.video.patch": (4, 15, 16)},
            "config.model.video.patch is (4, 15, 16); allowed: divisors of the global view's "
            "32x112x112",
        ),
        ({"model.video.patch": (16, 16, 16)}, "the local view's 8x96x96"),
        ({"model.audio.patch": (4, 15)}, "config.model.audio.patch is (4, 15)"),
        (
            {"model.video.encoder.heads": 7},
            "config.model.video.encoder.heads is 7; allowed: a divisor of "
            "model.video.encoder.width=768",
        ),
        ({"model.audio.mask_ratio": 1.0}, "config.model.audio.mask_ratio is 1.0"),
        ({"model.video.mask_ratio": 0.999}, "config.model.video.mask_ratio is 0.999"),
        (
            {"model.variant": "xkd_mas", "model.audio.encoder.depth": 6},
            "'xkd' unless both encoders have the same size",
        ),
        (
            {"model.variant": "xkd_mats", "xkd.ema_audio": 0.5},
            "config.xkd.ema_audio is 0.5; allowed: config.xkd.ema_video=0.997",
        ),
        (
            {"batch_size": 0},
            "config.batch_size is 0; allowed: a whole number from 1 to 1,048,576",
        ),
        ({"optimizer.b2": 1.0}, "allowed: a number from 0 to less than 1"),
        ({"optimizer.eps": 1e-60}, "allowed: a number above 0, at most 1"),  # 0 in float32
        (
            {"views.video.color_jitter": (0.4, 0.4, 0.4, 0.6)},
            "allowed: 4 values, a number from 0 to 1; a number from 0 to 1; a number from 0 to 1; "
            "a number from 0 to 0.5",
        ),
        (
            {"views.audio.local_crop_canvas": (0.9, 1.5)},
            "allowed: 2 values, each a number from 1 to 100",
        ),
        ({"optimizer.learning_rate": -1.0}, "config.optimizer.learning_rate is -1.0"),
        ({"views.video.local_frames": 36}, "config.views.video.local_frames is 36"),
        ({"views.audio.local_frames": 128}, "config.views.audio.local_frames is 128; allowed: at"),
        ({"views.audio.local_seconds": 5.0}, "config.views.audio.local_seconds is 5.0"),
        ({"views.video.local_scale": (0.4, 0.08)}, "config.views.video.local_scale is"),
        ({"views.video.local_blur_kernel": 8}, "config.views.video.local_blur_kernel is 8"),
        ({"xkd.alignment": "mmd"}, "config.xkd.alignment is 'mmd'; allowed: 'da', 'da1', 'da2'"),
        ({"compute_dtype": "float16"}, "config.compute_dtype is 'float16'"),
        ({"xkd.student_temperature": 0.0}, "config.xkd.student_temperature is 0.0"),
        ({"xkd.center_momentum": 1.5}, "config.xkd.center_momentum is 1.5"),
        ({"epochs": 0.0}, "config.steps is 0; allowed: at least 1, or config.epochs above 0"),
    ],
)
def test_refusals(config, changes, message):
    config.update_from_flattened_dict(changes)
    assert message in refusal(config)


def test_fields_that_a_config_file_adds_or_leaves_out_are_refused(config):
    put(config, "optimizer.learning_rat", 1.0)
    assert refusal(config) == (
        "config.optimizer.learning_rat is not a field; "
        "the nearest is config.optimizer.learning_rate"
    )
    del config.optimizer.learning_rat
    del config.model.projector
    assert "config.model.projector.layers is missing" in refusal(config)
    assert "config.task is missing" in refusal(ml_collections.ConfigDict())


def test_a_generated_data_set_need_not_exist(config, tmp_path):
    config.data.dataset = "generated"
    config.data.path = str(tmp_path / "later")
    checks.check(config)


def test_a_mixture_replaces_the_path_and_has_no_labels(config, tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    config.data.update({"dataset": "prepared", "sources": tuple(map(str, folders))})
    assert "config.data.path is '" in refusal(config)
    assert "allowed: '' with config.data.sources" in refusal(config)
    config.data.path = ""
    assert refusal(config).endswith(f"allowed: existing folders; there is no '{folders[0]}'")
    for folder in folders:
        folder.mkdir()
    checks.check(config)
    config.data.weights = (1, 2, 3)
    assert refusal(config) == (
        "config.data.weights is (1, 2, 3); allowed: (), or 2 numbers, as config.data.sources"
    )
    config.data.weights = (1, 0)
    assert "allowed: (), or values, each a whole number from 1 to 1,000,000" in refusal(config)
    config.data.weights = (1, 2)
    config.probe.every_steps = 5
    assert refusal(config).startswith("config.probe.path is ''; allowed: labeled data")
    config.probe.path = "LABELED"
    checks.check(config)
