"""A pretrained audio encoder finetuned on labelled recordings.

    python -m xkd_jax.main --config=configs/eval/finetune_audio.py --config.checkpoint=RUN \
        --config.data.dataset=folder --config.data.path=FOLDER --workdir=OUT

Works on any labelled data, of one class a recording or of several: `folder` takes videos,
`python -m input_pipeline.prepare` sound files as well. The recipe is the paper's for ESC-50
(section 8 of docs/method.md), but for the epoch, which is chosen on a tenth of the training
recordings. Cost: a step of 64 clips of 4 s through ViT-B is some 20 TFLOP, for one accelerator. The
paper has no number for data of your own.
"""

import ml_collections

from configs.eval import finetune_video


def get_config() -> ml_collections.ConfigDict:
    """The paper's recipe for ESC-50, its epoch chosen on held-out recordings."""
    config = finetune_video.get_config()
    config.modality = "audio"
    config.frame_size = config.short_side = 0  # no frames are seen
    config.batch_size = 64
    config.label_smoothing = 0.0
    config.mixing.mixup = config.mixing.cutmix = 0.0

    config.augmentation = ml_collections.ConfigDict()
    config.augmentation.gain = 0.2  # volume factor U(1 - gain, 1 + gain)
    # Masks of less than so many log-mel frames, or mel bands, filled with the clip's mean.
    config.augmentation.time_masks = 2
    config.augmentation.time_mask_frames = 20
    config.augmentation.frequency_masks = 2
    config.augmentation.frequency_mask_bands = 10
    # A frame at least so many from both ends is moved by at most so many; 0: none.
    config.augmentation.time_warp = 20

    config.optimizer.learning_rate = 1e-4
    config.optimizer.final_learning_rate = 0.0
    config.optimizer.warmup_epochs = 10.0
    config.optimizer.layer_decay = 0.65
    config.optimizer.weight_decay = 0.005
    config.evaluation.crops = 1
    config.evaluation.batch_size = 64
    return config
