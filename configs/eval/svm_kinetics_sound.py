"""Linear SVM on the video features of Kinetics-Sound.

    python -m input_pipeline.prepare --dataset=kinetics_sound --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_kinetics_sound.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 22,700 training videos of 32 classes of Kinetics400, and 1,600 validation videos to test on.
Training uses 25 random clips per video, augmented; testing uses 3. The paper does not state these
numbers. C is chosen on held-out training videos.

Published result (the paper's, not ours): 70.7 top-1 with XKD pretrained on Kinetics400. Cost, by
arithmetic: 572,000 clips take 43 PFLOP through ViT-B, and two hours of one core to decode. The 12
SVMs on up to 568,000 rows of 768 features take longer.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns the base probe."""
    config = probe.get_config()
    config.paper = "kinetics_sound/svm"
    return config
