"""Every field of the tasks `probe`, `compare` and `few_shot`: classifiers on frozen features.

As in `pretraining`: default, allowed values, meaning. The fields of all evaluations are in
`evaluation`. The defaults are the paper's linear evaluation of video, an SVM on prepared data.
"""

import ml_collections

from xkd_jax.config import evaluation, pretraining, schema
from xkd_jax.config.rules import (
    EPOCHS,
    SHARE,
    SWITCH,
    TEXT,
    Rule,
    above,
    below,
    each,
    interval,
    number,
    one_of,
    some,
    some_of,
    whole,
)
from xkd_jax.config.schema import Field, Section

CLASSIFIERS = ("svm", "linear", "knn")


def get_config() -> ml_collections.ConfigDict:
    """Returns the config of the task `probe` with the default of each field."""
    return schema.defaults(fields())


def fields() -> Section:
    """Returns the fields of the task `probe`."""
    config = evaluation.fields("probe")
    config.modalities = Field(
        ("video",),
        Rule(
            "('video',), ('audio',) or ('video', 'audio')",
            lambda x: isinstance(x, tuple) and x in (("video",), ("audio",), ("video", "audio")),
        ),
    )
    # How the features of two modalities are concatenated. plain: as they are. unit: each clip's
    # scaled to unit length in each modality.
    config.fusion = Field("plain", one_of("plain", "unit"))
    clips = config.clips = Section()
    # Number and placement of the clips of each recording, which are as long as in pretraining.
    # random: at random positions. uniform: evenly spaced from start to end; a single clip lies in
    # the middle. In training, each clip is a row. In testing, scores are averaged over the clips.
    clips.train = Section()
    clips.train.count = Field(25, whole(1, 10_000))
    clips.train.placement = Field("random", one_of("uniform", "random"))
    clips.train.augment = Field(True, SWITCH)
    clips.test = Section()
    clips.test.count = Field(3, whole(1, 10_000))
    clips.test.placement = Field("uniform", one_of("uniform", "random"))
    # Side of the central square that is cut out, over the frame's shorter side. It is resized to
    # the encoder's input. The same for training clips that are not augmented.
    clips.test.crop = Field(112 / 128, above(0, 1))

    # Augmentation of the training clips if `clips.train.augment` is set.
    augmentation = config.augmentation = Section()
    # Area of the crop over area of the frame.
    augmentation.crop_scale = Field((0.08, 1.0), interval(above(0, 1)))
    # Of the crop, drawn log-uniformly.
    augmentation.aspect_ratio = Field((3 / 4, 4 / 3), interval(above(0, 100)))
    augmentation.flip_probability = Field(0.5, SHARE)
    # Brightness, contrast, saturation, hue.
    augmentation.color_jitter = Field(
        (0.4, 0.4, 0.4, 0.2), each(SHARE, SHARE, SHARE, number(0, 0.5))
    )
    augmentation.gray_probability = Field(0.2, SHARE)
    augmentation.gain = Field(0.1, SHARE)  # volume factor U(1 - gain, 1 + gain)

    config.classifier = classifier()
    config.selection = Section()
    # Partitions on whose held-out recordings C, k or the epoch is chosen. first: on the first one,
    # for all, as in the paper. each: on each one for itself, which takes longer accordingly.
    config.selection.tune_on = Field("first", one_of("first", "each"))
    config.features = Section()
    # Folder of the features, which evaluations can share; empty: a folder in the workdir.
    config.features.cache = Field("", TEXT)
    return config


def classifier() -> Section:
    """Returns the section `classifier`, with the paper's values for Kinetics400."""
    section = Section()
    # svm: scikit-learn's LinearSVC on unscaled features. linear: one linear layer with a softmax,
    # or with sigmoids if recordings have several classes. knn: nearest neighbors by cosine
    # similarity, which the paper does not use.
    section.name = Field("svm", one_of(*CLASSIFIERS))

    svm = section.svm = Section()
    # Values to try; one of them is chosen.
    svm.c = Field((1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), some(above(0, 1e6)))
    svm.max_iterations = Field(1000, whole(1, 10**9))
    # Values of C to fit at the same time; 0: one per core. Each takes six times the memory of all
    # features, for copies of them.
    svm.jobs = Field(0, whole(0, 1024))

    linear = section.linear = Section()
    linear.learning_rate = Field(0.01, above(0, 1000))  # of AdamW, at its peak
    linear.schedule = Field("cosine", one_of("cosine", "constant"))  # cosine: to 0 at the end
    linear.warmup_epochs = Field(0.0, number(0, EPOCHS))  # linear from 0 to the peak
    linear.weight_decay = Field(0.0, number(0, 1000))
    linear.dropout = Field(0.0, below(1))  # of the features
    linear.batch_size = Field(512, whole(1, 2**20))  # clips
    linear.epochs = Field(20, whole(1, EPOCHS))
    # Epoch to stop after. last: all are trained, and nothing is chosen. best: it is chosen, like C.
    linear.epoch = Field("last", one_of("last", "best"))

    knn = section.knn = Section()
    # Values to try; one of them is chosen.
    knn.k = Field((5, 10, 20, 50, 100, 200), some(whole(1, 10**9)))
    # Temperature of the softmax over cosines that weights the neighbors' votes (DINO, arXiv
    # 2104.14294).
    knn.temperature = pretraining.fields().probe.temperature
    return section


def comparison() -> Section:
    """Returns the fields of the task `compare`: those of `probe`, except what is compared."""
    config = fields()
    config.task = Field("compare", one_of("compare"))
    # `classifier` holds the fields of each.
    config.classifiers = Field(("svm", "knn"), some_of(*CLASSIFIERS))
    del config.classifier.name
    del config.untrained  # trained and random weights are compared
    del config.paper  # which has no such comparison
    # Both modalities have unit length side by side, as in the online probe.
    del config.fusion
    return config


def few_shot() -> Section:
    """Returns the fields of the task `few_shot`: those of `probe`, and what is drawn."""
    config = fields()
    config.task = Field("few_shot", one_of("few_shot"))
    config.paper = Field("", one_of(""))  # which has no such evaluation
    # Numbers of recordings of each class to train on, and how often they are drawn.
    config.shots = Field((1, 5, 10), some(whole(1, 10**6)))
    config.draws = Field(5, whole(1, 1000))
    # Each draw of each partition chooses for itself, since another draw has other recordings.
    config.selection.tune_on = Field("each", one_of("each"))
    return config
