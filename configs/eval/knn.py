"""Nearest neighbors among the features of any labelled videos, which the paper lacks.

    python -m xkd_jax.main --config=configs/eval/knn.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: a folder of media files, `<class>/<files>`, or `train/<class>/<files>` and test/ or val/; or,
with --config.data.dataset=generated, moving shapes with sound, made on first use; or, with
--config.data.dataset=prepared, what `python -m input_pipeline.prepare` has made.

Clips: 3 of each, evenly placed and not augmented, to compare with as to test; neighbors vote by
their cosine. Their number is chosen on held-out recordings. Nothing is trained, so it takes no
longer than the features do: 74 GFLOP a clip of video through ViT-B, 107 of sound.
"""

from configs.eval import probe


def get_config():
    """The same clips to train and to test on."""
    config = probe.get_config()
    config.data.dataset = "folder"
    config.clips.train.count = 3
    config.clips.train.placement = "uniform"
    config.clips.train.augment = False
    config.classifier.name = "knn"
    return config
