"""One linear layer on the audio features of FSD50K.

    python -m input_pipeline.prepare --dataset=fsd50k --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/linear_fsd50k.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 36,800 recordings for training, 4,200 for validation and 10,200 for testing, of 0.3 to 30 s,
each with several of 200 classes. Training uses 10 random clips of 4 s per recording, with changed
volume; testing uses 8. The optimizer is AdamW with a constant learning rate of 0.001, weight decay
1e-5, dropout 0.3 and batches of 256 for 50 epochs. Nothing is chosen; the validation split is
scored and not trained on. Silence follows recordings that are shorter than a clip, as in the
authors' release.

Published result (the paper's, not ours): 45.8 mAP with XKD pretrained on Kinetics400. Cost, by
arithmetic: 483,000 clips take 52 PFLOP through ViT-B; the layer takes minutes.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns a linear probe on audio, with a constant learning rate."""
    config = probe.get_config()
    config.paper = "fsd50k/linear"
    config.modalities = ("audio",)
    config.data.short_sound = "silence"
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
