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


def test_a_folder_is_claimed_by_one_plan(tmp_path):
    config = {"selection": {"epoch": "best"}, "dropout": 0.5}
    plan = {"config": config, "weights": "w", "recordings": "r"}
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


@pytest.mark.faults
def test_a_damaged_outcome_is_none(tmp_path, capsys):
    path = tmp_path / finetune_folder.OUTCOME
    assert finetune_folder.load_outcome(path) is None and not capsys.readouterr().out
    told = {"varied": [], "candidates": [], "chosen": 0, "counts": {}}
    sealed.save_arrays(path, {"scores": np.zeros(3), "targets": [1], "told": json.dumps(told)})
    assert finetune_folder.load_outcome(path).scores.shape == (3,)
    for damaged in damages(path.read_bytes(), 200):
        path.write_bytes(damaged)
        assert finetune_folder.load_outcome(path) is None
        assert capsys.readouterr().out.endswith("; the test is repeated\n")


@pytest.mark.faults
def test_a_full_disk_names_the_outcome_and_leaves_the_old_one(tmp_path):
    path = tmp_path / finetune_folder.OUTCOME
    outcome = Outcome("epoch", (Candidate(1, 0.5, None),), 1, np.zeros((3, 2)), [[1, 0]] * 3, {})
    finetune_folder.save_outcome(path, outcome)
    before = path.read_bytes()
    with full_disk.largest_file(len(before) - 1), pytest.raises(OSError, match=f"'{path}'$"):
        finetune_folder.save_outcome(path, outcome)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
