"""One linear layer on the audio or video features of AudioSet-20K.

    python -m input_pipeline.prepare --dataset=audioset_20k --source=AUDIOSET --output=DATA \
        --max_bad_fraction=0.5
    python -m xkd_jax.main --config=configs/eval/linear_audioset_20k.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: of the 22,160 recordings of the balanced training set and the 20,371 of the evaluation set,
those that are still there, of 10 s, each with several of 527 classes. The metric is macro mAP.
linear_audioset_20k.py:video takes video, linear_audioset_20k.py:joint the features of both, each of
unit length. DATA from --dataset=audioset trains on the balanced and the unbalanced set (2M).

Training uses 5 random clips of 4 s per recording, augmented; testing uses 3, which cover the
recording. The optimizer is that of linear_fsd50k.py, as the paper has no such evaluation. Nothing
is chosen. Cost, by arithmetic: 160,000 clips take 17 PFLOP of audio or 12 of video through ViT-B;
the layer takes minutes.
"""

import ml_collections

from configs.eval import linear_fsd50k
from xkd_jax.config import evaluation


def get_config(modality: str = "audio") -> ml_collections.ConfigDict:
    """Returns a linear probe for several classes, on `audio`, `video` or `joint` features."""
    config = linear_fsd50k.get_config()
    config.paper = ""
    config.modalities = evaluation.modalities(modality)
    config.fusion = "unit" if modality == "joint" else "plain"
    config.data.short_sound = "repeat"
    config.data.held_out = 0.0
    config.clips.train.count = 5
    config.clips.test.count = 3
    return config
