"""Another finetuning's folder is refused, and a damaged outcome is treated as missing."""

import json

import numpy as np
import pytest

from input_pipeline.files import sealed
from tests import full_disk
from tests.damage import damages
from xkd_jax.config.checks import ConfigError
from xkd_jax.downstream.finetuning import finetune_folder
from xkd_jax.downstream.selection import Candidate, Outcome

CONFIG = {"selection": {"epoch": "best"}, "dropout": 0.5}
PLAN = {"config": CONFIG, "weights": "w", "recordings": "r"}


def test_a_folder_is_claimed_by_one_plan(tmp_path):
    plan, config = PLAN, PLAN["config"]
    finetune_folder.claim(tmp_path / "new", plan)
    finetune_folder.claim(tmp_path / "new", plan)
    with pytest.raises(ConfigError, match=r"config\.dropout: 0\.5 -> 0\.1; allowed: the same"):
        finetune_folder.claim(tmp_path / "new", {**plan, "config": {**config, "dropout": 0.1}})
    with pytest.raises(ConfigError, match=r"config\.data\.path has different recordings now"):
        finetune_folder.claim(tmp_path / "new", {**plan, "recordings": "s"})
    # A plan of an earlier version has a former name.
    former = {**plan, "config": {**config, "selection": "best"}}
    finetune_folder.claim(tmp_path / "old", former)
    finetune_folder.claim(tmp_path / "old", plan)


@pytest.mark.parametrize("name", ["checkpoints/2/x", finetune_folder.OUTCOME])
def test_results_without_their_plan_are_not_claimed(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"has lost plan\.json"):
        finetune_folder.claim(tmp_path, PLAN)
    assert not (tmp_path / "plan.json").exists()


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"config": 3}'])
def test_a_plan_that_is_none_is_damaged(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        finetune_folder.claim(tmp_path, PLAN)
    (tmp_path / "plan.json").write_text(json.dumps({**PLAN, "config": None}))
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        finetune_folder.claim(tmp_path, PLAN)


def save_outcome(path):
    outcome = Outcome("epoch", (), 0, np.zeros(3), np.ones(1, int), {})
    finetune_folder.save_outcome(path, outcome, PLAN)


def test_an_outcome_of_another_plan_is_none(tmp_path, capsys):
    path = tmp_path / finetune_folder.OUTCOME
    save_outcome(path)
    assert finetune_folder.load_outcome(path, PLAN).scores.shape == (3,)
    assert finetune_folder.load_outcome(path, {**PLAN, "recordings": "s"}) is None
    assert "of another finetuning or version; the test is repeated" in capsys.readouterr().out
    sealed.save_arrays(path, {"features": np.zeros(3)})
    assert finetune_folder.load_outcome(path, PLAN) is None


@pytest.mark.faults
def test_a_damaged_outcome_is_none(tmp_path, capsys):
    path = tmp_path / finetune_folder.OUTCOME
    assert finetune_folder.load_outcome(path, PLAN) is None and not capsys.readouterr().out
    save_outcome(path)
    assert finetune_folder.load_outcome(path, PLAN).scores.shape == (3,)
    for damaged in damages(path.read_bytes(), 200):
        path.write_bytes(damaged)
        assert finetune_folder.load_outcome(path, PLAN) is None
        assert capsys.readouterr().out.endswith("; the test is repeated\n")


@pytest.mark.faults
def test_a_full_disk_names_the_outcome_and_leaves_the_old_one(tmp_path):
    path = tmp_path / finetune_folder.OUTCOME
    outcome = Outcome("epoch", (Candidate(1, 0.5, None),), 1, np.zeros((3, 2)), [[1, 0]] * 3, {})
    finetune_folder.save_outcome(path, outcome, PLAN)
    before = path.read_bytes()
    with full_disk.largest_file(len(before) - 1), pytest.raises(OSError, match=f"'{path}'$"):
        finetune_folder.save_outcome(path, outcome, PLAN)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
