"""Every field of the task `retrieval`: sound finds its video, and video its sound.

As in `pretraining`: default, allowed values, meaning.
"""

import ml_collections

from xkd_jax.config import evaluation, pretraining, probing, schema
from xkd_jax.config.rules import one_of, whole
from xkd_jax.config.schema import Field, Section


def get_config() -> ml_collections.ConfigDict:
    """Returns the config of the task `retrieval` with the default of each field."""
    return schema.defaults(fields())


def fields() -> Section:
    """Returns the fields of the task `retrieval`."""
    base, probe = pretraining.fields(), probing.fields()
    config = evaluation.fields("retrieval")
    config.paper = Field("", one_of(""))  # which has no such evaluation
    # All networks with projectors are evaluated, at the sizes of pretraining.
    del config.network, config.frame_size
    config.data = base.data
    config.data.dataset = base.data.dataset.with_default("prepared")
    config.data.split = base.data.split.with_default("test")
    del config.data.require  # a recording needs picture and sound
    del config.data.sources, config.data.weights
    # Largest number of recordings, drawn by the seed; 0: all. The more there are, the harder it is.
    config.recordings = Field(0, whole(0, 10**9))
    config.clips = Section()
    config.clips.test = probe.clips.test  # outputs are averaged over the clips of a recording
    config.clips.test.crop = probe.clips.test.crop.with_default(1.0)
    config.features = probe.features
    return config
