"""Where every random number on the accelerator comes from.

A draw is keyed by what it is for, never by when or where it is made: (seed, epoch, example id,
purpose). So it is the same in a batch of any size and order, on any number of devices, and after a
resume.
"""

import enum

import jax


@enum.unique
class Purpose(enum.IntEnum):
    """What a draw is for. The values are part of what a seed means: add, never renumber."""

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


def example_keys(seed, epoch, example_id, purpose):
    """Makes one random key for each example of a batch.

    Args:
        seed: `()` uint32, the run's seed.
        epoch: `(B,)` int32, the pass over the data in which each example is seen.
        example_id: `(B,)` int32.
        purpose: A `Purpose`.

    Returns:
        `(B,)` typed keys, of a generator that is the same on every platform.
    """

    def key_of(epoch, example_id):
        key = jax.random.key(seed, impl="threefry2x32")
        for number in (epoch, example_id, purpose):
            key = jax.random.fold_in(key, number)
        return key

    return jax.vmap(key_of)(epoch, example_id)
