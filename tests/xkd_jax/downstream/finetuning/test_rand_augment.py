"""RandAugment's operations agree with PIL's, and its draws have the right statistics."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest

from xkd_jax import sharding
from xkd_jax.downstream.finetuning import rand_augment

CONFIG = ml_collections.ConfigDict(
    {"operations": 2, "probability": 0.5, "magnitude": 9.0, "magnitude_std": 0.05}
)
FILL = (124, 116, 104)


def clip_of(frames=3, height=20, width=28, seed=0):
    """Makes smooth, distinct frames with noise, from dark to bright."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 60 + 50 * np.sin(x / 5)[..., None] + 60 * np.cos(y[..., None] / 4 + np.arange(3))
    noise = rng.normal(scale=8, size=(frames, height, width, 3))
    gain = np.linspace(0.5, 1.6, frames)[:, None, None, None]
    return np.clip(gain * (base + noise) + 20, 0, 255).astype(np.uint8)


def enhance(kind):
    """Functions (image, magnitude) -> image of the increasing and of the plain set."""
    return (
        lambda image, level: kind(image).enhance(1 + 0.09 * level),
        lambda image, level: kind(image).enhance(0.1 + 0.18 * level),
    )


def affine(matrix):
    def transform(image, level):
        return image.transform(
            image.size,
            PIL.Image.Transform.AFFINE,
            matrix(level / 10, image),
            resample=PIL.Image.Resampling.BILINEAR,
            fillcolor=FILL,
        )

    return transform


# Functions (image, magnitude) -> image. A negative magnitude is the other direction.
BY_PIL = {
    "auto_contrast": lambda image, level: PIL.ImageOps.autocontrast(image),
    "equalize": lambda image, level: PIL.ImageOps.equalize(image),
    "invert": lambda image, level: PIL.ImageOps.invert(image),
    "rotate": lambda image, level: image.rotate(
        3 * level, resample=PIL.Image.Resampling.BILINEAR, fillcolor=FILL
    ),
    "solarize_add": lambda image, level: image.point(
        [min(255, v + int(11 * level)) if v < 128 else v for v in range(256)] * 3
    ),
    "shear_x": affine(lambda share, image: (1, 0.3 * share, 0, 0, 1, 0)),
    "shear_y": affine(lambda share, image: (1, 0, 0, 0.3 * share, 1, 0)),
    "translate_x": affine(lambda share, image: (1, 0, 0.45 * share * image.width, 0, 1, 0)),
    "translate_y": affine(lambda share, image: (1, 0, 0, 0, 1, 0.45 * share * image.height)),
}
ENHANCED = {
    "color": enhance(PIL.ImageEnhance.Color),
    "contrast": enhance(PIL.ImageEnhance.Contrast),
    "brightness": enhance(PIL.ImageEnhance.Brightness),
    "sharpness": enhance(PIL.ImageEnhance.Sharpness),
}
# Operations that differ between the increasing and the plain set.
BY_SET = ENHANCED | {
    "posterize": (
        lambda image, level: PIL.ImageOps.posterize(image, 4 - int(0.4 * level)),
        lambda image, level: PIL.ImageOps.posterize(image, int(0.4 * level)),
    ),
    "solarize": (
        lambda image, level: PIL.ImageOps.solarize(image, 256 - int(25.6 * level)),
        lambda image, level: PIL.ImageOps.solarize(image, int(25.6 * level)),
    ),
}
MOVING = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def draws_of(*operations, magnitude=9.0, negative=False):
    names = [operation.__name__ for operation in rand_augment.OPERATIONS]
    count = len(operations)
    return rand_augment.Draws(
        operation=jnp.array([names.index(name) for name in operations], jnp.int32),
        done=jnp.ones(count, bool),
        magnitude=jnp.full(count, magnitude, jnp.float32),
        negative=jnp.full(count, negative),
    )


@pytest.fixture(scope="module")
def augment_clip():
    return jax.jit(rand_augment.augment_clip, static_argnums=2)


def test_the_operations_are_the_usual_fifteen():
    names = {operation.__name__ for operation in rand_augment.OPERATIONS}
    assert names == {*BY_PIL, *BY_SET}
    assert len(rand_augment.OPERATIONS) == 15


CASES = [(name, True, function) for name, function in BY_PIL.items()] + [
    (name, increasing, function)
    for name, functions in BY_SET.items()
    for increasing, function in zip((True, False), functions, strict=True)
]


@pytest.mark.parametrize(("name", "increasing", "by_pil"), CASES)
def test_each_operation_is_pil_s(name, increasing, by_pil, augment_clip):
    clip = clip_of()
    two_ways = name in MOVING or (increasing and name in ENHANCED)
    for magnitude in (9.0, 4.3):
        for sign in (1, -1) if two_ways else (1,):
            draws = draws_of(name, magnitude=magnitude, negative=sign < 0)
            ours = np.asarray(augment_clip(draws, clip, increasing)).astype(int)
            images = [PIL.Image.fromarray(frame) for frame in clip]
            expected = [np.asarray(by_pil(image, sign * magnitude)) for image in images]
            difference = np.abs(ours - np.stack(expected))
            # Border pixels of the filled area may be on either side; others differ by rounding.
            close = np.mean(difference <= 1)
            assert close == 1 if name not in MOVING else close > 0.99, (magnitude, sign, close)
            assert np.mean(difference == 0) > 0.9, (magnitude, sign)
            assert (ours != clip).mean() > 0.02, "it did nothing"


