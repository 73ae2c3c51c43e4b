import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import ndimage

from configs import base
from xkd_jax.method import augment
from xkd_jax.method.randomness import Purpose, example_keys

CONFIG = base.get_config().views.video


def random_clips(rng, *shape):
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def random_planes(rng, *shape):
    return rng.random((3, *shape), dtype=np.float32)


def keys_of(ids, epoch=0, purpose=Purpose.VIDEO_GLOBAL):
    ids = jnp.asarray(ids, jnp.int32)
    return example_keys(jnp.uint32(0), jnp.full_like(ids, epoch), ids, purpose)


@pytest.fixture(scope="module")
def augment_global():
    return jax.jit(lambda keys, clips: augment.augment_global(keys, clips, CONFIG))


@pytest.fixture(scope="module")
def augment_local():
    return jax.jit(lambda keys, clips: augment.augment_local(keys, clips, CONFIG))


@pytest.fixture(scope="module")
def draws():
    """Returns the draws for 20,000 views."""
    draw = jax.vmap(lambda key: augment.draw(key, CONFIG))
    return jax.tree.map(np.asarray, jax.jit(draw)(keys_of(np.arange(20_000))))


# The transforms in plain NumPy, on planes (3, T, H, W).


def gray_of(planes):
    return np.tensordot(np.array([0.2989, 0.587, 0.114]), planes, 1)


def brightness(planes, factor):
    return np.clip(planes * factor, 0, 1)


def contrast(planes, factor):
    mean = gray_of(planes).mean(axis=(1, 2), keepdims=True)  # of each frame
    return np.clip(factor * planes + (1 - factor) * mean, 0, 1)


def saturation(planes, factor):
    return np.clip(factor * planes + (1 - factor) * gray_of(planes), 0, 1)


def hue(planes, turns):
    def shift(rgb):
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        return colorsys.hsv_to_rgb((h + turns) % 1, s, v)

    return np.apply_along_axis(shift, 0, planes)


TRANSFORMS = (brightness, contrast, saturation, hue)


def jitter(planes, factors, turns, order):
    for transform in order:
        planes = TRANSFORMS[transform](planes, (*factors, turns)[transform])
    return planes


