"""XKD on Kinetics-Sound, the 32 classes of Kinetics400 that are heard as well as seen.

    python -m input_pipeline.prepare --dataset=kinetics_sound --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/kinetics_sound.py --config.data.path=DATA --workdir=RUN

Data: 22,700 training clips of 10 s, found among those of Kinetics400. Hardware: 8 GPUs of 32 GB
as in the paper; a tenth of the steps of configs/k400.py, so about a day there. Published result
(paper's, not ours): audio-visual late fusion on Kinetics-Sound gives 81.2 after pretraining on
Kinetics400; the paper has no table for pretraining on this set.
"""

from configs import k400


def get_config():
    """The recipe of Kinetics400 as it is: 800 epochs here too."""
    return k400.get_config()
