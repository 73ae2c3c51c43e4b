"""Linear SVM on the video features of UCF101, over its three splits.

    python -m input_pipeline.prepare --dataset=ucf101 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_ucf101.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 13,320 videos of 101 classes. Clips: 25 random ones of each video to train on, augmented, and
3 to test on. C is chosen on held-out training videos of split 1.

Published result (the paper's, not ours): 83.8 top-1, the mean of the splits, with XKD pretrained on
Kinetics400. Cost, by arithmetic: 373,000 clips, 28 PFLOP through ViT-B and about an hour and a half
of one core to decode. Then 24 SVMs on up to 240,000 rows of 768 features: scaled up from 6,000 rows
of synthetic data, up to an hour of one core each for C to 0.01, and 20 hours for C = 1, which fewer
iterations (config.classifier.svm.max_iterations) or a shorter list of C would spare.
"""

from configs.eval import probe


def get_config():
    """The base: it is this protocol."""
    config = probe.get_config()
    config.paper = "ucf101/svm"
    return config
