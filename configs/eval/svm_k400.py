"""Linear SVM on the video features of Kinetics400.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_k400.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: some 240,000 training videos of 400 classes, and 19,800 validation videos to test on. Training
uses 3 random clips per video, augmented; testing uses 3 random ones too. C is chosen on held-out
training videos.

Published result (the paper's, not ours): 46.4 top-1 with XKD pretrained on Kinetics400. Cost, by
arithmetic: 780,000 clips take 58 PFLOP through ViT-B, and three hours of one core to decode. The 12
SVMs of 400 classes on up to 720,000 rows of 768 features take a day of many cores, and 2.2 GB of
memory for the rows alone, more for each C that is fitted at the same time
(config.classifier.svm.jobs). linear_k400.py takes minutes instead.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns an SVM probe with three random clips, for training as for testing."""
    config = probe.get_config()
    config.paper = "kinetics400/svm"
    config.clips.train.count = 3
    config.clips.test.placement = "random"
    return config
