"""XKD on Kinetics400, the paper's main run.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/k400.py --config.data.path=DATA --workdir=RUN

Data: the training videos as published (docs/data.md), some 240,000 recordings of 10 s; labels are
not used. Model: ViT-B for video and for audio, 87M parameters each. Cost: the paper reports about
10 days on 8 V100 of 32 GB; by arithmetic, a step takes 434 GFLOP per example.

Published results after this run (paper's, not ours): linear evaluation 83.8 on UCF101, 57.4 on
HMDB51, 51.4 on Kinetics400, 89.4 on ESC50, 45.8 mAP on FSD50K; finetuned 94.1, 69.0, 77.6, 93.6
and 54.1.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns the base recipe on prepared data."""
    config = base.get_config()
    # On sixteen TPU v5e of 16 GiB, a chip needs 5.2 GiB for its 16 examples. Norms, activations and
    # attention are computed twice (docs/performance.md). "none" saves that where memory suffices,
    # as on GPUs of 80 GB with 16 examples each.
    config.parallel.remat = "dots"
    config.data.dataset = "prepared"
    config.data.split = "train"
    return config
