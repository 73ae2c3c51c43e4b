"""XKD-MAS on Kinetics400: the students share their transformer blocks.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/k400_mas.py --config.data.path=DATA --workdir=RUN

Data, hardware and time are those of configs/k400.py. Published results after this run (paper's, not
ours): linear evaluation 81.7 on UCF101, 55.1 on HMDB51, 50.1 on Kinetics400, 87.3 on ESC50, 43.0
mAP on FSD50K; finetuned 93.4, 65.9, 75.9, 92.7 and 52.3.
"""

import ml_collections

from configs import k400


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe of XKD with shared student blocks and ramped teacher temperatures."""
    config = k400.get_config()
    config.model.variant = "xkd_mas"
    # The authors' release of this variant has these ramps.
    temperature = config.xkd.teacher_temperature
    temperature.video_start, temperature.video_end = 0.09, 0.11
    temperature.audio_start, temperature.audio_end = 0.04, 0.06
    temperature.warmup_epochs = 30.0
    temperature.shape = "linear"
    return config