@pytest.mark.parametrize(
    ("name", "magnitude", "negative", "increasing", "values"),
    [
        ("posterize", 9.0, False, True, {200: 128, 100: 0}),  # 1 bit
        ("posterize", 9.0, False, False, {200: 192, 100: 96}),  # 3 bits
        ("posterize", 7.0, False, True, {200: 192, 100: 64}),  # 2 bits
        ("posterize", 0.0, False, True, {200: 192, 100: 96, 17: 16}),  # 4 bits
        ("posterize", 10.0, False, True, {200: 0}),
        ("solarize", 9.0, False, True, {25: 25, 26: 229}),
        ("solarize", 9.0, False, False, {229: 229, 230: 25}),
        ("solarize", 7.0, False, True, {76: 76, 77: 178}),
        ("solarize", 0.0, False, True, {255: 255}),
        ("brightness", 9.0, False, True, {100: 181}),
        ("brightness", 9.0, True, True, {100: 19}),
        ("brightness", 9.0, True, False, {100: 172}),  # it has one direction
        ("brightness", 7.0, True, True, {100: 37}),
        ("brightness", 0.0, True, True, {100: 100}),
    ],
)
def test_values_by_hand(name, magnitude, negative, increasing, values, augment_clip):
    clip = np.repeat(np.array(list(values), np.uint8), 3).reshape(1, 1, -1, 3)
    draws = draws_of(name, magnitude=magnitude, negative=negative)
    made = np.asarray(augment_clip(draws, clip, increasing)).astype(int)
    assert np.abs(made[0, 0].T - list(values.values())).max() <= (name == "brightness")


def test_frames_of_one_value_stay_where_there_is_nothing_to_spread(augment_clip):
    clip = np.full((3, 20, 28, 3), 77, np.uint8)
    for name in ("auto_contrast", "equalize"):
        np.testing.assert_array_equal(augment_clip(draws_of(name), clip, True), clip)


def test_operations_are_done_in_order_or_not_at_all(augment_clip):
    clip = clip_of()
    both = augment_clip(draws_of("posterize", "invert"), clip, True)
    np.testing.assert_array_equal(both, 255 - augment_clip(draws_of("posterize"), clip, True))
    draws = draws_of("posterize", "invert")._replace(done=jnp.array([False, True]))
    np.testing.assert_array_equal(augment_clip(draws, clip, True), 255 - clip)
    neither = draws._replace(done=jnp.array([False, False]))
    np.testing.assert_array_equal(augment_clip(neither, clip, True), clip)


def test_draws():
    keys = jax.random.split(jax.random.key(0), 5000)
    draws = jax.jit(jax.vmap(lambda key: rand_augment.draw(key, CONFIG)))(keys)
    assert draws.operation.shape == (5000, 2)
    counts = np.stack([np.bincount(draws.operation[:, i], minlength=15) for i in range(2)])
    np.testing.assert_allclose(counts / 5000, 1 / 15, atol=0.015)
    repeated = np.mean(draws.operation[:, 0] == draws.operation[:, 1])
    assert repeated == pytest.approx(1 / 15, abs=0.015)  # with replacement
    for share in (draws.done.mean(), draws.negative.mean()):
        assert share == pytest.approx(0.5, abs=0.02)
    assert draws.magnitude.mean() == pytest.approx(9, abs=3e-3)
    assert draws.magnitude.std() == pytest.approx(0.05, abs=3e-3)
    wide = ml_collections.ConfigDict(CONFIG.to_dict() | {"magnitude_std": 20.0})
    spread = jax.vmap(lambda key: rand_augment.draw(key, wide))(keys).magnitude
    assert spread.min() == 0 and spread.max() == 10


def test_a_batch_over_all_devices_is_its_clips_one_by_one(augment_clip):
    mesh = sharding.make_mesh()
    clips = np.stack([clip_of(seed=seed) for seed in range(16)])
    keys = jax.random.split(jax.random.key(1), 16)
    draws = jax.vmap(lambda key: rand_augment.draw(key, CONFIG))(keys)
    batch = jax.jit(lambda draws, clips: rand_augment.augment(draws, clips, mesh, True))
    placed = sharding.put_batch((draws, clips), mesh)
    compiled = batch.lower(*placed).compile()
    made = compiled(*placed)
    assert made.dtype == np.uint8
    assert made.sharding.is_equivalent_to(sharding.batch_sharding(mesh), made.ndim)
    for i in range(16):
        alone = augment_clip(jax.tree.map(lambda x, i=i: x[i], draws), clips[i], True)
        np.testing.assert_array_equal(made[i], alone)
    for collective in ("all-gather", "all-reduce", "collective-permute", "all-to-all"):
        assert collective not in compiled.as_text()
