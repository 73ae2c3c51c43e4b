"""One linear layer on the video features of Kinetics400.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/linear_k400.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: some 240,000 training videos of 400 classes and 19,800 to validate, on which it is tested.
Clips: 3 of each, random and augmented to train on, encoded once. AdamW at 0.01 along a cosine to 0,
batches of 512, 20 epochs; after which of them to stop is chosen on held-out training videos.

Published result (the paper's, not ours): 51.4 top-1 with XKD pretrained on Kinetics400. Cost, by
arithmetic: 780,000 clips, 58 PFLOP through ViT-B and three hours of one core to decode; the layer
takes minutes.
"""

from configs.eval import probe


def get_config():
    """Three clips to train on; the classifier's own defaults are for this."""
    config = probe.get_config()
    config.paper = "kinetics400/linear"
    config.clips.train.count = 3
    config.classifier.name = "linear"
    return config
