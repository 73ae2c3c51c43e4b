"""The paper's pretraining recipe, and the documentation of every config field.

The other configs call `get_config()` and change some fields. Any field can be set on the command
line, as in `--config.optimizer.learning_rate=3e-4`; unknown names are refused. Numbers of
equations, tables and sections are those of the paper (arXiv 2211.13929).
"""

import ml_collections

# name: (width, depth, heads), from appendix C of the paper; tiny and small are common ViT sizes.
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


def transformer(size: tuple[int, int, int]) -> ml_collections.ConfigDict:
    """Returns the config of a transformer of size (width, depth, heads)."""
    width, depth, heads = size
    return ml_collections.ConfigDict({"width": width, "depth": depth, "heads": heads})


def get_config() -> ml_collections.ConfigDict:
    """Returns the config of XKD with ViT-B for both modalities, 800 epochs at batch size 256."""
    config = ml_collections.ConfigDict()
    config.task = "pretrain"
    config.seed = 0
    # Examples per step, over all devices and processes. MMD and centering use all of them.
    config.batch_size = 256
    # Passes over the data. If `steps` is not 0, it sets the length of the run instead.
    config.epochs = 800.0
    config.steps = 0
    # bfloat16 | float32 | auto, which is bfloat16 on GPU and TPU and float32 on CPU. Weights,
    # teachers, LayerNorm statistics, softmaxes and losses are always float32.
    config.compute_dtype = "auto"

    # The devices form a mesh (data, fsdp). All of them split the batch. Those along fsdp also split
    # weights, teachers and optimizer state, which saves memory and costs communication. fsdp must
    # divide the number of devices.
    parallel = config.parallel = ml_collections.ConfigDict()
    parallel.fsdp = 1
    # What the backward pass recomputes in each block instead of keeping it. none: nothing; dots:
    # norms, activations and attention; full: everything, which takes the least memory.
    parallel.remat = "none"
    # Number of parts of a batch that a step processes one after another, to save memory for
    # activations. Gradients are averaged over the parts, and the state is updated once. MMD, its
    # gradient and the between_clips monitors are computed per part, on batch_size / accumulate
    # examples, and averaged. Nothing else changes; centers follow the mean of the whole batch.
    parallel.accumulate = 1

    # Weights to start from: the workdir of a run, an export of everything, or a converted training
    # checkpoint. Students, teachers, decoders, projectors and centers are loaded; step and
    # optimizer start afresh. Ignored if the workdir has a checkpoint. A file with encoders alone is
    # refused. Empty: random weights.
    config.init_from = ""

    data = config.data = ml_collections.ConfigDict()
    # folder: any tree of media files. generated: moving shapes with sound, made on first use.
    # prepared: output of `python -m input_pipeline.prepare`, by far the fastest to read.
    data.dataset = "folder"
    data.path = ""
    # folder: top-level folder of `path` to read, where "train" also finds one named Training;
    # empty: all of them. prepared: split to read; empty: train, or the only one.
    data.split = ""
    # Decoding threads; 0: one per core. Changes the speed, never the data.
    data.threads = 0
    # Batches prepared ahead of the step.
    data.prefetch = 2
    # Share of unusable files above which a run refuses to start; a started run saves and ends.
    data.max_bad_fraction = 0.5
    # Recordings in each split of the generated data, and the seed that determines them.
    data.generated = ml_collections.ConfigDict({"train": 512, "test": 128, "val": 0, "seed": 0})

    views = config.views = ml_collections.ConfigDict()
    video = views.video = ml_collections.ConfigDict()
    video.frame_rate = 8.0  # frames per second; global_frames / frame_rate is the clip's length
    video.short_side = 112  # pixels of the decoded frames' shorter side
    video.global_frames = 32
    video.global_size = 112  # pixels, square
    video.global_scale = (0.2, 1.0)  # area of the crop over area of the frame
    video.local_count = 1  # local views per example
    video.local_frames = 8  # consecutive frames out of the global ones
    video.local_size = 96
    video.local_scale = (0.08, 0.4)
    video.aspect_ratio = (3 / 4, 4 / 3)  # of the crops, drawn log-uniformly
    video.flip_probability = 0.5
    video.color_jitter = (0.4, 0.4, 0.4, 0.2)  # brightness, contrast, saturation, hue
    video.local_gray_probability = 0.2
    video.local_blur_probability = 0.5
    video.local_blur_kernel = 9  # pixels
    video.local_blur_sigma = (0.1, 2.0)  # pixels
    audio = views.audio = ml_collections.ConfigDict()
    audio.sample_rate = 16000  # Hz
    audio.mel_bands = 80
    audio.window = 1024  # samples of a Hann window, and the FFT's size
    audio.hop = 143  # samples
    audio.max_frequency = 8000.0  # Hz, the upper edge of the highest mel band
    audio.log_offset = 1.19e-7  # log(mel + log_offset)
    audio.mean = -5.3688107  # mean and standard deviation of log-mels, for normalization
    audio.std = 4.410007
    audio.global_frames = 448
    audio.global_gain = 0.1  # volume factor U(1 - gain, 1 + gain)
    audio.local_count = 1
    audio.local_seconds = 1.0
    audio.local_start_step = 100  # samples; local windows start at multiples of it
    audio.local_frames = 112
    audio.local_gain = 0.2
    # Random resized crop of the local log-mel. Range of the crop's extents, and extents (frequency,
    # time) of the zero-padded canvas that it is taken from, both relative to the view's.
    audio.local_crop_extent = (0.6, 1.5)
    audio.local_crop_canvas = (1.0, 1.5)

    model = config.model = ml_collections.ConfigDict()
    # xkd: every network is modality-specific. xkd_mas: the students share their transformer blocks.
    # xkd_mats: the students share their blocks, and the teachers share theirs.
    model.variant = "xkd"
    model.video = ml_collections.ConfigDict()
    model.video.patch = (4, 16, 16)  # frames, pixels, pixels
    model.video.mask_ratio = 0.85
    model.video.encoder = transformer(ENCODERS["base"])
    model.video.decoder = transformer(DECODERS["base"])
    model.audio = ml_collections.ConfigDict()
    model.audio.patch = (4, 16)  # mel bands, frames
    model.audio.mask_ratio = 0.80
    model.audio.encoder = transformer(ENCODERS["base"])
    model.audio.decoder = transformer(DECODERS["base"])
    model.projector = ml_collections.ConfigDict()
    model.projector.layers = 3
    model.projector.hidden = 2048
    model.projector.bottleneck = 256
    model.projector.out = 8192
    model.projector.norm = "every"  # every | last | none: layers that a LayerNorm follows

    xkd = config.xkd = ml_collections.ConfigDict()
    # Weights of the terms, and the total: `sum` is that of the paper, `release` a fourteenth of it,
    # which the authors' code minimizes and for which the gradient clipping was tuned.
    xkd.lambda_ae = 5.0
    xkd.lambda_da = 1.0
    xkd.lambda_kd = 1.0
    xkd.total = "release"
    # Modalities whose reconstruction is part of the total; that of the others is only logged.
    xkd.reconstruct = ("video", "audio")
    # Refinement (Eqs. 4-6). cross_attention: mean | softmax (S3). query: cls | mean ("w/o CLS").
    # refine_weight: root | ratio, of the squared norms.
    xkd.refine = True
    xkd.cross_attention = "mean"
    xkd.query = "cls"
    xkd.refine_weight = "root"
    # Domain alignment (Eqs. 7-8). alignment: da | da1 (S1) | da2 (S2).
    xkd.alignment = "da"
    xkd.mmd_gammas = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
    xkd.mmd_root = False
    # Distillation (Eqs. 10-11). The teachers' temperatures follow a cosine from start to end over
    # the warm-up epochs.
    xkd.student_temperature = 0.1
    xkd.teacher_temperature = ml_collections.ConfigDict()
    xkd.teacher_temperature.video_start = 0.1
    xkd.teacher_temperature.video_end = 0.1
    xkd.teacher_temperature.audio_start = 0.07
    xkd.teacher_temperature.audio_end = 0.07
    xkd.teacher_temperature.warmup_epochs = 30.0
    xkd.centering = True
    xkd.center_momentum = 0.9
    # teacher <- m teacher + (1 - m) student after each step. Over the run, m follows a cosine from
    # the modality's start value to the common end.
    xkd.ema_video = 0.997
    xkd.ema_audio = 0.997
    xkd.ema_end = 1.0

    optimizer = config.optimizer = ml_collections.ConfigDict()
    optimizer.learning_rate = 1e-4  # peak value, not scaled by the batch size
    # Length of the linear warm-up from 0 to the peak; a cosine to 0 at the end of the run follows.
    # If `warmup_steps` is not 0, it sets the length instead.
    optimizer.warmup_epochs = 30.0
    optimizer.warmup_steps = 0
    optimizer.b1 = 0.9
    optimizer.b2 = 0.95
    optimizer.eps = 1e-8
    optimizer.weight_decay = 0.3  # not applied to biases and other 1-d parameters
    # Largest gradient norm of each parameter tensor in encoders and projectors; 0: no clipping.
    optimizer.clip_norm = 0.3

    # Online probe: during the run, a nearest-neighbor classifier scores the features of teachers
    # and students on a small labeled data set that is kept in memory.
    probe = config.probe = ml_collections.ConfigDict()
    probe.every_steps = 0  # also at the end of the run; 0: never
    # Labeled data, as `dataset` and `path` in `data`; with an empty path, the data of the run.
    probe.dataset = "prepared"
    probe.path = ""
    # Splits for the neighbors and for the test; empty: the data set's own (docs/evaluation.md).
    probe.train_split = ""
    probe.test_split = ""
    probe.train = 512  # largest number of recordings, drawn evenly from the classes
    probe.test = 256
    probe.k = 10  # number of neighbors
    probe.temperature = 0.07  # of the softmax that weights their votes
    probe.seed = 0  # of the draw of recordings

    log = config.log = ml_collections.ConfigDict()
    log.every_steps = 50
    log.images_every_steps = 5000  # reconstructions; also at the end of the run; 0: never
    # If no step ends for this long, the run ends with exit code 4, so that the program that started
    # it can restart it; 0: never.
    log.stall_minutes = 30.0

    checkpoint = config.checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 1000
    checkpoint.keep = 3  # number of the newest checkpoints that are kept
    checkpoint.keep_every_steps = 0  # checkpoints at multiples of this are kept for good; 0: none
    return config
