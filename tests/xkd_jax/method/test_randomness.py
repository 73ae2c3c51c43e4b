import itertools

import jax
import jax.numpy as jnp
import numpy as np

from xkd_jax.method.randomness import Purpose, example_keys

SEED = jnp.uint32(3)


def keys(seed, epoch, example_id, purpose):
    epoch, example_id = jnp.asarray(epoch, jnp.int32), jnp.asarray(example_id, jnp.int32)
    made = jax.jit(example_keys, static_argnums=3)(jnp.uint32(seed), epoch, example_id, purpose)
    return np.asarray(jax.random.key_data(made))


def test_a_key_is_a_function_of_seed_epoch_example_and_purpose_alone():
    whole = keys(3, [0, 0, 1, 5], [7, 8, 7, 9], Purpose.VIDEO_MASK)
    assert whole.shape[0] == 4
    np.testing.assert_array_equal(keys(3, [1], [7], Purpose.VIDEO_MASK), whole[2:3])
    np.testing.assert_array_equal(keys(3, [5, 0], [9, 8], Purpose.VIDEO_MASK), whole[[3, 1]])


def test_keys_differ_wherever_one_of_the_four_does():
    epochs, ids = np.meshgrid(np.arange(8), np.arange(32), indexing="ij")
    made = [
        keys(seed, epochs.ravel(), ids.ravel(), purpose)
        for seed, purpose in itertools.product((0, 1, 2**32 - 1), Purpose)
    ]
    made = np.concatenate(made)
    assert len(np.unique(made, axis=0)) == len(made) == 3 * len(Purpose) * 8 * 32


def test_keys_are_the_same_in_every_process_and_for_good():
    # Recorded values: if they change, every saved run would draw other values after a resume.
    np.testing.assert_array_equal(keys(3, [2], [7], Purpose.AUDIO_MASK), [[1849918235, 3147265637]])


def test_the_generator_does_not_follow_the_platform_or_the_configuration():
    expected = keys(3, [0], [1], Purpose.VIDEO_GLOBAL)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(keys(3, [0], [1], Purpose.VIDEO_GLOBAL), expected)


def test_draws_of_neighbors_are_uncorrelated():
    made = example_keys(SEED, jnp.zeros(4096, jnp.int32), jnp.arange(4096), Purpose.VIDEO_GLOBAL)
    draws = np.asarray(jax.vmap(jax.random.uniform)(made))
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.06
    assert abs(draws.mean() - 0.5) < 0.02
