"""One linear layer on the audio or video features of VGGSound.

    python -m input_pipeline.prepare --dataset=vggsound --source=VGGSOUND --output=DATA \
        --max_bad_fraction=0.5
    python -m xkd_jax.main --config=configs/eval/linear_vggsound.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: up to 183,000 recordings of 10 s for training and 15,400 for testing, in 309 classes. The
metric is top-1. linear_vggsound.py:video takes video, linear_vggsound.py:joint the features of
both, each of unit length.

Training uses 3 random clips of 4 s per recording, augmented; testing uses 3, which cover the
recording. The optimizer is that of linear_k400.py, as the paper has no such evaluation. Nothing is
chosen. Cost, by arithmetic: 595,000 clips take 64 PFLOP of audio or 44 of video through ViT-B; the
layer takes minutes.
"""

import ml_collections

from configs.eval import linear_k400
from xkd_jax.config import evaluation


def get_config(modality: str = "audio") -> ml_collections.ConfigDict:
    """Returns a linear probe on `audio`, `video` or `joint` features."""
    config = linear_k400.get_config()
    config.paper = ""
    config.modalities = evaluation.modalities(modality)
    config.fusion = "unit" if modality == "joint" else "plain"
    config.clips.test.placement = "uniform"
    return config
