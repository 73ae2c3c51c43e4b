import jax
import numpy as np
import pytest

from xkd_jax.method.models.masked_autoencoder import Decoder, kept_count, random_mask


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"), [(392, 0.85, 59), (560, 0.80, 112), (36, 0.85, 5), (16, 0.8, 3)]
)
def test_kept_counts(patches, ratio, kept):
    assert kept_count(patches, ratio) == kept


def test_the_smallest_noise_is_kept_in_its_order():
    noise = np.array([[0.5, 0.1, 0.9, 0.3], [0.2, 0.8, 0.4, 0.6]])
    mask = random_mask(noise, 0.5)
    np.testing.assert_array_equal(mask.keep, [[1, 3], [0, 2]])
    np.testing.assert_array_equal(mask.dropped, [[1, 0, 1, 0], [0, 1, 0, 1]])
    shuffled = np.concatenate([mask.keep, [[0, 2], [3, 1]]], axis=1)
    restored = np.take_along_axis(shuffled, np.asarray(mask.restore), axis=1)
    np.testing.assert_array_equal(restored, [[0, 1, 2, 3]] * 2)


def test_every_patch_is_dropped_equally_often():
    noise = jax.random.uniform(jax.random.key(0), (4000, 20))
    dropped = np.asarray(random_mask(noise, 0.85).dropped)
    assert (dropped.sum(axis=1) == 17).all()
    np.testing.assert_allclose(dropped.mean(axis=0), 0.85, atol=0.03)


def test_decoder_puts_tokens_back_where_they_were():
    """Its block adds nothing here, so a prediction depends only on the kept token at its place."""
    decoder = Decoder(width=8, depth=1, heads=2, patch_size=5)
    tokens = jax.random.normal(jax.random.key(0), (1, 3, 6))
    restore = np.array([[2, 0, 3, 1]])  # patches 1 and 3 are kept, as tokens 1 and 2
    variables = jax.jit(decoder.init)(jax.random.key(1), tokens, restore)
    blocks = variables["params"]["transformer"]["blocks"]
    for name in ("out", "mlp_out"):
        blocks[name]["kernel"] = np.zeros_like(blocks[name]["kernel"])
    apply = jax.jit(decoder.apply)
    before = np.asarray(apply(variables, tokens, restore))
    after = np.asarray(apply(variables, tokens.at[0, 2].add(1.0), restore))
    changed = ~np.isclose(before, after).all(axis=(0, 2))
    np.testing.assert_array_equal(changed, [False, False, False, True])
