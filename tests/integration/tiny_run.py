"""A config for whole runs in tests: the tiny model on a few generated MP4 files."""

import ml_collections

from tests.tiny import tiny_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config. It needs `--config.data.path`, where files are written on first use."""
    config = tiny_config()
    config.data.dataset = "generated"
    config.data.generated.train = 12
    config.data.generated.test = 2
    config.batch_size = 4
    config.steps = 24
    config.views.video.short_side = 48
    config.log.every_steps = 4
    config.log.images_every_steps = 0
    config.saving.every_steps = 5
    return config
