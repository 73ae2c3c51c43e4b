"""Finetuning of a pretrained audio encoder on labeled recordings.

    python -m xkd_jax.main --config=configs/eval/finetune_audio.py --config.checkpoint=RUN \
        --config.data.dataset=folder --config.data.path=FOLDER --workdir=OUT

Works on any labeled data, with one class per recording or several. `folder` reads videos;
`python -m input_pipeline.prepare` reads sound files too. The recipe is the paper's for ESC-50
(section 8 of docs/method.md), except that the epoch is chosen on a tenth of the training
recordings. Cost: a step of 64 clips of 4 s through ViT-B takes some 20 TFLOP and fits one
accelerator. The paper has no number for data of your own.
"""

from xkd_jax.config import finetuning


def get_config():
    """Returns the paper's recipe for ESC-50, with the epoch chosen on held-out recordings."""
    config = finetuning.get_config("audio")
    config.frame_size = config.short_side = 0  # no frames are read
    config.batch_size = 64
    config.label_smoothing = 0.0
    config.mixing.mixup = config.mixing.cutmix = 0.0

    config.optimizer.learning_rate = 1e-4
    config.optimizer.final_learning_rate = 0.0
    config.optimizer.warmup_epochs = 10.0
    config.optimizer.layer_decay = 0.65
    config.optimizer.weight_decay = 0.005
    config.evaluation.crops = 1
    config.evaluation.batch_size = 64
    return config
