"""Linear SVM on the concatenated audio and video features of any labeled videos.

    python -m xkd_jax.main --config=configs/eval/fusion.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: a folder of media files, `<class>/<files>`, or `train/<class>/<files>` with test/ or val/
beside it; with --config.data.dataset=generated, moving shapes with sound, made on first use; with
--config.data.dataset=prepared, the output of `python -m input_pipeline.prepare`.

Training uses 5 random clips per recording, augmented; testing uses 2. Each clip's video and audio
features are scaled to unit length and concatenated. C is chosen on held-out recordings. Cost: ViT-B
takes 74 GFLOP per video clip and 107 per audio clip.
"""

import ml_collections

from configs.eval import probe


def get_config() -> ml_collections.ConfigDict:
    """Returns a probe on both modalities, with few clips."""
    config = probe.get_config()
    config.data.dataset = "folder"
    config.clips.test.crop = 1.0
    config.modalities = ("video", "audio")
    config.fusion = "unit"
    config.clips.train.count = 5
    config.clips.test.count = 2
    return config
