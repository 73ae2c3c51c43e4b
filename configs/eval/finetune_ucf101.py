"""Finetuning on UCF101.

    python -m input_pipeline.prepare --dataset=ucf101 --short_side=256 --source=UCF101 --output=DATA
    python -m xkd_jax.main --config=configs/eval/finetune_ucf101.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Runs all three splits one after the other, each resumable; --config.data.partitions="('1',)" runs
the first one only. finetune_ucf101.py:release augments and tests as the authors' release does, see
finetune_video.py. Cost: 10,000 steps of some 100 TFLOP per split. Paper's result (not ours): 94.1
top-1, mean of the splits, after pretraining on Kinetics400.
"""

import ml_collections

from configs.eval import finetune_video


def get_config(recipe: str = "paper") -> ml_collections.ConfigDict:
    """Returns the paper's recipe, which trains on all training recordings to the last epoch."""
    config = finetune_video.get_config(recipe)
    config.paper = "ucf101/finetune"
    config.data.held_out = 0.0
    config.selection.epoch = "last"
    return config
