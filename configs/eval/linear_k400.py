"""One linear layer on the video features of Kinetics400.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/linear_k400.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: some 240,000 training videos of 400 classes, and 19,800 validation videos to test on. Training
uses 3 random clips per video, augmented and encoded once; testing uses 3 random ones too. The
optimizer is AdamW with a cosine schedule from 0.01 to 0 and batches of 512 for 20 epochs, without
weight decay. Nothing is chosen. linear_k400.py:release has the release's recipe: 100 epochs, a
warm-up of 10, batches of 256, and frames of 224 pixels (prepare the data with --short_side=256).

Published result (the paper's, not ours): 51.4 top-1 with XKD pretrained on Kinetics400. Cost, by
arithmetic: 780,000 clips take 58 PFLOP through ViT-B, and three hours of one core to decode; the
layer takes minutes.
"""

import ml_collections

from configs.eval import probe
from xkd_jax.config import evaluation


def get_config(recipe: str = "paper") -> ml_collections.ConfigDict:
    """Returns a linear probe with three random clips and the classifier's default values."""
    config = probe.get_config()
    config.paper = "kinetics400/linear"
    config.clips.train.count = 3
    config.clips.test.placement = "random"
    config.classifier.name = "linear"
    config.data.held_out = 0.0
    if evaluation.is_release(recipe):
        config.frame_size = 224
        config.classifier.linear.update(epochs=100, warmup_epochs=10.0, batch_size=256)
    return config
