"""Linear SVM on the video features of UCF101, over its three splits.

    python -m input_pipeline.prepare --dataset=ucf101 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_ucf101.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 13,320 videos in 101 classes. Training uses 25 random clips per video, augmented; testing uses
3. C is chosen on held-out training videos of split 1.

Published result (the paper's, not ours): 83.8 top-1, the mean of the splits, with XKD pretrained on
Kinetics400. Cost, by arithmetic: 373,000 clips take 28 PFLOP through ViT-B, and about an hour and a
half of one core to decode. Then 24 SVMs are trained on up to 240,000 rows of 768 features. Scaled
up from 6,000 rows of synthetic data, each takes up to an hour of one core for C up to 0.01, and 20
hours for C = 1. Fewer iterations (config.classifier.svm.max_iterations) or fewer values of C save
time.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns the base probe, which has this protocol."""
    config = probe.get_config()
    config.paper = "ucf101/svm"
    return config
