"""A classifier on the features of a frozen encoder, and where every field of such is documented.

    python -m xkd_jax.main --config=configs/eval/probe.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

The other files for probes start from `get_config()` here and change what makes them different. As
it stands, it is the paper's linear evaluation of video: a linear SVM on prepared data. The features
are kept on disk, so that the same command again, or one with another classifier, needs no encoder;
an interrupted one goes on.
"""

import ml_collections

from configs.eval import classifier, labelled_data


def get_config() -> ml_collections.ConfigDict:
    """A linear SVM on 25 clips a recording to train on, and 3 to test on."""
    config = ml_collections.ConfigDict()
    config.task = "probe"
    # Of the clips that are drawn, their augmentation, and untrained weights.
    config.seed = 0
    # Which of the paper's results to print beside one's own, as "ucf101/svm"; empty: none.
    config.paper = ""

    # The workdir of a run, one of its checkpoints, or what xkd_jax.interop.export or
    # xkd_jax.interop.import_release wrote.
    config.checkpoint = ""
    config.network = "teacher"  # teacher | student
    # The same architecture with fresh weights instead, to compare with.
    config.untrained = False
    # ("video",), ("audio",), or both: then each clip's features are of unit length in either, and
    # side by side.
    config.modalities = ("video",)
    # Pixels, a multiple of the patch's; 0: as in pretraining. Positions are resized.
    config.frame_size = 0
    # See configs/base.py.
    config.compute_dtype = "auto"
    # Clips at a time, over all devices and processes.
    config.batch_size = 64

    config.data = labelled_data.section("prepared")

    clips = config.clips = ml_collections.ConfigDict()
    # Clips of each recording, of the pretraining's length. random: anywhere. uniform: evenly from
    # the first to the last, a single one in the middle. In training each clip is a row; in testing
    # the scores of a recording's clips are averaged.
    clips.train = ml_collections.ConfigDict({"count": 25, "placement": "random", "augment": True})
    clips.test = ml_collections.ConfigDict({"count": 3, "placement": "uniform"})

    # What is done to clips to train on where they are augmented.
    augment = config.augment = ml_collections.ConfigDict()
    augment.crop_scale = (0.08, 1.0)  # area of the crop over area of the frame
    augment.aspect_ratio = (3 / 4, 4 / 3)  # of the crop, drawn log-uniformly
    augment.flip_probability = 0.5
    augment.color_jitter = (0.4, 0.4, 0.4, 0.2)  # brightness, contrast, saturation, hue
    augment.gray_probability = 0.2
    augment.gain = 0.1  # volume factor U(1 - gain, 1 + gain)

    config.classifier = classifier.section("svm")
    # On which partition's held-out recordings C, the epoch or k is chosen: of the first for all of
    # them, as in the paper; or of each for itself, which takes that much longer.
    config.selection = ml_collections.ConfigDict({"tune_on": "first"})  # first | each

    # Folder of all features; empty: in the workdir. To share between evaluations.
    config.features = ml_collections.ConfigDict({"cache": ""})
    return config
