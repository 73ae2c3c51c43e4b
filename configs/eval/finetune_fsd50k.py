"""Finetuning on FSD50K.

    python -m input_pipeline.prepare --dataset=fsd50k --source=FSD50K --output=DATA
    python -m xkd_jax.main --config=configs/eval/finetune_fsd50k.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Recordings are of several classes each: binary cross-entropies, sigmoids, and macro mAP. The epoch
with the best mAP on the official validation split is tested, on 8 clips of a recording. Cost:
17,000 steps of some 20 TFLOP and 30 evaluations. Paper's result (not ours): 54.1 mAP after
pretraining on Kinetics400.
"""

from configs.eval import finetune_audio


def get_config():
    """The paper's recipe: a fixed learning rate, and the best epoch of thirty."""
    config = finetune_audio.get_config()
    config.paper = "fsd50k/finetune"
    config.epochs = 30.0
    config.dropout = 0.3
    config.optimizer.final_learning_rate = config.optimizer.learning_rate
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.weight_decay = 1e-5
    config.evaluation.every_epochs = 1.0
    config.evaluation.clips = 8
    # Ten thousand recordings thirty times over would take longer than the training.
    config.evaluation.watch_test = False
    return config
