"""Impossible configs are refused in one line: the field, its value, what is allowed."""

import importlib
import pkgutil

import pytest

import configs
from configs import base
from xkd_jax import config_check

SHIPPED = [m.name for m in pkgutil.iter_modules(configs.__path__)]


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
    config_check.check(config)
    assert module.__doc__


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
            "'xkd' unless both encoders are of one size",
        ),
        (
            {"model.variant": "xkd_mats", "xkd.ema_audio": 0.5},
            "config.xkd.ema_audio is 0.5; allowed: config.xkd.ema_video=0.997",
        ),
        ({"batch_size": 0}, "config.batch_size is 0; allowed: above 0"),
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
    with pytest.raises(config_check.ConfigError) as error:
        config_check.check(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_generated_data_set_need_not_exist(config, tmp_path):
    config.data.dataset = "generated"
    config.data.path = str(tmp_path / "later")
    config_check.check(config)
