"""Few labeled recordings of each class: 1, 5 and 10, on the features of any labeled videos.

    python -m xkd_jax.main --config=configs/eval/few_shot.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: the output of `python -m input_pipeline.prepare`, of any labeled data set; with
--config.data.dataset=folder, a folder of media files, `<class>/<files>`, or `train/<class>/<files>`
with test/ or val/ beside it; with --config.data.dataset=generated, moving shapes with sound.

A linear SVM (--config.classifier.name=linear or knn for another one) is trained on 1, 5 and 10
recordings of each class (--config.shots), drawn five times (--config.draws), and tested on the
whole test set. Means and spreads are over the draws. C is chosen on as many held-out recordings
again; a single value, as in --config.classifier.svm.c="(0.1,)", needs none. Training and testing
use 3 clips per recording, evenly spaced and not augmented. --config.modalities="('audio',)" uses
audio, "('video','audio')" both. The paper has no such evaluation. Cost: that of the features; ViT-B
takes 74 GFLOP per video clip and 107 per audio clip.
"""

import ml_collections

from xkd_jax.config import probing, schema


def get_config() -> ml_collections.ConfigDict:
    """Returns an SVM on few recordings, in the same kind of clips for training and testing."""
    config = schema.defaults(probing.few_shot())
    config.clips.test.crop = 1.0
    config.clips.train.count = 3
    config.clips.train.placement = "uniform"
    config.clips.train.augment = False
    config.classifier.linear.epoch = "best"
    config.classifier.knn.k = (1, 3, 5, 10)
    return config
