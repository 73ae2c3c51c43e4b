"""Finetuning on Kinetics400.

    python -m input_pipeline.prepare --dataset=kinetics400 --short_side=256 --source=K400 \
        --output=DATA
    python -m xkd_jax.main --config=configs/eval/finetune_k400.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Trains on train, tests on val with 3 clips x 3 crops. Cost: 250,000 steps of some
100 TFLOP; the paper does not state its own. Paper's result (not ours): 77.6 top-1 after pretraining
on Kinetics400.
"""

from configs.eval import finetune_video


def get_config():
    """The paper's recipe: as UCF101's with a longer warm-up."""
    config = finetune_video.get_config()
    config.paper = "kinetics400/finetune"
    config.data.held_out = 0.0
    config.selection = "last"
    config.optimizer.warmup_epochs = 30.0
    config.evaluation.every_epochs = 20.0
    config.saving.every_steps = 2000
    return config
