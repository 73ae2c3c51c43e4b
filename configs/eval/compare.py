"""What pretraining has brought: features of a checkpoint beside those of fresh weights, and chance.

    python -m xkd_jax.main --config=configs/eval/compare.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: any labelled videos with sound; a folder of media files, `<class>/<files>`, or
`train/<class>/<files>` and test/ or val/; or, with --config.data.dataset=generated, moving shapes
with sound, made on first use; or, with --config.data.dataset=prepared, what
`python -m input_pipeline.prepare` has made.

It prints a table, and writes it to `results.json` and `compare.png`: a linear SVM and nearest
neighbors, on the features of video, of audio, and of both side by side; once of the checkpoint and
once of the same architecture with fresh weights. Two clips of each recording, evenly placed and not
augmented, serve to train and to test alike. C and k are chosen on held-out recordings.
Cost: ViT-B takes 74 GFLOP a clip of video and 107 of sound, twice.
"""

from configs.eval import probe


def get_config():
    """The fields are those of configs/eval/probe.py, but for what is compared."""
    config = probe.get_config()
    config.task = "compare"
    # One or both; with both, their features side by side too.
    config.modalities = ("video", "audio")
    # Out of svm, linear and knn; each with its fields in `classifier`.
    config.classifiers = ("svm", "knn")
    del config.classifier.name
    # Both are compared.
    del config.untrained
    # Of that there is nothing in the paper.
    del config.paper
    config.data.dataset = "folder"
    for use in (config.clips.train, config.clips.test):
        use.count, use.placement = 2, "uniform"
    config.clips.train.augment = False
    return config
