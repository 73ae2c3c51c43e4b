"""Finetuning of a pretrained audio encoder on labeled recordings.

    python -m xkd_jax.main --config=configs/eval/finetune_audio.py --config.checkpoint=RUN \
        --config.data.dataset=folder --config.data.path=FOLDER --workdir=OUT

Works on any labeled data, with one class per recording or several. `folder` reads videos;
`python -m input_pipeline.prepare` reads sound files too. The recipe is the paper's for ESC-50
(section 8 of docs/method.md), except that the epoch is chosen on a tenth of the training
recordings. Cost: a step of 64 clips of 4 s through ViT-B takes some 20 TFLOP and fits one
accelerator. The paper has no number for data of your own.
"""

import ml_collections

from configs.eval import finetune_video


def get_config() -> ml_collections.ConfigDict:
    """Returns the paper's recipe for ESC-50, with the epoch chosen on held-out recordings."""
    config = finetune_video.get_config()
    config.modality = "audio"
    config.frame_size = config.short_side = 0  # no frames are read
    config.batch_size = 64
    config.label_smoothing = 0.0
    config.mixing.mixup = config.mixing.cutmix = 0.0

    config.augmentation = ml_collections.ConfigDict()
    config.augmentation.gain = 0.2  # volume factor U(1 - gain, 1 + gain)
    # Numbers of masks, and the number of log-mel frames or mel bands below which the size of each
    # mask stays. Masks are filled with the clip's mean.
    config.augmentation.time_masks = 2
    config.augmentation.time_mask_frames = 20
    config.augmentation.frequency_masks = 2
    config.augmentation.frequency_mask_bands = 10
    # Time warping moves a frame that is at least this many frames from both ends by at most this
    # many frames; 0: no time warping.
    config.augmentation.time_warp = 20

    config.optimizer.learning_rate = 1e-4
    config.optimizer.final_learning_rate = 0.0
    config.optimizer.warmup_epochs = 10.0
    config.optimizer.layer_decay = 0.65
    config.optimizer.weight_decay = 0.005
    config.evaluation.crops = 1
    config.evaluation.batch_size = 64
    return config
