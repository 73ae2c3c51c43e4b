"""XKD-MATS on Kinetics400: the students share their transformer blocks, and the teachers theirs.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/k400_mats.py --config.data.path=DATA --workdir=RUN

Data, hardware and time are those of configs/k400.py. Published results after this run (paper's, not
ours): linear evaluation 80.1 on UCF101, 53.1 on HMDB51, 48.8 on Kinetics400, 88.7 on ESC50, 43.4
mAP on FSD50K; finetuned 93.1, 65.7, 75.7, 92.9 and 53.8.
"""

import ml_collections

from configs import k400


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe of XKD with shared student blocks and shared teacher blocks."""
    config = k400.get_config()
    config.model.variant = "xkd_mats"
    return config
