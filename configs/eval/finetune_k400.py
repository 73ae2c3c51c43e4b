"""Finetuning on Kinetics400.

    python -m input_pipeline.prepare --dataset=kinetics400 --short_side=256 --source=K400 \
        --output=DATA
    python -m xkd_jax.main --config=configs/eval/finetune_k400.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Trains on split train and tests on split val, with 3 clips. finetune_k400.py:release differs like
finetune_video.py:release, and has the release's warm-up of 5 epochs. Cost: 250,000 steps of some
100 TFLOP; the paper does not state a cost. Paper's result (not ours): 77.6 top-1 after pretraining
on Kinetics400.
"""

import ml_collections

from configs.eval import finetune_video
from xkd_jax.config import evaluation


def get_config(recipe: str = "paper") -> ml_collections.ConfigDict:
    """Returns the paper's recipe, which is that for UCF101 with a longer warm-up."""
    config = finetune_video.get_config(recipe)
    config.paper = "kinetics400/finetune"
    config.data.held_out = 0.0
    config.selection.epoch = "last"
    config.optimizer.warmup_epochs = 5.0 if evaluation.is_release(recipe) else 30.0
    config.evaluation.every_epochs = 20.0
    config.saving.every_steps = 2000
    return config
