"""Settings of Tables S1 to S7 as the paper prints them, typed once more, beside the configs."""

import importlib

import pytest

from configs import k400
from input_pipeline.programs import config_fields
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES

JITTER = (0.4, 0.4, 0.4, 0.2)  # brightness, contrast, saturation, hue


def check(config, values, prefix=""):
    found = {name: config_fields.value_of(config, prefix + name) for name in values}
    assert found == values


def evaluation(name):
    return importlib.import_module(f"configs.eval.{name}").get_config()


def test_table_s1():
    check(
        k400.get_config(),
        {
            "global_scale": (0.2, 1.0),
            "local_scale": (0.08, 0.4),
            "flip_probability": 0.5,
            "color_jitter": JITTER,
            "local_gray_probability": 0.2,
            "local_blur_probability": 0.5,
        },
        "views.video.",
    )
    for name in ("svm_ucf101", "svm_hmdb51", "svm_k400", "linear_k400"):
        linear = {
            "crop_scale": (0.08, 1.0),
            "flip_probability": 0.5,
            "color_jitter": JITTER,
            "gray_probability": 0.2,
        }
        check(evaluation(name), linear, "augmentation.")


def test_table_s2():
    check(
        k400.get_config(),
        {
            "global_gain": 0.1,
            "local_gain": 0.2,
            "local_crop_extent": (0.6, 1.5),
            "local_crop_canvas": (1.0, 1.5),
        },
        "views.audio.",
    )
    for name in ("svm_esc50", "linear_fsd50k"):
        check(evaluation(name), {"augmentation.gain": 0.1})


def test_table_s3():
    sizes = {"width": 768, "depth": 12, "heads": 12}
    decoder = {"width": 384, "depth": 4, "heads": 12}
    check(
        k400.get_config(),
        {
            "views.video.global_frames": 32,
            "views.video.global_size": 112,
            "views.video.local_frames": 8,
            "views.video.local_size": 96,
            "model.video.patch": (4, 16, 16),
            "views.audio.mel_bands": 80,
            "views.audio.global_frames": 448,
            "views.audio.local_frames": 112,
            "model.audio.patch": (4, 16),
            **{f"model.{m}.encoder.{name}": n for m in MODALITIES for name, n in sizes.items()},
            **{f"model.{m}.decoder.{name}": n for m in MODALITIES for name, n in decoder.items()},
            "model.projector.out": 8192,
            "model.projector.bottleneck": 256,
            "model.projector.hidden": 2048,
            "model.projector.layers": 3,
        },
    )


def test_table_s4():
    check(
        k400.get_config(),
        {
            "epochs": 800.0,
            "batch_size": 256,
            "optimizer.b1": 0.9,
            "optimizer.b2": 0.95,
            "optimizer.warmup_epochs": 30.0,
            "optimizer.learning_rate": 1e-4,
            "optimizer.weight_decay": 0.3,
            "xkd.ema_video": 0.997,
            "xkd.ema_audio": 0.997,
            "xkd.ema_end": 1.0,
            "model.video.mask_ratio": 0.85,
            "model.audio.mask_ratio": 0.80,
            "xkd.student_temperature": 0.1,
            "xkd.teacher_temperature.video_start": 0.1,
            "xkd.teacher_temperature.video_end": 0.1,
            "xkd.teacher_temperature.audio_start": 0.07,
            "xkd.teacher_temperature.audio_end": 0.07,
            "xkd.center_momentum": 0.9,
        },
    )


@pytest.mark.parametrize(
    ("variant", "teachers", "students"),
    [("xkd_mas", False, True), ("xkd_mats", True, True), ("xkd", False, False)],
)
def test_table_s5(variant, teachers, students):
    """Blocks that modalities share stand under `shared`; projections and decoders never do."""
    config = k400.get_config()
    config.model.variant = variant
    model = xkd.build(config)
    params = model.shapes()
    teacher = model.teacher_target(params)
    assert ("shared" in params, "shared" in teacher) == (students, teachers)
    for tree, shared in ((params, students), (teacher, teachers)):
        for m in MODALITIES:
            assert ("transformer" in tree[m]["encoder"]) != shared
            assert "patch_embedding" in tree[m]["encoder"]
    assert all("transformer" in params[m]["decoder"] for m in MODALITIES)


VIDEO = {
    "epochs": 100.0,
    "batch_size": 96,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.final_learning_rate": 1e-6,
    "optimizer.weight_decay": 0.05,
    "augmentation.rand_augment.magnitude": 9.0,
    "augmentation.rand_augment.magnitude_std": 0.05,
    "label_smoothing": 0.1,
    "drop_path": 0.0,
    "dropout": 0.5,
}


@pytest.mark.parametrize(
    ("name", "warmup", "rate", "mixup", "cutmix", "decay"),
    [
        ("k400", 30.0, 5e-4, 0.6, 0.5, 0.45),
        ("ucf101", 5.0, 5e-4, 0.6, 0.5, 0.45),
        ("hmdb51", 20.0, 1e-4, 1.0, 1.0, 0.55),
    ],
)
def test_table_s6(name, warmup, rate, mixup, cutmix, decay):
    own = {
        "optimizer.warmup_epochs": warmup,
        "optimizer.learning_rate": rate,
        "mixing.mixup": mixup,
        "mixing.cutmix": cutmix,
        "optimizer.layer_decay": decay,
    }
    check(evaluation(f"finetune_{name}"), VIDEO | own)


SOUND = {
    "batch_size": 64,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.learning_rate": 1e-4,
    "augmentation.gain": 0.2,
    "augmentation.time_mask_frames": 20,
    "augmentation.frequency_mask_bands": 10,
    "augmentation.time_masks": 2,
    "augmentation.frequency_masks": 2,
    "augmentation.time_warp": 20,
    "drop_path": 0.0,
    "optimizer.layer_decay": 0.65,
}


@pytest.mark.parametrize(
    ("name", "epochs", "final", "warmup", "decay", "epoch", "dropout"),
    [
        ("esc50", 100.0, 0.0, 10.0, 0.005, "last", 0.5),
        ("fsd50k", 30.0, 1e-4, 0.0, 1e-5, "best", 0.3),  # a fixed rate, and early stopping
    ],
)
def test_table_s7(name, epochs, final, warmup, decay, epoch, dropout):
    own = {
        "epochs": epochs,
        "optimizer.final_learning_rate": final,
        "optimizer.warmup_epochs": warmup,
        "optimizer.weight_decay": decay,
        "selection.epoch": epoch,
        "dropout": dropout,
    }
    check(evaluation(f"finetune_{name}"), SOUND | own)
