"""One linear layer on the features of any labeled videos.

    python -m xkd_jax.main --config=configs/eval/linear.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: a folder of media files, `<class>/<files>`, or `train/<class>/<files>` with test/ or val/
beside it; with --config.data.dataset=generated, moving shapes with sound, made on first use; with
--config.data.dataset=prepared, the output of `python -m input_pipeline.prepare`.

Training uses 5 random clips per recording, augmented; testing uses 3. The optimizer is AdamW with a
cosine schedule for at most 20 epochs; the epoch to stop after is chosen on held-out recordings.
--config.modalities="('audio',)" uses audio instead of video. Cost: ViT-B takes 74 GFLOP per video
clip and 107 per audio clip; the layer takes seconds.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns a linear probe with few clips, for data smaller than the paper's."""
    config = probe.get_config()
    config.data.dataset = "folder"
    config.clips.test.crop = 1.0
    config.clips.train.count = 5
    config.classifier.name = "linear"
    config.classifier.linear.epoch = "best"
    return config
