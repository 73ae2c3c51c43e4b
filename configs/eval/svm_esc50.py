"""Linear SVM on the audio features of ESC-50, over its five folds.

    python -m input_pipeline.prepare --dataset=esc50 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_esc50.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 2,000 recordings of 5 s in 50 classes. Training uses 100 random clips of 4 s per recording,
with changed volume, and testing uses 3, as in the authors' release (their paper says about 10
passes). C is chosen on held-out training recordings of fold 1.

Published result (the paper's, not ours): 89.4 top-1, the mean of the folds, with XKD pretrained on
Kinetics400. Cost, by arithmetic: 206,000 clips take 22 PFLOP through ViT-B. The 36 SVMs on up to
160,000 rows of 768 features take longer.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns an SVM probe on audio with 100 training clips."""
    config = probe.get_config()
    config.paper = "esc50/svm"
    config.modalities = ("audio",)
    config.clips.train.count = 100
    return config
