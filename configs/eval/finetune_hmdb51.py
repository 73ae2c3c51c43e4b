"""Finetuning on HMDB51.

    python -m input_pipeline.prepare --dataset=hmdb51 --short_side=256 --source=HMDB51 --output=DATA
    python -m xkd_jax.main --config=configs/eval/finetune_hmdb51.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Runs all three splits one after the other, like configs/eval/finetune_ucf101.py.
finetune_hmdb51.py:release differs as there, and has the release's layer-wise decay of 0.75. Cost:
3,700 steps of some 100 TFLOP per split. Paper's result (not ours): 69.0 top-1, mean of the splits,
after pretraining on Kinetics400.
"""

import ml_collections

from configs.eval import finetune_ucf101
from xkd_jax.config import evaluation


def get_config(recipe: str = "paper") -> ml_collections.ConfigDict:
    """Returns the paper's recipe.

    It has a lower learning rate, less layer-wise decay and more mixing than that for UCF101.
    """
    config = finetune_ucf101.get_config(recipe)
    config.paper = "hmdb51/finetune"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_epochs = 20.0
    config.optimizer.layer_decay = 0.75 if evaluation.is_release(recipe) else 0.55
    config.mixing.mixup = config.mixing.cutmix = 1.0
    return config
