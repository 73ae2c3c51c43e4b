"""The paper's pretraining recipe, and the one place where every config field is documented.

The other files start from `get_config()` here and change what makes them different. Any field can
be set on the command line, `--config.optimizer.learning_rate=3e-4`; a name that does not exist is
refused. Equation, table and section numbers are those of the paper (arXiv 2211.13929).
"""

import ml_collections

# name: (width, depth, heads). Appendix C of the paper; tiny and small are the usual ViT sizes.
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
    """A transformer's size as config fields, from (width, depth, heads)."""
    width, depth, heads = size
    return ml_collections.ConfigDict({"width": width, "depth": depth, "heads": heads})


def get_config() -> ml_collections.ConfigDict:
    """XKD with ViT-B for both modalities, 800 epochs at batch 256."""
    config = ml_collections.ConfigDict()
    config.task = "pretrain"
    config.seed = 0
    # Examples a step, over all devices and processes. MMD and centring see all of them.
    config.batch_size = 256
    # Passes over the data; `steps`, where it is not 0, says the number of steps instead.
    config.epochs = 800.0
    config.steps = 0
    # bfloat16 | float32 | auto: bfloat16 on GPU and TPU, float32 on CPU. Weights, teachers, norms'
    # statistics, softmaxes and losses are float32 whatever it says.
    config.compute_dtype = "auto"

    # How all devices share the work: a mesh of (data, fsdp). All of them split the batch; those
    # along fsdp split weights, teachers and optimizer too, which saves memory and costs
    # communication. It has to divide the number of devices.
    parallel = config.parallel = ml_collections.ConfigDict()
    parallel.fsdp = 1
    # What the backward pass computes again instead of keeping it, block by block. none: nothing;
    # dots: norms, activations and attention; full: everything, for the least memory.
    parallel.remat = "none"
    # Parts that a step takes its batch in, one after another, for the activations of one part at a
    # time: gradients are averaged over them, and the state moves once. MMD, its gradient and the
    # monitors between_clips are then of each part's batch_size / accumulate examples, and averaged;
    # everything else is as without, centres included, which follow the whole batch's mean.
    parallel.accumulate = 1

    # Weights to start with, in place of fresh ones: the workdir of a run, an export of everything,
    # or a converted training checkpoint. Students, teachers, decoders, projectors and centers are
    # taken from there, the step is 0 and the optimizer fresh. Read only where the workdir has no
    # checkpoint yet; encoders alone are refused. Empty: fresh weights.
    config.init_from = ""

    data = config.data = ml_collections.ConfigDict()
    # folder: any tree of media files. generated: moving shapes with sound, made on first use.
    # prepared: what `python -m input_pipeline.prepare` has made; the fastest to read by far.
    data.dataset = "folder"
    data.path = ""
    # A top-level folder of `path` to take the files from, "train" for one called Training too;
    # empty: all of them. Of prepared data, the split; empty: train.
    data.split = ""
    # Decoding threads; 0: one a core. Changes the speed, never the data.
    data.threads = 0
    # Batches made ahead of the step.
    data.prefetch = 2
    # Share of unusable files above which the run refuses to start, or saves and ends later.
    data.max_bad_fraction = 0.5
    # The generated dataset's clips in each split, and what they are a function of.
    data.generated = ml_collections.ConfigDict({"train": 512, "test": 128, "val": 0, "seed": 0})

    views = config.views = ml_collections.ConfigDict()
    video = views.video = ml_collections.ConfigDict()
    video.frame_rate = 8.0  # frames per second; global_frames / frame_rate is the clip's length
    video.short_side = 112  # pixels of the decoded frames' shorter side
    video.global_frames = 32
    video.global_size = 112  # pixels, square
    video.global_scale = (0.2, 1.0)  # area of the crop over area of the frame
    video.local_count = 1  # local views an example
    video.local_frames = 8  # consecutive, out of the global ones
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
    audio.mean = -5.3688107  # of the log-mels, for normalisation
    audio.std = 4.410007
    audio.global_frames = 448
    audio.global_gain = 0.1  # volume factor U(1 - gain, 1 + gain)
    audio.local_count = 1
    audio.local_seconds = 1.0
    audio.local_start_step = 100  # samples; a local window starts on a multiple of it
    audio.local_frames = 112
    audio.local_gain = 0.2
    # Random resized crop of the local log-mel: extents of the crop over those of the view, and
    # extents (frequency, time) of the zero canvas it is taken from over those of the view.
    audio.local_crop_extent = (0.6, 1.5)
    audio.local_crop_canvas = (1.0, 1.5)

    model = config.model = ml_collections.ConfigDict()
    # xkd: everything modality-specific. xkd_mas: the students share their transformer blocks.
    # xkd_mats: the students share theirs, and the teachers theirs.
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
    model.projector.norm = "every"  # every | last | none: layers followed by a LayerNorm

    xkd = config.xkd = ml_collections.ConfigDict()
    # Weights of the terms, and their total: `sum` is the paper's, `release` its fourteenth, which
    # the authors' code minimises and on which the gradient clipping was tuned.
    xkd.lambda_ae = 5.0
    xkd.lambda_da = 1.0
    xkd.lambda_kd = 1.0
    xkd.total = "release"
    # Whose reconstruction the total has; that of a modality that is not named is a monitor.
    xkd.reconstruct = ("video", "audio")
    # Refinement (Eqs. 4-6). cross_attention: mean | softmax (S3). query: cls | mean ("w/o CLS").
    # refine_weight: root | ratio of the squared norms.
    xkd.refine = True
    xkd.cross_attention = "mean"
    xkd.query = "cls"
    xkd.refine_weight = "root"
    # Domain alignment (Eqs. 7-8). alignment: da | da1 (S1) | da2 (S2).
    xkd.alignment = "da"
    xkd.mmd_gammas = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
    xkd.mmd_root = False
    # Distillation (Eqs. 10-11). The teachers' temperatures go from start to end over warm-up
    # epochs, along a cosine.
    xkd.student_temperature = 0.1
    xkd.teacher_temperature = ml_collections.ConfigDict()
    xkd.teacher_temperature.video_start = 0.1
    xkd.teacher_temperature.video_end = 0.1
    xkd.teacher_temperature.audio_start = 0.07
    xkd.teacher_temperature.audio_end = 0.07
    xkd.teacher_temperature.warmup_epochs = 30.0
    xkd.centering = True
    xkd.center_momentum = 0.9
    # teacher <- m teacher + (1 - m) student after each step. m goes from each modality's start to
    # the common end along a cosine over the run.
    xkd.ema_video = 0.997
    xkd.ema_audio = 0.997
    xkd.ema_end = 1.0

    optimizer = config.optimizer = ml_collections.ConfigDict()
    optimizer.learning_rate = 1e-4  # the peak, whatever the batch size
    # From 0 to the peak, linear, over so many epochs, or steps where that is not 0; then a cosine
    # to 0 at the end of the run.
    optimizer.warmup_epochs = 30.0
    optimizer.warmup_steps = 0
    optimizer.b1 = 0.9
    optimizer.b2 = 0.95
    optimizer.eps = 1e-8
    optimizer.weight_decay = 0.3  # not on biases and other 1-d parameters
    # Largest norm of each parameter tensor's gradient, in encoders and projectors; 0: no clipping.
    optimizer.clip_norm = 0.3

    # The online probe: how well the nearest neighbors do on features of the teachers and students,
    # of a small labelled set that is kept in memory.
    probe = config.probe = ml_collections.ConfigDict()
    probe.every_steps = 0  # and at the end of the run; 0: never
    # Labelled data, as `data` names them; with an empty path, those of the run.
    probe.dataset = "prepared"
    probe.path = ""
    # Splits to learn from and to test on; empty: as the data set has them (docs/evaluation.md).
    probe.train_split = ""
    probe.test_split = ""
    probe.train = 512  # recordings at most, drawn evenly from the classes
    probe.test = 256
    probe.k = 10  # neighbors
    probe.temperature = 0.07  # of their votes
    probe.seed = 0  # of the draw

    log = config.log = ml_collections.ConfigDict()
    log.every_steps = 50
    log.images_every_steps = 5000  # reconstructions, and at the end of the run; 0: never
    # Without a step for so long, the run ends with exit code 4, for what started it to start it
    # again; 0: never.
    log.stall_minutes = 30.0

    checkpoint = config.checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 1000
    checkpoint.keep = 3  # the newest ones
    checkpoint.keep_every_steps = 0  # kept for good; 0: none
    return config
