"""Nearest neighbors on the features of any labeled videos; the paper has no such evaluation.

    python -m xkd_jax.main --config=configs/eval/knn.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: a folder of media files, `<class>/<files>`, or `train/<class>/<files>` with test/ or val/
beside it; with --config.data.dataset=generated, moving shapes with sound, made on first use; with
--config.data.dataset=prepared, the output of `python -m input_pipeline.prepare`.

Training and testing use 3 clips per recording, evenly spaced and not augmented. Neighbors vote with
weights from their cosine similarity. Their number is chosen on held-out recordings. Nothing is
trained, so the cost is that of the features: ViT-B takes 74 GFLOP per video clip and 107 per audio
clip.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns a kNN probe with the same kind of clips for training and testing."""
    config = probe.get_config()
    config.data.dataset = "folder"
    config.clips.test.crop = 1.0
    config.clips.train.count = 3
    config.clips.train.placement = "uniform"
    config.clips.train.augment = False
    config.classifier.name = "knn"
    return config
