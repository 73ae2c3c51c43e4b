"""Finetuning on VGGSound.

    python -m input_pipeline.prepare --dataset=vggsound --short_side=256 --source=VGGSOUND \
        --output=DATA --max_bad_fraction=0.5
    python -m xkd_jax.main --config=configs/eval/finetune_vggsound.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Trains on split train and tests on split test, with 3 clips. finetune_vggsound.py:video finetunes
the video encoder, finetune_vggsound.py:joint both. The recipes are those of finetune_audio.py,
finetune_video.py and finetune_joint.py for 30 epochs, and nothing is chosen; they were not tuned on
these data. Cost: 86,000 steps of some 20 TFLOP for audio, 57,000 of some 100 for video. The paper
has no number for them.
"""

import ml_collections

from configs.eval import finetune_audio, finetune_joint, finetune_video
from xkd_jax.config import evaluation

_RECIPES = {"audio": finetune_audio, "video": finetune_video, "joint": finetune_joint}


def get_config(modality: str = "audio") -> ml_collections.ConfigDict:
    """Returns the recipe for `audio`, `video` or `joint`, to the last epoch."""
    evaluation.modalities(modality)
    config = _RECIPES[modality].get_config()
    config.data.held_out = 0.0
    config.selection.epoch = "last"
    config.epochs = 30.0
    config.optimizer.warmup_epochs = 3.0
    config.saving.every_steps = 2000
    return config
