"""XKD at toy scale on the built-in data, in minutes on two CPU cores.

    python -m xkd_jax.main --config=configs/demo.py --workdir=RUN

Data: `generated`, real MP4 files of moving shapes whose movements are heard, written on first use.
It shows that the whole system works and that the method learns: classifiers on the features of
each modality find more classes than on those of an untrained network, and on those of video more
than on those of autoencoders alone.
`launch/demo.sh` runs this. docs/demo.md says how the numbers were chosen, and what is not the
paper's.
"""

from configs import base


def get_config():
    """The base recipe with a small model, short clips and 2,200 steps."""
    config = base.get_config()
    config.data.dataset = "generated"
    config.data.path = "data/shapes"
    config.data.split = "train"
    config.data.generated.train = 1024
    config.data.generated.val = 256
    config.data.generated.test = 256
    config.batch_size = 16
    config.steps = 2200

    video, audio = config.views.video, config.views.audio
    video.global_frames = video.local_frames = 16  # clips of two seconds
    video.short_side = video.global_size = 32
    video.local_size = 24
    # A shape is a fourth of the picture, and a crop has to show how it moves.
    video.global_scale, video.local_scale = (0.6, 1.0), (0.4, 1.0)
    video.color_jitter = (0.4, 0.4, 0.2, 0.1)
    # Coarser log-mels than the paper's, at a third of their cost.
    audio.mel_bands, audio.window, audio.hop = 64, 512, 250
    audio.global_frames, audio.local_frames = 128, 96
    audio.local_seconds = 1.5

    for modality in (config.model.video, config.model.audio):
        modality.encoder = base.transformer((64, 3, 4))
        modality.decoder = base.transformer((64, 2, 4))
    # Of 64 and of 32 patches.
    config.model.video.mask_ratio, config.model.audio.mask_ratio = 0.45, 0.7
    config.model.video.patch = (4, 8, 8)
    config.model.audio.patch = (16, 16)
    config.model.projector.hidden = 256
    config.model.projector.bottleneck = 64
    config.model.projector.out = 512

    config.optimizer.learning_rate = 4e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 0.05
    # Teachers as sharp over their students as the paper's would collapse within 200 steps here
    # (docs/demo.md): over 512 outputs, soft students hold up what differs between clips.
    config.xkd.student_temperature = 0.5
    temperature = config.xkd.teacher_temperature
    temperature.video_start = temperature.video_end = 0.05
    temperature.audio_start = temperature.audio_end = 0.05
    # A momentum of 0.997 leaves the teachers of a short run hundreds of steps behind. It rises, as
    # the paper's does, so that what the students are to predict comes to rest.
    config.xkd.ema_video = config.xkd.ema_audio = 0.99
    config.xkd.ema_end = 0.998
    config.log.every_steps = 20
    config.log.images_every_steps = 550
    config.saving.every_steps = 550
    config.probe.every_steps = 550
    return config
