"""Linear SVM on the features of any labelled videos.

    python -m xkd_jax.main --config=configs/eval/svm.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: a folder of media files, `<class>/<files>`, or `train/<class>/<files>` and test/ or val/; or,
with --config.data.dataset=generated, moving shapes with sound, made on first use; or, with
--config.data.dataset=prepared, what `python -m input_pipeline.prepare` has made.

Clips: 5 random ones of each to train on, augmented, and 3 to test on. C is chosen on held-out
recordings. --config.modalities="('audio',)" listens instead of looking. Cost: seconds for the SVMs
of a thousand videos; ViT-B takes 74 GFLOP a clip of video and 107 of sound.
"""

from configs.eval import probe


def get_config():
    """Few clips, for data that are not as large as the paper's."""
    config = probe.get_config()
    config.data.dataset = "folder"
    config.clips.train.count = 5
    return config
