"""Linear SVM on the video features of Kinetics-Sound.

    python -m input_pipeline.prepare --dataset=kinetics_sound --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_kinetics_sound.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 22,700 training videos of 32 classes of Kinetics400 and 1,600 to validate, on which it is
tested. Clips: 25 random ones of each to train on, augmented, and 3 to test on; the paper does not
say how many. C is chosen on held-out training videos.

Published result (the paper's, not ours): 70.7 top-1 with XKD pretrained on Kinetics400. Cost, by
arithmetic: 572,000 clips, 43 PFLOP through ViT-B and two hours of one core to decode; then 12 SVMs
on up to 568,000 rows of 768 features, which take longer.
"""

from configs.eval import probe


def get_config():
    """The base, on fewer classes."""
    config = probe.get_config()
    config.paper = "kinetics_sound/svm"
    return config
