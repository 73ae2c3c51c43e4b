"""XKD at toy scale on the built-in data, in minutes on two CPU cores.

    python -m xkd_jax.main --config=configs/demo.py --workdir=RUN

Data: `generated`, real MP4 files of moving shapes whose movements are heard, written on first use.
It shows that the whole system works: terms fall, nothing collapses, reconstructions look like
their originals. `launch/demo.sh` runs this. The numbers are chosen for speed and are not the
paper's.
"""

from configs import base


def get_config():
    """The base recipe with a small model, short clips and a few hundred steps."""
    config = base.get_config()
    config.data.dataset = "generated"
    config.data.path = "data/generated"
    config.data.split = "train"
    config.batch_size = 16
    config.steps = 500

    video, audio = config.views.video, config.views.audio
    video.frame_rate = 4.0
    video.global_frames, video.local_frames = 8, 4  # clips of two seconds
    video.short_side = video.global_size = 48
    video.local_size = 32
    video.global_scale = (0.4, 1.0)
    audio.global_frames = 224

    for modality in (config.model.video, config.model.audio):
        modality.encoder = base.transformer((128, 4, 4))
        modality.decoder = base.transformer((64, 2, 4))
    config.model.video.patch = (2, 8, 8)
    config.model.audio.patch = (16, 16)
    config.model.projector.hidden = 256
    config.model.projector.bottleneck = 64
    config.model.projector.out = 1024

    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 40
    config.optimizer.weight_decay = 0.05
    # So few steps leave the paper's teachers, sharpened little, near uniform distributions.
    temperature = config.xkd.teacher_temperature
    temperature.video_start = temperature.video_end = 0.06
    temperature.audio_start = temperature.audio_end = 0.04
    config.xkd.ema_video = config.xkd.ema_audio = 0.998
    config.log.every_steps = 10
    config.log.images_every_steps = 100
    config.checkpoint.every_steps = 100
    config.probe.every_steps = 100
    return config
