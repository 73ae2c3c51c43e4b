"""XKD on AudioSet with ViT-B for video and for audio, a point of the paper's Figure 4.

    python -m input_pipeline.prepare --dataset=audioset --source=AUDIOSET --output=DATA
    python -m xkd_jax.main --config=configs/audioset_base.py --config.data.path=DATA --workdir=RUN

Data: about 1.8 million recordings of 10 s (docs/data.md); labels are not used. Model: that of
configs/k400.py. Cost: a step is as expensive as there, and the run has 3.75 times as many. The
paper shows this run as a point of a curve and gives no number for it.
"""

import ml_collections

from configs import k400


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe for Kinetics400 with 400 epochs."""
    config = k400.get_config()
    config.epochs = 400.0
    return config
