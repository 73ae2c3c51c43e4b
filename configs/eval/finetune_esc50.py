"""Finetuning on ESC-50.

    python -m input_pipeline.prepare --dataset=esc50 --source=ESC50 --output=DATA
    python -m xkd_jax.main --config=configs/eval/finetune_esc50.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Runs all five folds one after the other, each resumable, and tests on 3 clips per recording.
finetune_esc50.py:release scales features to unit length before the head. Cost: 2,500 steps of some
20 TFLOP per fold. Paper's result (not ours): 93.6 top-1, mean of the folds, after pretraining on
Kinetics400.
"""

import ml_collections

from configs.eval import finetune_audio
from xkd_jax.config import evaluation


def get_config(recipe: str = "paper") -> ml_collections.ConfigDict:
    """Returns the paper's recipe, which trains on all training recordings to the last epoch."""
    config = finetune_audio.get_config()
    config.paper = "esc50/finetune"
    config.head.normalize = evaluation.is_release(recipe)
    config.data.short_sound = "silence"
    config.data.held_out = 0.0
    config.selection.epoch = "last"
    return config
