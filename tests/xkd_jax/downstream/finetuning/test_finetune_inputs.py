"""The loader of a finetuning draws recordings as the config says."""

import numpy as np
import pytest

from tests.input_pipeline.test_loader import FakeSource, small_config
from xkd_jax.config import finetuning
from xkd_jax.downstream.finetuning.finetune_inputs import make_loader
from xkd_jax.downstream.labeled_data import Recordings


@pytest.mark.parametrize("modality", ["audio", "joint"])
@pytest.mark.parametrize(("sampling", "share"), [("uniform", 0.1), ("balanced", 0.5)])
def test_a_rare_class_comes_as_often_as_the_sampling_says(modality, sampling, share):
    """Ids begin at 100; every tenth recording has the second class."""
    second = np.arange(100) % 10 == 0
    recordings = Recordings(FakeSource(200), np.arange(100, 200), np.stack([~second, second], 1))
    config = finetuning.get_config(modality)
    config.batch_size, config.data.sampling = 20, sampling
    loader = make_loader(config, recordings, small_config())
    ids = np.concatenate([loader.examples(step)[1] for step in range(5)])
    assert loader.steps_per_epoch == 5 and ids.min() >= 100 and ids.max() < 200
    assert np.mean(second[ids - 100]) == pytest.approx(share, abs=0.011)
