"""Every field of a pretraining's config: its default, its allowed values, and what it means.

    field = Field(default, rule)  # meaning

The defaults are the paper's recipe, with ViT-B for both modalities; the files in configs/ change
some of them. Numbers of equations, tables and sections are those of the paper (arXiv 2211.13929).
`rules` defines the rules; `xkd_jax.config.checks` has those that involve several fields.
"""

import ml_collections

from xkd_jax.config import schema
from xkd_jax.config.rules import (
    EPOCHS,
    FRAMES,
    PIXELS,
    SEED,
    SHARE,
    STEPS,
    SWITCH,
    TEXT,
    WEIGHT,
    above,
    any_number,
    any_of,
    below,
    each,
    interval,
    names,
    number,
    one_of,
    some,
    some_of,
    whole,
)
from xkd_jax.config.schema import Field, Section

# name: (width, depth, heads). The bases are those of Table S3. The large encoder has the 305M
# parameters of section 4.7 in ViT-L's usual size; its decoder is that of MAE (arXiv 2111.06377),
# since the paper gives none. Tiny and small encoders are common ViT sizes.
ENCODERS = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
DECODERS = {
    "tiny": (96, 4, 3),
    "small": (192, 4, 6),
    "base": (384, 4, 12),
    "large": (512, 8, 16),
}


def get_config() -> ml_collections.ConfigDict:
    """Returns the config with the default of each field."""
    return schema.defaults(fields())


def transformer(size: tuple[int, int, int]) -> ml_collections.ConfigDict:
    """Returns the config of a transformer of size (width, depth, heads)."""
    return schema.defaults(_transformer(size))


def _transformer(size: tuple[int, int, int]) -> Section:
    width, depth, heads = size
    section = Section()
    section.width = Field(width, whole(1, 65_536))
    section.depth = Field(depth, whole(1, 1024))  # number of blocks
    section.heads = Field(heads, whole(1, 65_536))  # a divisor of the width
    return section


