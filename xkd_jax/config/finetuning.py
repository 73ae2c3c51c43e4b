"""Every field of the task `finetune`, for video, for audio, and for both together.

As in `pretraining`: default, allowed values, meaning. The fields of all evaluations are in
`evaluation`. The defaults are the paper's recipe for UCF101, except that the epoch is chosen
on a tenth of the training recordings.
"""

import ml_collections

from xkd_jax.config import evaluation, pretraining, schema
from xkd_jax.config.rules import (
    FRAMES,
    PIXELS,
    SHARE,
    SWITCH,
    Rule,
    above,
    below,
    interval,
    number,
    one_of,
    whole,
)
from xkd_jax.config.schema import Field, Section

JOINT = "joint"
MOST_BLOCKS = 4  # of an attentive pooler


def get_config(modality: str) -> ml_collections.ConfigDict:
    """Returns the config with the default of each field, for `video`, `audio` or `joint`."""
    return schema.defaults(fields(modality))


def fields(modality: str) -> Section:
    """Returns the fields of the task `finetune`, for `video`, `audio` or `joint`."""
    base = pretraining.fields()
    config = evaluation.fields("finetune")
    config.modality = Field(modality, _only(modality))
    config.frame_size = config.frame_size.with_default(224)
    # Shorter side of the frames decoded from media files, in pixels. Prepared data keep their size.
    config.short_side = Field(256, whole(0, PIXELS))
    config.batch_size = config.batch_size.with_default(96)  # clips per step
    # Passes over the training recordings, with one clip of each. If `steps` is not 0, it sets the
    # length of the run instead.
    config.epochs = base.epochs.with_default(100.0)
    config.steps = base.steps
    # Without a validation split, this share of the training recordings is not trained on. It gives
    # the scores during training and the choice of the epoch.
    config.data.held_out = config.data.held_out.with_default(0.1)
    config.data.sampling = evaluation.sampling()

    config.dropout = Field(0.5, below(1))  # of the head's input features
    config.head = Section()
    if modality == JOINT:
        # Blocks of the pooler on the tokens of both encoders: the last one is cross-attention from
        # a learned query, those before it are self-attention over all tokens.
        config.head.blocks = Field(1, whole(1, MOST_BLOCKS))
    else:
        # Whether to scale features to unit length, before dropout.
        config.head.normalize = Field(False, SWITCH)
    config.drop_path = Field(0.0, below(1))  # in the last block; grows linearly from 0 in the first
    config.label_smoothing = Field(0.1, below(1))
    mixing = config.mixing = Section()
    # Parameters of the symmetric Beta distributions of the mixed shares; 0: off.
    mixing.mixup = Field(0.6, number(0, 1000))
    mixing.cutmix = Field(0.5, number(0, 1000))
    mixing.probability = Field(1.0, SHARE)  # of mixing at all
    mixing.switch_probability = Field(0.5, SHARE)  # of cutmix if both are on

    augmentations = {
        "video": video_augmentation,
        "audio": audio_augmentation,
        JOINT: both_augmentations,
    }
    config.augmentation = augmentations[modality]()

    optimizer = config.optimizer = Section()
    # Learning rate of the head, not scaled by the batch size: linear from 0 to the peak during the
    # warm-up, then a cosine to the final value.
    optimizer.learning_rate = base.optimizer.learning_rate.with_default(5e-4)
    optimizer.final_learning_rate = Field(1e-6, number(0, 1000))
    optimizer.warmup_epochs = base.optimizer.warmup_epochs.with_default(5.0)
    # Factor of the learning rate from each block to the one below it, and to the embeddings.
    optimizer.layer_decay = Field(0.45, above(0, 1))
    optimizer.b1 = base.optimizer.b1
    optimizer.b2 = base.optimizer.b2.with_default(0.999)
    optimizer.eps = base.optimizer.eps
    # Not applied to position embeddings, the CLS token, biases and other 1-d parameters.
    optimizer.weight_decay = base.optimizer.weight_decay.with_default(0.05)

    config.selection = Section()
    # The epoch whose weights are tested. last: the final one. best: of the epochs with an
    # evaluation, the one with the best score on the validation split or on held-out recordings.
    config.selection.epoch = Field("best", one_of("last", "best"))
    scoring = config.evaluation = Section()
    scoring.every_epochs = base.epochs.with_default(10.0)  # also at the end; 0: only at the end
    # Number of evenly spaced clips per recording, and of square crops per clip. Probabilities are
    # averaged over all of them.
    scoring.clips = Field(3, whole(1, 10_000))
    scoring.crops = Field(1, Rule("1 or 3", lambda x: type(x) is int and x in (1, 3)))
    scoring.batch_size = config.batch_size.with_default(32)  # clips at a time
    # Whether each evaluation scores the test set too. It shows the result of choosing the epoch on
    # the test set. Nothing else depends on it.
    scoring.watch_test = Field(True, SWITCH)

    # The rest is as in pretraining.
    config.log = base.log
    del config.log.images_every_steps
    config.saving = base.saving
    config.saving.every_steps = base.saving.every_steps.with_default(500)
    config.saving.keep = base.saving.keep.with_default(1)
    config.parallel = base.parallel
    del config.parallel.accumulate
    return config


