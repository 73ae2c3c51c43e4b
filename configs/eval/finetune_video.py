"""Finetuning of a pretrained video encoder on labeled recordings.

    python -m xkd_jax.main --config=configs/eval/finetune_video.py --config.checkpoint=RUN \
        --config.data.dataset=folder --config.data.path=FOLDER --workdir=OUT

Works on any labeled data: `folder` (FOLDER/<class>/*.mp4), `generated`, and the output of
`python -m input_pipeline.prepare`. The recipe is the paper's for UCF101 (section 8 of
docs/method.md), except that the epoch is chosen on a tenth of the training recordings.
finetune_video.py:release augments and tests as the authors' release does, whose random erasing is
not implemented: four operations of RandAugment at magnitude 7 with deviation 0.5, and three square
crops of each test clip. The run is saved and resumed like pretraining. Cost: a step of 96 clips of
32x224x224 through ViT-B takes some 100 TFLOP; 8 TPUs of 16 GB need --config.parallel.remat=dots.
The paper has no number for data of your own. xkd_jax/config/finetuning.py lists every field with
its default, allowed values and meaning.
"""

import ml_collections

from xkd_jax.config import evaluation, finetuning


def get_config(recipe: str = "paper") -> ml_collections.ConfigDict:
    """Returns the paper's recipe for UCF101, with the epoch chosen on held-out recordings."""
    config = finetuning.get_config("video")
    if evaluation.is_release(recipe):
        config.augmentation.rand_augment.update(operations=4, magnitude=7.0, magnitude_std=0.5)
        config.evaluation.crops = 3
    return config