def fields() -> Section:
    """Returns the fields of the task `pretrain`."""
    config = Section()
    config.task = Field("pretrain", one_of("pretrain"))
    config.seed = Field(0, whole(0, SEED))
    # Examples per step, over all devices and processes. MMD and centering use all of them.
    config.batch_size = Field(256, whole(1, 2**20))
    # Passes over the data. In a mixture, a pass is as many examples as there are recordings. If
    # `steps` is not 0, it sets the length of the run instead.
    config.epochs = Field(800.0, number(0, EPOCHS))
    config.steps = Field(0, whole(0, STEPS))
    # auto: bfloat16 on GPU and TPU, float32 on CPU. Weights, teachers, LayerNorm statistics,
    # softmaxes and losses are always float32.
    config.compute_dtype = Field("auto", one_of("auto", "bfloat16", "float32"))

    # The devices form a mesh (data, fsdp). All of them split the batch. Those along fsdp also split
    # weights, teachers and optimizer state, which saves memory and costs communication. fsdp must
    # divide the number of devices.
    parallel = config.parallel = Section()
    parallel.fsdp = Field(1, whole(1, 2**20))
    # What the backward pass recomputes in each block instead of keeping it. none: nothing; dots:
    # norms, activations and attention; full: everything, which takes the least memory.
    parallel.remat = Field("none", one_of("none", "dots", "full"))
    # Number of parts of a batch that a step processes one after another, to save memory for
    # activations. Gradients are averaged over the parts, and the state is updated once. MMD, its
    # gradient and the between_clips monitors are computed per part, on batch_size / accumulate
    # examples, and averaged. Nothing else changes; centers follow the mean of the whole batch.
    parallel.accumulate = Field(1, whole(1, 2**20))

    # Weights to start from: the workdir of a run, an export, a converted release, a finetuning, or
    # a ViT of MAE or VideoMAE for the encoder of video (docs/own_domain.md). Step and optimizer
    # start afresh; so do decoders, projectors and centers if there are only encoders. Ignored if
    # the workdir has a checkpoint. Empty: random weights.
    config.init_from = Field("", TEXT)

    data = config.data = Section()
    # folder: any tree of media files. generated: moving shapes with sound, made on first use.
    # prepared: output of `python -m input_pipeline.prepare`, by far the fastest to read.
    data.dataset = Field("folder", one_of("folder", "generated", "prepared"))
    data.path = Field("", TEXT)
    # prepared: a mixture of several folders instead of `path`, such as ("K400", "AUDIOSET").
    data.sources = Field((), names("K400", "AUDIOSET"))
    # Weights of these folders' shares of the examples: with (2, 1), two of three come from the
    # first. (): their numbers of recordings, so that each recording comes once in an epoch.
    data.weights = Field((), any_number(whole(1, 1_000_000)))
    # folder: top-level folder of `path` to read, where "train" also finds one named Training;
    # empty: all of them. prepared: split to read; empty: train, or the only one.
    data.split = Field("", TEXT)
    # both: train on recordings with picture and sound alone, as the release does. any: train on all
    # of them; a recording of one modality trains only that one's masked autoencoder. Files of a
    # folder all have a picture; prepare sounds first.
    data.require = Field("both", one_of("both", "any"))
    # Decoding threads; 0: one per core. Changes the speed, never the data.
    data.threads = Field(0, whole(0, 1024))
    data.prefetch = Field(2, whole(1, 1024))  # batches prepared ahead of the step
    # Share of unusable files above which a run refuses to start; a started run saves and ends.
    data.max_bad_fraction = Field(0.5, SHARE)
    # Recordings in each split of the generated data, and the seed that determines them.
    generated = data.generated = Section()
    generated.train = Field(512, whole(0, 10**6))
    generated.test = Field(128, whole(0, 10**6))
    generated.val = Field(0, whole(0, 10**6))
    generated.seed = Field(0, whole(0, SEED))

    views = config.views = Section()
    video = views.video = Section()
    # Frames per second; global_frames / frame_rate is the clip's length.
    video.frame_rate = Field(8.0, above(0, 1000))
    video.short_side = Field(112, whole(1, PIXELS))  # pixels of the decoded frames' shorter side
    video.global_frames = Field(32, whole(1, FRAMES))
    video.global_size = Field(112, whole(1, PIXELS))  # pixels, square
    # Area of the crop over area of the frame.
    video.global_scale = Field((0.2, 1.0), interval(above(0, 1)))
    video.local_count = Field(1, whole(0, 64))  # local views per example
    video.local_frames = Field(8, whole(1, FRAMES))  # consecutive frames out of the global ones
    video.local_size = Field(96, whole(1, PIXELS))
    video.local_scale = Field((0.08, 0.4), interval(above(0, 1)))
    # Of the crops, drawn log-uniformly.
    video.aspect_ratio = Field((3 / 4, 4 / 3), interval(above(0, 100)))
    video.flip_probability = Field(0.5, SHARE)
    # Brightness, contrast, saturation, hue.
    video.color_jitter = Field((0.4, 0.4, 0.4, 0.2), each(SHARE, SHARE, SHARE, number(0, 0.5)))
    video.local_gray_probability = Field(0.2, SHARE)
    video.local_blur_probability = Field(0.5, SHARE)
    video.local_blur_kernel = Field(9, whole(1, PIXELS))  # pixels, odd
    video.local_blur_sigma = Field((0.1, 2.0), interval(above(0, PIXELS)))  # pixels
    audio = views.audio = Section()
    audio.sample_rate = Field(16000, whole(1, 1_000_000))  # Hz
    audio.mel_bands = Field(80, whole(1, 1024))
    audio.window = Field(1024, whole(2, 2**20))  # samples of a Hann window, and the FFT's size
    audio.hop = Field(143, whole(1, 2**20))  # samples
    # Hz, the upper edge of the highest mel band.
    audio.max_frequency = Field(8000.0, above(0, 500_000))
    audio.log_offset = Field(1.19e-7, above(0, 1))  # log(mel + log_offset)
    # Mean and standard deviation of log-mels, for normalization.
    audio.mean = Field(-5.3688107, number(-1000, 1000))
    audio.std = Field(4.410007, above(0, 1000))
    audio.global_frames = Field(448, whole(1, FRAMES))
    audio.global_gain = Field(0.1, SHARE)  # volume factor U(1 - gain, 1 + gain)
    audio.local_count = Field(1, whole(0, 64))
    audio.local_seconds = Field(1.0, above(0, 3600))
    # Samples; local windows start at multiples of it.
    audio.local_start_step = Field(100, whole(1, 10**6))
    audio.local_frames = Field(112, whole(1, FRAMES))
    audio.local_gain = Field(0.2, SHARE)
    # Random resized crop of the local log-mel. Range of the crop's extents, and extents (frequency,
    # time) of the zero-padded canvas that it is taken from, both relative to the view's.
    audio.local_crop_extent = Field((0.6, 1.5), interval(above(0, 100)))
    audio.local_crop_canvas = Field((1.0, 1.5), each(number(1, 100), number(1, 100)))

    model = config.model = Section()
    # xkd: every network is modality-specific. xkd_mas: the students share their transformer blocks.
    # xkd_mats: the students share their blocks, and the teachers share theirs.
    model.variant = Field("xkd", one_of("xkd", "xkd_mas", "xkd_mats"))
    model.video = Section()
    model.video.patch = Field((4, 16, 16), each(*3 * [whole(1, PIXELS)]))  # frames, pixels, pixels
    model.video.mask_ratio = Field(0.85, SHARE)
    model.video.encoder = _transformer(ENCODERS["base"])
    model.video.decoder = _transformer(DECODERS["base"])
    model.audio = Section()
    model.audio.patch = Field((4, 16), each(*2 * [whole(1, FRAMES)]))  # mel bands, frames
    model.audio.mask_ratio = Field(0.80, SHARE)
    model.audio.encoder = _transformer(ENCODERS["base"])
    model.audio.decoder = _transformer(DECODERS["base"])
    projector = model.projector = Section()
    projector.layers = Field(3, whole(1, 64))
    projector.hidden = Field(2048, whole(1, 2**20))
    projector.bottleneck = Field(256, whole(1, 2**20))
    projector.out = Field(8192, whole(2, 2**24))
    # Layers that a LayerNorm follows.
    projector.norm = Field("every", one_of("every", "last", "none"))

    xkd = config.xkd = Section()
    # Weights of the terms, and the total: `sum` is that of the paper, `release` a fourteenth of it,
    # which the authors' code minimizes and for which the gradient clipping was tuned.
    xkd.lambda_ae = Field(5.0, number(0, WEIGHT))
    xkd.lambda_da = Field(1.0, number(0, WEIGHT))
    xkd.lambda_kd = Field(1.0, number(0, WEIGHT))
    xkd.total = Field("release", one_of("release", "sum"))
    # Modalities whose reconstruction is part of the total; that of the others is only logged.
    xkd.reconstruct = Field(("video", "audio"), some_of("video", "audio"))
    # Whether teachers' tokens are refined (Eqs. 4-6), for the alignment and for the targets of the
    # distillation. The ablation of section 4.4 names the alignment alone, to whose teacher's terms
    # no gradient flows, so that alone would change nothing.
    xkd.refine = Field(True, SWITCH)
    xkd.cross_attention = Field("mean", one_of("mean", "softmax"))  # softmax: Eq. S3
    # Attention row of Eq. 3. cls: that of the CLS token. With the others, encoders and decoders
    # have no CLS token (B.8): mean is the row of the mean query, rows the mean of all rows, which
    # the release takes.
    xkd.query = Field("cls", one_of("cls", "mean", "rows"))
    # ratio: Eq. 6. root: the root of the same ratio for the mean tokens, as in the release.
    xkd.refine_weight = Field("root", one_of("root", "ratio"))
    # Domain alignment (Eqs. 7-8). da1 is S1, da2 is S2.
    xkd.alignment = Field("da", one_of("da", "da1", "da2"))
    xkd.mmd_gammas = Field((1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0), some(above(0, WEIGHT)))
    xkd.mmd_root = Field(False, SWITCH)
    # Distillation (Eqs. 10-11). The teachers' temperatures go from start to end over the warm-up
    # epochs. cosine: step by step. linear: in equal parts, with one value an epoch (the release's
    # XKD-MAS).
    xkd.student_temperature = Field(0.1, above(0, 1000))
    temperature = xkd.teacher_temperature = Section()
    temperature.video_start = Field(0.1, above(0, 1000))
    temperature.video_end = Field(0.1, above(0, 1000))
    temperature.audio_start = Field(0.07, above(0, 1000))
    temperature.audio_end = Field(0.07, above(0, 1000))
    temperature.warmup_epochs = Field(30.0, number(0, EPOCHS))
    temperature.shape = Field("cosine", one_of("cosine", "linear"))
    xkd.centering = Field(True, SWITCH)
    xkd.center_momentum = Field(0.9, SHARE)
    # teacher <- m teacher + (1 - m) student after each step. Over the run, m follows a cosine from
    # the modality's start value to the common end.
    xkd.ema_video = Field(0.997, SHARE)
    xkd.ema_audio = Field(0.997, SHARE)
    xkd.ema_end = Field(1.0, SHARE)

    optimizer = config.optimizer = Section()
    optimizer.learning_rate = Field(1e-4, above(0, 1000))  # peak, not scaled by the batch size
    # Length of the linear warm-up from 0 to the peak; a cosine to 0 at the end of the run follows.
    # If `warmup_steps` is not 0, it sets the length instead.
    optimizer.warmup_epochs = Field(30.0, number(0, EPOCHS))
    optimizer.warmup_steps = Field(0, whole(0, STEPS))
    optimizer.b1 = Field(0.9, below(1))
    optimizer.b2 = Field(0.95, below(1))
    optimizer.eps = Field(1e-8, above(0, 1))
    # Not applied to biases and other 1-d parameters.
    optimizer.weight_decay = Field(0.3, number(0, 1000))
    # Largest gradient norm of each parameter tensor in encoders and projectors; 0: no clipping.
    optimizer.clip_norm = Field(0.3, number(0, WEIGHT))

    # Online probe: during the run, nearest neighbors and a linear classifier score the features of
    # teachers and students on a small labeled data set that is kept in memory. RankMe and LiDAR
    # measure how many directions these features use.
    probe = config.probe = Section()
    probe.every_steps = Field(0, whole(0, STEPS))  # also at the end of the run; 0: never
    # Labeled data, as `dataset` and `path` in `data`; with an empty path, the data of the run,
    # unless they are a mixture.
    probe.dataset = Field("prepared", one_of("folder", "generated", "prepared"))
    probe.path = Field("", TEXT)
    # Splits for the neighbors and for the test; empty: the data set's own (docs/evaluation.md), and
    # its validation split rather than its test split, as decisions rest on what a run shows.
    probe.train_split = Field("", TEXT)
    probe.test_split = Field("", TEXT)
    # Largest numbers of recordings, drawn evenly from the classes.
    probe.train = Field(512, whole(2, 10**6))
    probe.test = Field(256, whole(1, 10**6))
    probe.k = Field(10, whole(1, 10**6))  # number of neighbors
    probe.temperature = Field(0.07, above(0, 1000))  # of the softmax that weights their votes
    # LiDAR compares `views` views of each of `lidar` recordings of the test, which are drawn as
    # training draws global views.
    probe.lidar = Field(32, whole(2, 10**6))  # largest number of recordings
    probe.views = Field(3, whole(2, 1024))
    probe.seed = Field(0, whole(0, SEED))  # of the draws of recordings and of views

    log = config.log = Section()
    log.every_steps = Field(50, whole(1, STEPS))
    # Trackers that get the log besides metrics.jsonl (docs/training.md#trackers).
    log.writers = Field(("tensorboard",), any_of("tensorboard", "wandb", "mlflow"))
    # Reconstructions; also at the end of the run; 0: never.
    log.images_every_steps = Field(5000, whole(0, STEPS))
    # If no step ends for this long, the run ends with exit code 4, so that the program that started
    # it can restart it; 0: never.
    log.stall_minutes = Field(30.0, number(0, 100_000))

    saving = config.saving = Section()
    saving.every_steps = Field(1000, whole(1, STEPS))
    saving.keep = Field(3, whole(1, STEPS))  # number of the newest checkpoints that are kept
    # Checkpoints are also saved at multiples of this, and those are kept for good; 0: none.
    saving.keep_every_steps = Field(0, whole(0, STEPS))
    # The same at the ends of so many equal parts of the run, instead of every so many steps; 0: no.
    saving.milestones = Field(0, whole(0, STEPS))
    return config
