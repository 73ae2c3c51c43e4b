"""Every field of the task `attentive`: attentive probes on the tokens of frozen encoders.

As in `pretraining`: default, allowed values, meaning. The fields of all evaluations are in
`evaluation`. The grid is that of V-JEPA 2 (arXiv 2506.09985), whose pooler has four blocks.
"""

import ml_collections

from xkd_jax.config import evaluation, finetuning, pretraining, probing, schema
from xkd_jax.config.rules import PIXELS, Rule, above, number, one_of, some, whole
from xkd_jax.config.schema import Field, Section


def get_config() -> ml_collections.ConfigDict:
    """Returns the config of the task `attentive` with the default of each field."""
    return schema.defaults(fields())


def fields() -> Section:
    """Returns the fields of the task `attentive`."""
    base = pretraining.fields()
    config = evaluation.fields("attentive")
    config.paper = Field("", one_of(""))  # which has no such evaluation
    # The tokens of two modalities are concatenated.
    config.modalities = probing.fields().modalities
    # Shorter side of the frames decoded from media files, in pixels. Prepared data keep their size.
    config.short_side = Field(128, whole(1, PIXELS))
    # Passes over the training recordings, with one clip of each. If `steps` is not 0, it sets the
    # length of the run instead.
    config.epochs = base.epochs.with_default(20.0)
    config.steps = base.steps
    # Without a validation split, this share of the training recordings is not trained on. The head
    # is chosen on it.
    config.data.held_out = config.data.held_out.with_default(0.1)
    config.data.sampling = evaluation.sampling()

    config.pooler = Section()
    # The last block is cross-attention from a learned query, those before it are self-attention
    # over all tokens. All heads of the grid have as many.
    config.pooler.blocks = Field(1, whole(1, finetuning.MOST_BLOCKS))
    grid = config.grid = Section()
    # A head is trained with each pair of a learning rate and a weight decay, all side by side on
    # the same tokens. One of them is chosen on the validation split or on held-out recordings.
    grid.learning_rates = Field((5e-3, 3e-3, 1e-3, 3e-4, 1e-4), some(above(0, 1000)))
    grid.weight_decays = Field((0.01, 0.1, 0.4, 0.8), some(number(0, 1000)))
    optimizer = config.optimizer = Section()
    # Epochs in which the learning rates grow linearly from 0; then they follow a cosine to 0.
    optimizer.warmup_epochs = base.optimizer.warmup_epochs.with_default(0.0)
    optimizer.b1 = base.optimizer.b1
    optimizer.b2 = base.optimizer.b2.with_default(0.999)
    optimizer.eps = base.optimizer.eps

    config.augmentation = finetuning.both_augmentations()
    scoring = config.evaluation = Section()
    # Number of evenly spaced clips per recording, and of square crops per clip. Probabilities are
    # averaged over all of them.
    scoring.clips = Field(3, whole(1, 10_000))
    scoring.crops = Field(1, Rule("1 or 3", lambda x: type(x) is int and x in (1, 3)))
    scoring.batch_size = config.batch_size.with_default(32)  # clips at a time

    # The rest is as in pretraining.
    config.log = base.log
    del config.log.images_every_steps
    config.saving = base.saving
    config.saving.every_steps = base.saving.every_steps.with_default(500)
    config.saving.keep = base.saving.keep.with_default(1)
    config.parallel = base.parallel
    del config.parallel.accumulate, config.parallel.remat
    return config
