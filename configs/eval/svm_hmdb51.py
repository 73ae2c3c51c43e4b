"""Linear SVM on the video features of HMDB51, over its three splits.

    python -m input_pipeline.prepare --dataset=hmdb51 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_hmdb51.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 6,766 videos of 51 classes. Clips: 25 random ones of each video to train on, augmented, and 3
to test on. C is chosen on held-out training videos of split 1.

Published result (the paper's, not ours): 57.4 top-1, the mean of the splits, with XKD pretrained on
Kinetics400. Cost, by arithmetic: 145,000 clips, 11 PFLOP through ViT-B and about half an hour of
one core to decode; then 24 SVMs on up to 89,000 rows of 768 features.
"""

from configs.eval import probe


def get_config():
    """The base: it is this protocol."""
    config = probe.get_config()
    config.paper = "hmdb51/svm"
    return config
