"""XKD on Kinetics400, the paper's main run.

    python -m input_pipeline.prepare --dataset=kinetics400 --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/k400.py --config.data.path=DATA --workdir=RUN

Data: the training videos as they are published (docs/data.md), some 240,000 clips of 10 s; labels
are not used. Model: ViT-B for picture and for sound, 87M parameters each. Cost: the paper reports
about 10 days on 8 V100 of 32 GB; by arithmetic 434 GFLOP a clip and step.

Published results after this run (paper's, not ours): linear evaluation 83.8 on UCF101, 57.4 on
HMDB51, 51.4 on Kinetics400, 89.4 on ESC50, 45.8 mAP on FSD50K; finetuned 94.1, 69.0, 77.6, 93.6
and 54.1.
"""

from configs import base


def get_config():
    """The base recipe on prepared data."""
    config = base.get_config()
    # 5.2 GiB a chip for 16 on sixteen TPU v5e of 16 GiB each, at the cost of computing norms,
    # activations and attention twice (docs/performance.md). Where memory is plenty, as on GPUs of
    # 80 GB with 16 clips each, none saves that.
    config.parallel.remat = "dots"
    config.data.dataset = "prepared"
    config.data.split = "train"
    return config
