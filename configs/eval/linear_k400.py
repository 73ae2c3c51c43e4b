"""One linear layer on the video features of Kinetics400.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/linear_k400.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: some 240,000 training videos of 400 classes, and 19,800 validation videos to test on. Training
uses 3 random clips per video, augmented and encoded once; testing uses 3. The optimizer is AdamW
with a cosine schedule from 0.01 to 0 and batches of 512 for 20 epochs; the epoch to stop after is
chosen on held-out training videos.

Published result (the paper's, not ours): 51.4 top-1 with XKD pretrained on Kinetics400. Cost, by
arithmetic: 780,000 clips take 58 PFLOP through ViT-B, and three hours of one core to decode; the
layer takes minutes.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns a linear probe with three training clips and the classifier's default values."""
    config = probe.get_config()
    config.paper = "kinetics400/linear"
    config.clips.train.count = 3
    config.classifier.name = "linear"
    return config
