"""Finetuning on AudioSet-20K.

    python -m input_pipeline.prepare --dataset=audioset_20k --short_side=256 --source=AUDIOSET \
        --output=DATA --max_bad_fraction=0.5
    python -m xkd_jax.main --config=configs/eval/finetune_audioset_20k.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Trains on the balanced training set and tests on the evaluation set, with 3 clips. Each recording
has several classes, so the loss is a binary cross-entropy per class, and the metric is macro mAP.
finetune_audioset_20k.py:video finetunes the video encoder, finetune_audioset_20k.py:joint both. The
recipes are those of finetune_audio.py, finetune_video.py and finetune_joint.py for 60 epochs, and
nothing is chosen; they were not tuned on these data. The whole of AudioSet (2M) is DATA from
--dataset=audioset with --config.data.sampling=balanced, which holds rare classes more often, and
fewer epochs (--config.epochs=5 --config.optimizer.warmup_epochs=0.5). Cost: 19,000 steps of some 20
TFLOP for audio, 12,500 of some 100 for video. The paper has no number for them.
"""

import ml_collections

from configs.eval import finetune_vggsound


def get_config(modality: str = "audio") -> ml_collections.ConfigDict:
    """Returns the recipe for `audio`, `video` or `joint`, to the last epoch."""
    config = finetune_vggsound.get_config(modality)
    config.label_smoothing = 0.0
    config.epochs = 60.0
    config.optimizer.warmup_epochs = 4.0
    config.evaluation.every_epochs = 20.0
    return config
