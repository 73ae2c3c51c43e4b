"""Linear SVM on the audio features of ESC-50, over its five folds.

    python -m input_pipeline.prepare --dataset=esc50 --source=SOURCE --output=DATA
    python -m xkd_jax.main --config=configs/eval/svm_esc50.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: 2,000 recordings of 5 s and 50 classes. Clips: 100 random ones of 4 s of each to train on, of
changed volume, and 3 to test on, as in the authors' release (their paper says about 10 passes). C
is chosen on held-out training recordings of fold 1.

Published result (the paper's, not ours): 89.4 top-1, the mean of the folds, with XKD pretrained on
Kinetics400. Cost, by arithmetic: 206,000 clips, 22 PFLOP through ViT-B; then 36 SVMs on up to
160,000 rows of 768 features, which take longer.
"""

from configs.eval import probe


def get_config():
    """100 clips of sound to train on."""
    config = probe.get_config()
    config.paper = "esc50/svm"
    config.modalities = ("audio",)
    config.clips.train.count = 100
    return config