def blurred(planes, sigma, size=9):
    kernel = np.exp(-0.5 * (np.arange(size) - size // 2) ** 2 / sigma**2)
    kernel /= kernel.sum()
    for axis in (-2, -1):
        planes = ndimage.correlate1d(planes, kernel, axis=axis, mode="mirror")
    return planes


@pytest.mark.parametrize("transform", range(4))
@pytest.mark.parametrize("amount", [-1.0, 1.0])
def test_each_color_transform_is_its_definition(transform, amount, rng):
    planes = random_planes(rng, 2, 5, 6)
    numbers = np.array([1, 1, 1, 0], np.float32)
    numbers[transform] += amount * CONFIG.color_jitter[transform]
    order = np.roll(np.arange(4), transform)[None]
    result = augment.jitter_color(planes[:, None], numbers[None, :3], numbers[3:], order)
    expected = TRANSFORMS[transform](planes, numbers[transform])
    assert np.abs(expected - planes).max() > 0.05
    np.testing.assert_allclose(result[:, 0], expected, atol=1e-5)


def test_color_transforms_follow_each_of_the_24_orders(rng):
    order = np.array(list(itertools.permutations(range(4))))
    planes = random_planes(rng, 24, 2, 4, 5)
    factors = rng.uniform(0.6, 1.4, (24, 3)).astype(np.float32)
    turns = rng.uniform(-0.2, 0.2, 24).astype(np.float32)
    result = jax.jit(augment.jitter_color)(planes, factors, turns, order)
    for i in range(24):
        expected = jitter(planes[:, i], factors[i], turns[i], order[i])
        np.testing.assert_allclose(result[:, i], expected, atol=1e-5)
    assert np.asarray(result).min() >= 0
    assert np.asarray(result).max() <= 1


@pytest.mark.parametrize("turns", [-0.5, -0.2, 0.0, 1 / 6, 0.2, 0.5])
def test_hue_is_right_for_pure_gray_and_tied_colors(turns):
    levels = [0.0, 0.25, 0.5, 1.0]
    planes = np.array(list(itertools.product(levels, repeat=3)), np.float32).T[:, None, :, None]
    result = augment.shift_hue(planes, jnp.float32(turns))
    np.testing.assert_allclose(result, hue(planes, turns), atol=1e-5)


def test_blur_is_a_gaussian_with_mirrored_edges_and_only_where_it_is_drawn(rng):
    planes = random_planes(rng, 4, 2, 12, 10)
    sigma = np.array([0.1, 0.8, 2.0, 2.0], np.float32)
    where = np.array([True, True, True, False])
    result = np.asarray(augment.blur(planes, where, sigma, 9))
    for i in range(3):
        np.testing.assert_allclose(result[:, i], blurred(planes[:, i], sigma[i]), atol=1e-6)
    np.testing.assert_array_equal(result[:, 3], planes[:, 3])


def test_gray_and_flip_only_where_they_are_drawn(rng):
    where = np.array([True, False])
    planes = random_planes(rng, 2, 2, 4, 5)
    result = np.asarray(augment.remove_color(planes, where))
    for channel in result[:, 0]:
        np.testing.assert_allclose(channel, gray_of(planes[:, 0]), atol=1e-6)
    np.testing.assert_array_equal(result[:, 1], planes[:, 1])

    clips = random_clips(rng, 2, 2, 4, 5)
    result = augment.flip(clips, where)
    np.testing.assert_array_equal(result[0], clips[0, :, :, ::-1])
    np.testing.assert_array_equal(result[1], clips[1])


def test_normalize_has_the_moments_of_imagenet_and_denormalize_is_its_inverse(rng):
    clips = random_clips(rng, 2, 2, 3, 4)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalized = augment.normalize(clips)
    np.testing.assert_allclose(normalized, (clips / 255 - mean) / std, atol=1e-5)
    np.testing.assert_allclose(augment.denormalize(normalized), clips / 255, atol=1e-6)
    assert isinstance(augment.denormalize(np.asarray(normalized)), np.ndarray)


def test_views_are_their_draws_applied_in_the_order_of_the_spec(augment_global, augment_local, rng):
    clips = random_clips(rng, 6, 2, 16, 16)
    draws = jax.vmap(lambda key: augment.draw(key, CONFIG))(keys_of(range(6)))
    result = augment_global(keys_of(range(6)), clips)
    for i in range(6):
        d = jax.tree.map(lambda x, i=i: np.asarray(x[i]), draws)
        clip = clips[i, :, :, ::-1] if d.flip else clips[i]
        planes = jitter(np.moveaxis(clip, -1, 0) / 255, d.factors, d.hue, d.order)
        expected = (np.moveaxis(planes, 0, -1) - augment.MEAN) / augment.STD
        np.testing.assert_allclose(result[i], expected, atol=1e-4)

    keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys_of(range(6)))
    draws = jax.vmap(lambda key: augment.draw(key, CONFIG))(keys)
    assert np.any(draws.blur) and np.any(draws.gray)
    result = augment_local(keys_of(range(6)), clips[:, None])
    for i in range(6):
        d = jax.tree.map(lambda x, i=i: np.asarray(x[i]), draws)
        clip = clips[i, :, :, ::-1] if d.flip else clips[i]
        planes = jitter(np.moveaxis(clip, -1, 0) / 255, d.factors, d.hue, d.order)
        planes = np.stack([gray_of(planes)] * 3) if d.gray else planes
        planes = blurred(planes, d.sigma) if d.blur else planes
        expected = (np.moveaxis(planes, 0, -1) - augment.MEAN) / augment.STD
        np.testing.assert_allclose(result[i, 0], expected, atol=1e-4)


def test_draws_have_the_distributions_of_the_spec(draws):
    def is_uniform(values, low, high):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        counts, _ = np.histogram(values, bins=10, range=(low, high))
        np.testing.assert_allclose(counts / len(values), 0.1, atol=0.01)

    for factor in draws.factors.T:
        is_uniform(factor, 0.6, 1.4)
    is_uniform(draws.hue, -0.2, 0.2)
    is_uniform(draws.sigma, 0.1, 2.0)
    for value, probability in ((draws.flip, 0.5), (draws.gray, 0.2), (draws.blur, 0.5)):
        assert abs(value.mean() - probability) < 0.015
    orders, counts = np.unique(draws.order, axis=0, return_counts=True)
    assert len(orders) == 24
    np.testing.assert_allclose(counts / len(draws.order), 1 / 24, atol=0.008)


def test_draws_are_independent_of_each_other(draws):
    columns = [draws.flip, *draws.factors.T, draws.hue, *draws.order.T[:3]]
    columns += [draws.gray, draws.blur, draws.sigma]
    correlation = np.corrcoef(np.stack(columns).astype(np.float64))
    order = slice(5, 8)  # entries of a permutation are correlated
    correlation[order, order] = 0
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.035


def test_draws_are_shared_by_the_frames_and_not_by_views_or_examples(augment_local, rng):
    frame = random_clips(rng, 16, 16)
    clips = np.broadcast_to(frame, (3, 2, 4, 16, 16, 3))
    result = np.asarray(augment_local(keys_of(range(3)), clips))
    np.testing.assert_allclose(result, np.broadcast_to(result[:, :, :1], result.shape), atol=1e-6)
    views = result[:, :, 0].reshape(6, -1)
    for a, b in itertools.combinations(views, 2):
        assert np.abs(a - b).mean() > 0.01


def test_a_view_depends_on_seed_epoch_and_example_and_not_on_its_batch(augment_global, rng):
    clips = random_clips(rng, 5, 2, 8, 8)
    whole = np.asarray(augment_global(keys_of(range(5)), clips))
    some = np.asarray(augment_global(keys_of([3, 1]), clips[[3, 1]]))
    np.testing.assert_array_equal(some, whole[[3, 1]])
    other_epoch = np.asarray(augment_global(keys_of(range(5), epoch=1), clips))
    assert (np.abs(other_epoch - whole).mean(axis=(1, 2, 3, 4)) > 0.01).all()


def test_a_local_view_does_not_depend_on_how_many_there_are(augment_local, rng):
    clips = random_clips(rng, 2, 3, 2, 12, 12)
    keys = keys_of(range(2), purpose=Purpose.VIDEO_LOCAL)
    three, one = augment_local(keys, clips), augment_local(keys, clips[:, :1])
    np.testing.assert_allclose(three[:, :1], one, atol=1e-6)


def test_bfloat16_is_the_rounded_float32(augment_global, rng):
    clips, keys = random_clips(rng, 2, 2, 8, 8), keys_of(range(2))
    low = augment.augment_global(keys, clips, CONFIG, jnp.bfloat16)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(np.float32), augment_global(keys, clips), atol=0.02)
    assert augment.normalize(clips, jnp.bfloat16).dtype == jnp.bfloat16


def test_a_sharded_batch_needs_no_communication_and_gives_the_same(rng):
    devices = jax.devices()
    assert len(devices) > 1, "one device shares nothing"
    sharding = NamedSharding(Mesh(devices, "data"), PartitionSpec("data"))
    ids = jnp.arange(len(devices), dtype=jnp.int32)
    global_clips = random_clips(rng, len(devices), 2, 12, 12)
    local_clips = random_clips(rng, len(devices), 1, 2, 12, 12)

    def views(ids, global_clips, local_clips):
        return (
            augment.augment_global(keys_of(ids), global_clips, CONFIG),
            augment.augment_local(keys_of(ids, purpose=Purpose.VIDEO_LOCAL), local_clips, CONFIG),
        )

    args = ids, global_clips, local_clips
    sharded = [jax.device_put(arg, sharding) for arg in args]
    compiled = jax.jit(views, out_shardings=sharding).lower(*sharded).compile()
    for collective in ("all-", "collective", "reduce-scatter"):
        assert collective not in compiled.as_text()
    for ours, expected in zip(compiled(*sharded), jax.jit(views)(*args), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
