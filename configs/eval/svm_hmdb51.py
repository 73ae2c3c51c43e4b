"""Linear SVM on the video features of HMDB51, over its three splits.

    python -m input_pipeline.prepare --dataset=hmdb51 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_hmdb51.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 6,766 videos in 51 classes. Training uses 25 random clips per video, augmented; testing uses
3. C is chosen on held-out training videos of split 1.

Published result (the paper's, not ours): 57.4 top-1, the mean of the splits, with XKD pretrained on
Kinetics400. Cost, by arithmetic: 145,000 clips take 11 PFLOP through ViT-B, and about half an hour
of one core to decode. Then 24 SVMs are trained on up to 89,000 rows of 768 features.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns the base probe, which has this protocol."""
    config = probe.get_config()
    config.paper = "hmdb51/svm"
    return config