def modalities(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the modalities that a finetuning or an attentive probe is of."""
    if "modalities" in config:
        return config.modalities
    return ("video", "audio") if config.modality == JOINT else (config.modality,)


def augmentation(config: ml_collections.ConfigDict, modality: str) -> ml_collections.ConfigDict:
    """Returns the section with the augmentation of a modality."""
    return config.augmentation.get(modality, config.augmentation)


def video_augmentation() -> Section:
    """Returns the fields of the augmentation of video."""
    section = Section()
    # Area of the crop over area of the frame. The paper names no range; this is the release's.
    section.crop_scale = Field((0.2, 0.766), interval(above(0, 1)))
    # Of the crop, drawn log-uniformly.
    section.aspect_ratio = Field((3 / 4, 4 / 3), interval(above(0, 100)))
    section.flip_probability = Field(0.5, SHARE)
    rand_augment = section.rand_augment = Section()
    rand_augment.operations = Field(2, whole(0, 64))  # number of successive operations
    rand_augment.probability = Field(0.5, SHARE)  # of each
    rand_augment.magnitude = Field(9.0, number(0, 10))  # the mean
    rand_augment.magnitude_std = Field(0.05, number(0, 1000))
    # Whether larger magnitudes change a view more, whatever the operation (`inc1` of the library
    # timm); else posterize, solarize and the changes of color are those of timm's plain set.
    rand_augment.increasing = Field(True, SWITCH)
    return section


def audio_augmentation() -> Section:
    """Returns the fields of the augmentation of audio."""
    section, views = Section(), pretraining.fields().views
    section.gain = Field(0.2, SHARE)  # volume factor U(1 - gain, 1 + gain)
    # Numbers of masks, and the number of log-mel frames or mel bands below which the size of each
    # mask stays. Masks are filled with the clip's mean.
    section.time_masks = Field(2, whole(0, 1024))
    section.time_mask_frames = Field(20, whole(1, FRAMES))
    section.frequency_masks = Field(2, whole(0, 1024))
    section.frequency_mask_bands = Field(10, whole(1, 1024))
    # Time warping moves a frame that is at least this many frames from both ends by at most this
    # many frames; 0: no time warping.
    section.time_warp = Field(20, whole(0, FRAMES))
    # Random resized crop, the last of all: range of its extents, and extents (frequency, time) of
    # the zero-padded canvas that it is taken from, both relative to the log-mel's. With 1 for all
    # four there is no crop.
    section.crop_extent = views.audio.local_crop_extent
    section.crop_canvas = views.audio.local_crop_canvas
    return section


def both_augmentations() -> Section:
    """Returns a section for the augmentation of each modality."""
    section = Section()
    section.video = video_augmentation()
    section.audio = audio_augmentation()
    return section


def _only(modality: str) -> Rule:
    """Allows one modality, and says which config is for another one."""
    other = "audio" if modality == "video" else "video"
    return Rule(
        f"{modality!r}, or another config, such as configs/eval/finetune_{other}.py",
        lambda x: isinstance(x, str) and x == modality,
    )
