"""A model small enough to compile and run in tests, of each variant."""

import jax
import numpy as np

from configs import base


def random_params(model, seed: int = 0):
    """Parameters of a model, drawn without compiling."""
    rng = np.random.default_rng(seed)
    shapes = model.shapes()
    return jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), shapes)


def tiny_config(variant: str = "xkd"):
    """The base config with everything small; views of 8 frames of 32x32 and 16x64 log-mels."""
    config = base.get_config()
    config.seed = 3
    config.batch_size = 8
    config.steps = 100
    config.compute_dtype = "float32"
    video, audio = config.views.video, config.views.audio
    video.short_side = video.global_size = 32
    video.global_frames, video.local_frames, video.local_size = 8, 4, 16
    audio.mel_bands, audio.global_frames = 16, 64
    audio.local_seconds, audio.local_frames = 0.25, 16
    config.model.variant = variant
    for modality in (config.model.video, config.model.audio):
        modality.encoder = base.transformer((32, 2, 4))
        modality.decoder = base.transformer((16, 1, 2))
    config.model.video.patch = (4, 8, 8)
    config.model.projector.hidden = 32
    config.model.projector.bottleneck = 16
    config.model.projector.out = 64
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup_steps = 10
    return config


def tiny_batch(config, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch as the loader gives it, of noise."""
    rng = np.random.default_rng(seed)
    size, video, audio = config.batch_size, config.views.video, config.views.audio

    def pixels(*shape):
        return rng.integers(0, 256, shape, np.uint8)

    def log_mels(*shape):
        return rng.normal(size=shape).astype(np.float32)

    n, side = video.local_count, video.local_size
    return {
        "video_global": pixels(size, video.global_frames, video.global_size, video.global_size, 3),
        "video_local": pixels(size, n, video.local_frames, side, side, 3),
        "audio_global": log_mels(size, audio.mel_bands, audio.global_frames),
        "audio_local": log_mels(size, audio.local_count, audio.mel_bands, audio.local_frames),
        "has_video": np.ones(size, bool),
        "has_audio": np.ones(size, bool),
        "example_id": np.arange(size, dtype=np.int64),
        "epoch": np.zeros(size, np.int32),
    }
