"""Keys of all random numbers that are drawn on the accelerator.

A key depends on the seed, the epoch, the example id and the purpose, and never on the step or the
device. So an example gets the same random numbers in a batch of any size and order, on any number
of devices, and after a resume.
"""

import enum

import jax
from jax.typing import ArrayLike


@enum.unique
class Purpose(enum.IntEnum):
    """What random numbers are for. Seeds depend on the values: add new ones, never renumber."""

    VIDEO_GLOBAL = 0
    VIDEO_LOCAL = 1
    VIDEO_MASK = 2
    AUDIO_MASK = 3
    FLIP = 4
    RAND_AUGMENT = 5
    SPEC_AUGMENT = 6
    MIXING = 7
    DROPOUT = 8
    DROP_PATH = 9
    VIDEO_FEATURES = 10
    AUDIO_DROP_PATH = 11  # in joint finetuning


def example_keys(
    seed: ArrayLike, epoch: jax.Array, example_id: jax.Array, purpose: Purpose
) -> jax.Array:
    """Makes one random key for each example of a batch.

    Args:
        seed: `()` uint32, the seed of the run.
        epoch: `(B,)` int32, the pass over the data that each example belongs to.
        example_id: `(B,)` int32, the ids of the examples.
        purpose: What the random numbers are for.

    Returns:
        `(B,)` typed keys of threefry2x32, which gives the same numbers on every platform.
    """

    def key_of(epoch: jax.Array, example_id: jax.Array) -> jax.Array:
        key = jax.random.key(seed, impl="threefry2x32")
        for number in (epoch, example_id, purpose):
            key = jax.random.fold_in(key, number)
        return key

    return jax.vmap(key_of)(epoch, example_id)
