"""A damaged outcome is treated as missing."""

import json

import numpy as np
import pytest

from input_pipeline import sealed
from tests.damage import damages
from xkd_jax.downstream import finetune_folder


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
