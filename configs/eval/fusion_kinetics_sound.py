"""Linear SVM on the audio and video features of Kinetics-Sound, side by side.

    python -m input_pipeline.prepare --dataset=kinetics_sound --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/fusion_kinetics_sound.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 22,700 training videos of 32 classes of Kinetics400 and 1,600 to validate, on which it is
tested. Clips: 20 random ones of each to train on, augmented, and 2 to test on; of each clip, the
features of picture and sound are brought to unit length and concatenated. C is chosen on held-out
training videos.

Published result (the paper's, not ours): 81.2 top-1 with XKD pretrained on Kinetics400. Cost, by
arithmetic: 457,000 clips, 83 PFLOP through two ViT-B and two hours of one core to decode; then 12
SVMs on up to 454,000 rows of 1,536 features, which take longer.
"""

from configs.eval import probe


def get_config():
    """Both modalities, 20 clips to train on and 2 to test on."""
    config = probe.get_config()
    config.paper = "kinetics_sound/fusion"
    config.modalities = ("video", "audio")
    config.clips.train.count = 20
    config.clips.test.count = 2
    return config
