"""XKD on your own videos: any folder of media files, on one GPU.

    python -m xkd_jax.main --config=configs/folder.py --config.data.path=VIDEOS --workdir=RUN

Data: any tree of media files that FFmpeg reads. Broken files are left out and reported; files
without sound train the video's autoencoder alone. Model: ViT-S for both modalities (21M parameters
each) at batch size 64, for one GPU of 16 GB or more. A run has 20,000 steps for any number of
files. The paper has no results for this size; configs/k400.py lists those of its own.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns a smaller base recipe, counted in steps because folders are of any size."""
    config = base.get_config()
    config.data.require = "any"
    config.batch_size = 64
    config.steps = 20_000
    config.optimizer.warmup_steps = 1_000
    for modality in (config.model.video, config.model.audio):
        modality.encoder = base.transformer(base.ENCODERS["small"])
        modality.decoder = base.transformer(base.DECODERS["small"])
    config.log.every_steps = 20
    config.log.images_every_steps = 1_000
    config.saving.every_steps = 500
    return config
