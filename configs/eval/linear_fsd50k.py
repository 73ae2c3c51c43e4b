"""One linear layer on the audio features of FSD50K.

    python -m input_pipeline.prepare --dataset=fsd50k --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/linear_fsd50k.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 36,800 recordings to train on, 4,200 to choose on and 10,200 to test on, of 0.3 to 30 s and of
several out of 200 classes each. Clips of 4 s: 10 random ones of each to train on, of changed
volume, and 8 to test on. AdamW at a fixed 0.001, weight decay 1e-5, dropout 0.3, batches of 256,
50 epochs; after which of them to stop is chosen on the validation split.

Published result (the paper's, not ours): 45.8 mAP with XKD pretrained on Kinetics400. Cost, by
arithmetic: 483,000 clips, 52 PFLOP through ViT-B; the layer takes minutes.
"""

from configs.eval import probe


def get_config():
    """Sound alone, sigmoids, and a fixed learning rate."""
    config = probe.get_config()
    config.paper = "fsd50k/linear"
    config.modalities = ("audio",)
    config.clips.train.count = 10
    config.clips.test.count = 8
    config.classifier.name = "linear"
    linear = config.classifier.linear
    linear.learning_rate = 1e-3
    linear.schedule = "constant"
    linear.weight_decay = 1e-5
    linear.dropout = 0.3
    linear.batch_size = 256
    linear.epochs = 50
    return config
