"""A classifier on the features of a frozen encoder, and the documentation of the probes' fields.

    python -m xkd_jax.main --config=configs/eval/probe.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

The other probes' configs call `get_config()` and change some fields. Unchanged, it is the paper's
linear evaluation of video: a linear SVM on prepared data. The features are kept on disk: an
interrupted command resumes, and the same command again, or one with another classifier, runs no
encoder.
"""

import ml_collections

from configs.eval import classifier, labelled_data


def get_config() -> ml_collections.ConfigDict:
    """Returns a linear SVM with 25 training clips and 3 test clips per recording."""
    config = ml_collections.ConfigDict()
    config.task = "probe"
    # Seed of the random clips, their augmentation, and random weights.
    config.seed = 0
    # Result of the paper to print beside your own, such as "ucf101/svm"; empty: none.
    config.paper = ""

    # The workdir of a run, one of its checkpoints, or the output of xkd_jax.interop.export or
    # xkd_jax.interop.import_release.
    config.checkpoint = ""
    config.network = "teacher"  # teacher | student
    # Use random weights of the same architecture instead, for comparison.
    config.untrained = False
    # ("video",), ("audio",), or both. With both, each clip's features are scaled to unit length in
    # each modality and concatenated.
    config.modalities = ("video",)
    # Pixels, a multiple of the patch size; 0: as in pretraining. Position embeddings are resized.
    config.frame_size = 0
    # See configs/base.py.
    config.compute_dtype = "auto"
    # Clips at a time, over all devices and processes.
    config.batch_size = 64

    config.data = labelled_data.section("prepared")

    clips = config.clips = ml_collections.ConfigDict()
    # Number and placement of the clips of each recording, which are as long as in pretraining.
    # random: at random positions. uniform: evenly spaced from start to end; a single clip lies in
    # the middle. In training, each clip is a row. In testing, scores are averaged over the clips.
    clips.train = ml_collections.ConfigDict({"count": 25, "placement": "random", "augment": True})
    clips.test = ml_collections.ConfigDict({"count": 3, "placement": "uniform"})

    # Augmentation of the training clips.
    augment = config.augment = ml_collections.ConfigDict()
    augment.crop_scale = (0.08, 1.0)  # area of the crop over area of the frame
    augment.aspect_ratio = (3 / 4, 4 / 3)  # of the crop, drawn log-uniformly
    augment.flip_probability = 0.5
    augment.color_jitter = (0.4, 0.4, 0.4, 0.2)  # brightness, contrast, saturation, hue
    augment.gray_probability = 0.2
    augment.gain = 0.1  # volume factor U(1 - gain, 1 + gain)

    config.classifier = classifier.section("svm")
    # Partitions on whose held-out recordings C, k or the epoch is chosen. first: on the first one,
    # for all, as in the paper. each: on each one for itself, which takes longer accordingly.
    config.selection = ml_collections.ConfigDict({"tune_on": "first"})  # first | each

    # Folder of the features, which evaluations can share; empty: a folder in the workdir.
    config.features = ml_collections.ConfigDict({"cache": ""})
    return config
