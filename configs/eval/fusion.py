"""Linear SVM on the audio and video features of any labelled videos, side by side.

    python -m xkd_jax.main --config=configs/eval/fusion.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: a folder of media files, `<class>/<files>`, or `train/<class>/<files>` and test/ or val/; or,
with --config.data.dataset=generated, moving shapes with sound, made on first use; or, with
--config.data.dataset=prepared, what `python -m input_pipeline.prepare` has made.

Clips: 5 random ones of each to train on, augmented, and 2 to test on; of each clip, the features of
picture and sound are brought to unit length and concatenated. C is chosen on held-out recordings.
Cost: ViT-B takes 74 GFLOP a clip of video and 107 of sound.
"""

from configs.eval import probe


def get_config():
    """Both modalities, and few clips."""
    config = probe.get_config()
    config.data.dataset = "folder"
    config.modalities = ("video", "audio")
    config.clips.train.count = 5
    config.clips.test.count = 2
    return config
