"""Fields under the names of earlier versions, in files and in flags."""

import pytest

from input_pipeline.programs import config_flag, former_names


@pytest.mark.parametrize(
    ("saved", "today"),
    [
        ({"checkpoint": {"keep": 3}, "seed": 1}, {"saving": {"keep": 3}, "seed": 1}),
        (
            {"checkpoint": "RUN", "augment": {"gain": 1}},
            {"checkpoint": "RUN", "augmentation": {"gain": 1}},
        ),
        ({"selection": "best"}, {"selection": {"epoch": "best"}}),
        ({"selection": {"tune_on": "first"}}, {"selection": {"tune_on": "first"}}),
    ],
)
def test_saved_configs_are_read_with_the_names_of_today(saved, today):
    assert former_names.renamed(saved) == today
    assert former_names.renamed(today) == today


@pytest.mark.parametrize(
    ("config", "flag", "today"),
    [
        ("k400", "--config.checkpoint.every_steps=5", "saving.every_steps"),
        ("eval/finetune_ucf101", "--config.selection=last", "selection.epoch"),
        ("eval/finetune_ucf101", "--config.checkpoint.keep=5", "saving.keep"),
        ("eval/finetune_esc50", "--config.augment.gain=0.2", "augmentation.gain"),
        ("eval/svm_ucf101", "--config.augment.gain=0.2", "augmentation.gain"),
    ],
)
def test_a_flag_of_earlier_versions_is_refused_with_the_name_of_today(config, flag, today):
    with pytest.raises(SystemExit) as refusal:
        config_flag.load_config(f"configs/{config}.py", ["--config.seed=1", flag])
    assert str(refusal.value) == f"error: {flag}: this field is now called config.{today}"


@pytest.mark.parametrize("flag", ["--config.checkpoint.keep=5", "--config.selection=last"])
def test_no_name_is_given_that_the_config_does_not_have(flag):
    with pytest.raises(SystemExit) as refusal:
        config_flag.load_config("configs/eval/svm_ucf101.py", [flag])
    assert "now called" not in str(refusal.value)
