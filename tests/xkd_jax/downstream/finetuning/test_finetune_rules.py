"""Invalid finetuning configs are refused in one line: the field, its value, what is allowed."""

import importlib
import math
import pkgutil
import re

import pytest

import configs.eval
from configs.eval import finetune_audio, finetune_video
from input_pipeline.programs import config_fields
from tests.xkd_jax.config.test_checks import HOSTILE, put
from xkd_jax.config import checks
from xkd_jax.downstream import comparable
from xkd_jax.downstream.finetuning import finetune_rules

SHIPPED = [
    m.name for m in pkgutil.iter_modules(configs.eval.__path__) if m.name.startswith("finetune_")
]
RECIPES = {"video": finetune_video, "audio": finetune_audio}
FIELDS = {m: list(config_fields.fields(r.get_config())) for m, r in RECIPES.items()}

# Fields for which a hostile value is valid.
ALLOWED = {
    0: """seed frame_size epochs steps data.seed data.held_out data.threads data.max_bad_fraction
        data.generated.val data.generated.seed
        dropout drop_path label_smoothing mixing.mixup mixing.cutmix
        mixing.probability mixing.switch_probability augmentation.flip_probability
        augmentation.rand_augment.operations augmentation.rand_augment.probability
        augmentation.rand_augment.magnitude augmentation.rand_augment.magnitude_std
        augmentation.gain augmentation.time_masks augmentation.frequency_masks
        augmentation.time_warp optimizer.final_learning_rate optimizer.warmup_epochs optimizer.b1
        optimizer.b2 optimizer.weight_decay evaluation.every_epochs log.stall_minutes
        saving.keep_every_steps saving.milestones""",
    (): "data.partitions log.writers",
    "": "paper data.train_split data.test_split data.validation_split",
    "nonsense": "checkpoint data.train_split data.test_split data.validation_split",
}


def made(modality, path):
    config = RECIPES[modality].get_config()
    config.checkpoint, config.data.path = "RUN", str(path)
    return config


def refusal(config):
    with pytest.raises(checks.ConfigError) as error:
        finetune_rules.check(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_pass_and_tell_the_paper_s_number(name, tmp_path):
    module = importlib.import_module(f"configs.eval.{name}")
    config = module.get_config()
    config.checkpoint, config.data.path = "RUN", str(tmp_path)
    finetune_rules.check(config)
    assert f"--config=configs/eval/{name}.py" in module.__doc__
    if config.paper:
        first = comparable.find(*config.paper.split("/"), None, "teacher")[0].number
        assert first.model == "XKD, Kinetics400"
        assert "Paper's result (not ours)" in " ".join(module.__doc__.split())
        assert f"{first.percent} " in " ".join(module.__doc__.split())
    else:
        assert "paper has no number" in " ".join(module.__doc__.split())


@pytest.mark.parametrize(
    ("modality", "field"), [(modality, field) for modality in RECIPES for field in FIELDS[modality]]
)
def test_no_field_takes_a_value_that_cannot_work(modality, field, tmp_path):
    config = made(modality, tmp_path)
    config.steps = 10  # so that 0 epochs are valid
    good = config
    for name in field.split("."):
        good = good[name]
    values = list(HOSTILE)
    if isinstance(good, tuple):
        values += [(value,) * len(good) for value in HOSTILE if good]
    for value in values:
        put(config, field, value)
        is_fine = field in ALLOWED.get(value, "").split()
        if is_fine or (modality, field, value) == ("audio", "short_side", 0):
            finetune_rules.check(config)
        else:
            assert re.match(rf"config\.{field} is .*; allowed: .", refusal(config)), value


@pytest.mark.parametrize(
    ("modality", "changes", "message"),
    [
        ("video", {"checkpoint": ""}, "config.checkpoint is ''; allowed: the folder of a run"),
        ("video", {"data.path": ""}, "config.data.path is ''; allowed: the folder"),
        (
            "video",
            {"data.path": "/nowhere"},
            "config.data.path is '/nowhere'; allowed: an existing",
        ),
        ("video", {"paper": "ucf101"}, "config.paper is 'ucf101'; allowed: '', 'esc50/finetune'"),
        ("video", {"epochs": 0.0}, "config.steps is 0; allowed: at least 1, or config.epochs"),
        ("video", {"evaluation.crops": 2}, "config.evaluation.crops is 2; allowed: 1 or 3"),
        ("video", {"short_side": 0}, "config.short_side is 0; allowed: at least 1"),
        ("video", {"dropout": 1.0}, "config.dropout is 1.0; allowed: a number from 0 to less than"),
        (
            "video",
            {"selection.epoch": "first"},
            "config.selection.epoch is 'first'; allowed: 'last', 'best'",
        ),
        ("video", {"optimizer.layer_decay": 1.5}, "config.optimizer.layer_decay is 1.5"),
        (
            "video",
            {"augmentation.rand_augment.magnitude": 11.0},
            "config.augmentation.rand_augment.magnitude is 11.0; allowed: a number from 0 to 10",
        ),
        (
            "audio",
            {"optimizer.final_learning_rate": 0.1},
            "is 0.1; allowed: at most optimizer.learning_rate=0.0001",
        ),
        ("audio", {"frame_size": 224}, "config.frame_size is 224; allowed: 0 for audio"),
        ("audio", {"evaluation.crops": 3}, "config.evaluation.crops is 3; allowed: 1 for audio"),
        ("audio", {"modality": "video"}, "is 'video'; allowed: 'audio', or another config, such"),
    ],
)
def test_refusals(modality, changes, message, tmp_path):
    config = made(modality, tmp_path)
    config.update_from_flattened_dict(changes)
    assert message in refusal(config)


def test_the_numbers_of_the_paper():
    """The values of docs/method.md, section 8, in which the recipes differ."""

    def of(name, *fields):
        config = importlib.import_module(f"configs.eval.finetune_{name}").get_config()
        found = config.to_dict() | {
            f"{section}.{field}": value
            for section in ("optimizer", "mixing", "evaluation")
            for field, value in config[section].items()
        }
        return tuple(found[field] for field in fields)

    video = ("epochs", "batch_size", "optimizer.learning_rate", "optimizer.warmup_epochs")
    video += ("optimizer.layer_decay", "mixing.mixup", "mixing.cutmix", "dropout", "drop_path")
    assert of("k400", *video) == (100, 96, 5e-4, 30, 0.45, 0.6, 0.5, 0.5, 0)
    assert of("ucf101", *video) == (100, 96, 5e-4, 5, 0.45, 0.6, 0.5, 0.5, 0)
    assert of("hmdb51", *video) == (100, 96, 1e-4, 20, 0.55, 1.0, 1.0, 0.5, 0)
    audio = ("epochs", "batch_size", "optimizer.learning_rate", "optimizer.final_learning_rate")
    audio += ("optimizer.weight_decay", "optimizer.layer_decay", "dropout", "evaluation.clips")
    assert of("esc50", *audio) == (100, 64, 1e-4, 0, 0.005, 0.65, 0.5, 3)
    assert of("fsd50k", *audio) == (30, 64, 1e-4, 1e-4, 1e-5, 0.65, 0.3, 8)
    for name in ("k400", "ucf101", "hmdb51"):
        shared = ("frame_size", "label_smoothing", "optimizer.weight_decay", "optimizer.b2")
        assert of(name, *shared, "evaluation.clips", "evaluation.crops") == (
            *(224, 0.1, 0.05, 0.999),
            *(3, 1),
        )
    for name in ("esc50", "fsd50k"):
        assert math.isclose(sum(of(name, "mixing.mixup", "mixing.cutmix", "label_smoothing")), 0)
