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
    return lambda image, level: kind(image).enhance(0.1 + 1.8 * level / 10)


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
    "posterize": lambda image, level: PIL.ImageOps.posterize(image, int(0.4 * level)),
    "solarize": lambda image, level: PIL.ImageOps.solarize(image, int(25.6 * level)),
    "solarize_add": lambda image, level: image.point(
        [min(255, v + int(11 * level)) if v < 128 else v for v in range(256)] * 3
    ),
    "color": enhance(PIL.ImageEnhance.Color),
    "contrast": enhance(PIL.ImageEnhance.Contrast),
    "brightness": enhance(PIL.ImageEnhance.Brightness),
    "sharpness": enhance(PIL.ImageEnhance.Sharpness),
    "shear_x": affine(lambda share, image: (1, 0.3 * share, 0, 0, 1, 0)),
    "shear_y": affine(lambda share, image: (1, 0, 0, 0.3 * share, 1, 0)),
    "translate_x": affine(lambda share, image: (1, 0, 0.45 * share * image.width, 0, 1, 0)),
    "translate_y": affine(lambda share, image: (1, 0, 0, 0, 1, 0.45 * share * image.height)),
}
DIRECTED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


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
    return jax.jit(rand_augment.augment_clip)


def test_the_operations_are_the_usual_fifteen():
    assert {operation.__name__ for operation in rand_augment.OPERATIONS} == set(BY_PIL)
    assert len(rand_augment.OPERATIONS) == 15


@pytest.mark.parametrize("name", BY_PIL)
def test_each_operation_is_pil_s(name, augment_clip):
    clip = clip_of()
    for magnitude in (9.0, 4.3):
        for sign in (1, -1) if name in DIRECTED else (1,):
            draws = draws_of(name, magnitude=magnitude, negative=sign < 0)
            ours = np.asarray(augment_clip(draws, clip)).astype(int)
            images = [PIL.Image.fromarray(frame) for frame in clip]
            expected = [np.asarray(BY_PIL[name](image, sign * magnitude)) for image in images]
            difference = np.abs(ours - np.stack(expected))
            # Border pixels of the filled area may be on either side; others differ by rounding.
            close = np.mean(difference <= 1)
            assert close == 1 if name not in DIRECTED else close > 0.99, (magnitude, sign, close)
            assert np.mean(difference == 0) > 0.9, (magnitude, sign)
            assert (ours != clip).mean() > 0.02, "it did nothing"


def test_frames_of_one_value_stay_where_there_is_nothing_to_spread(augment_clip):
    clip = np.full((3, 20, 28, 3), 77, np.uint8)
    for name in ("auto_contrast", "equalize"):
        np.testing.assert_array_equal(augment_clip(draws_of(name), clip), clip)


def test_operations_are_done_in_order_or_not_at_all(augment_clip):
    clip = clip_of()
    both = augment_clip(draws_of("posterize", "invert"), clip)
    np.testing.assert_array_equal(both, 255 - augment_clip(draws_of("posterize"), clip))
    draws = draws_of("posterize", "invert")._replace(done=jnp.array([False, True]))
    np.testing.assert_array_equal(augment_clip(draws, clip), 255 - clip)
    neither = draws._replace(done=jnp.array([False, False]))
    np.testing.assert_array_equal(augment_clip(neither, clip), clip)


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
    batch = jax.jit(lambda draws, clips: rand_augment.augment(draws, clips, mesh))
    placed = sharding.put_batch((draws, clips), mesh)
    compiled = batch.lower(*placed).compile()
    made = compiled(*placed)
    assert made.dtype == np.uint8
    assert made.sharding.is_equivalent_to(sharding.batch_sharding(mesh), made.ndim)
    for i in range(16):
        alone = augment_clip(jax.tree.map(lambda x, i=i: x[i], draws), clips[i])
        np.testing.assert_array_equal(made[i], alone)
    for collective in ("all-gather", "all-reduce", "collective-permute", "all-to-all"):
        assert collective not in compiled.as_text()
