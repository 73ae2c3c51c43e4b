"""XKD on AudioSet with ViT-L for video and ViT-B for audio.

    python -m input_pipeline.prepare --dataset=audioset --source=AUDIOSET --output=DATA
    python -m xkd_jax.main --config=configs/audioset.py --config.data.path=DATA --workdir=RUN

Data: about 1.8 million recordings of 10 s (docs/data.md), whose labels are not used. Model: 305M
parameters in the video encoder, 87M in the audio encoder. The decoder of video, 512 wide with 8
blocks of 16 heads, is that of MAE for ViT-L: an assumption, since the paper gives ViT-B's alone
(Table S3). Hardware: a TPU pod or several nodes of GPUs; the paper does not state the cost of this
run. configs/audioset_base.py has ViT-B for video.

Published results after this run (paper's, not ours): linear evaluation 88.4 on UCF101, 62.2 on
HMDB51, 56.5 on Kinetics400, 93.6 on ESC50, 51.5 mAP on FSD50K; finetuned 95.8, 75.7, 80.1, 96.5
and 58.5.
"""

import ml_collections

from configs import base, k400


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe for Kinetics400 with a larger video encoder and 400 epochs."""
    config = k400.get_config()
    config.epochs = 400.0
    config.model.video.encoder = base.transformer(base.ENCODERS["large"])
    config.model.video.decoder = base.transformer(base.DECODERS["large"])
    return config
