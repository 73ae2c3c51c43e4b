"""Finetuning of both pretrained encoders, fused by an attentive head, on labeled videos with sound.

    python -m xkd_jax.main --config=configs/eval/finetune_joint.py --config.checkpoint=RUN \
        --config.data.dataset=folder --config.data.path=FOLDER --workdir=OUT

Works on any labeled videos: `folder` (FOLDER/<class>/*.mp4), `generated`, and the output of
`python -m input_pipeline.prepare`, such as Kinetics-Sound. Both encoders and the head are trained
together. The head is a pooler that attends to the tokens of both (config.head.blocks), and a linear
layer. Each modality is augmented as in finetune_video.py and finetune_audio.py; mixup and cutmix
mix both with the same partner. A recording without sound is heard as silence. The optimizer is that
of finetune_video.py. The epoch is chosen on a tenth of the training recordings. Cost: a step of 96
clips of 32x224x224 and 4 s of sound through two ViT-B takes some 130 TFLOP. The paper has no number
for joint finetuning.
"""

from xkd_jax.config import finetuning


def get_config():
    """Returns the paper's recipe for video, with the augmentation of each modality."""
    return finetuning.get_config("joint")
