"""Clipping, decay and AdamW compared to loops over the tensors of every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from xkd_jax.method import optimizer


def params_like(scale=1.0, seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

    return {
        "video": {
            "encoder": {
                "cls_token": draw(1, 4),
                "norm": {"scale": draw(4)},
                "transformer": {"blocks": {"out": {"kernel": draw(3, 4, 4), "bias": draw(3, 4)}}},
            },
            "decoder": {"prediction": {"kernel": draw(4, 2)}},
        }
    }


def test_every_tensor_of_every_layer_is_clipped_by_itself():
    gradients = params_like(scale=0.1)
    clip = optimizer.clip_each_tensor(0.3, lambda names: "decoder" not in names)
    clipped, _ = clip.update(gradients, clip.init(gradients))

    def expected(x):
        return x * min(1.0, 0.3 / (np.linalg.norm(x) + 1e-6))

    before, after = gradients["video"]["encoder"], clipped["video"]["encoder"]
    blocks, clipped_blocks = (x["transformer"]["blocks"]["out"] for x in (before, after))
    for name in ("kernel", "bias"):
        for layer in range(3):
            np.testing.assert_allclose(
                clipped_blocks[name][layer], expected(blocks[name][layer]), rtol=1e-5
            )
    np.testing.assert_allclose(after["cls_token"], expected(before["cls_token"]), rtol=1e-5)
    norms = np.linalg.norm(blocks["kernel"], axis=(1, 2))
    assert norms.max() > 0.3, "the test would show nothing"
    np.testing.assert_array_equal(
        clipped["video"]["decoder"]["prediction"]["kernel"],
        gradients["video"]["decoder"]["prediction"]["kernel"],
    )


def test_small_gradients_are_not_touched():
    gradients = params_like(scale=1e-3)
    clip = optimizer.clip_each_tensor(0.3, lambda names: True)
    clipped, _ = clip.update(gradients, clip.init(gradients))
    np.testing.assert_array_equal(
        clipped["video"]["encoder"]["cls_token"], gradients["video"]["encoder"]["cls_token"]
    )


def test_what_decays():
    mask = optimizer.decay_mask(params_like())["video"]
    assert mask == {
        "encoder": {
            "cls_token": True,
            "norm": {"scale": False},
            "transformer": {"blocks": {"out": {"kernel": True, "bias": False}}},
        },
        "decoder": {"prediction": {"kernel": True}},
    }


def classifier_params():
    encoder = params_like()["video"]["encoder"]
    encoder["patch_embedding"] = {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}
    encoder["position_embedding"] = jnp.ones((7, 4))
    return {"encoder": encoder, "head": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}}


def test_what_decays_in_finetuning():
    mask = optimizer.decay_mask_of_weights(classifier_params())
    assert mask == {
        "encoder": {
            "cls_token": False,
            "position_embedding": False,
            "patch_embedding": {"kernel": True, "bias": False},
            "norm": {"scale": False},
            "transformer": {"blocks": {"out": {"kernel": True, "bias": False}}},
        },
        "head": {"kernel": True, "bias": False},
    }


def test_layer_decay_by_hand():
    """Three blocks with decay 0.5 have ids 0 to 4 and factors 1/16, 1/8, 1/4, 1/2 and 1."""
    updates = classifier_params()
    tx = optimizer.scale_by_depth(0.5, 3)
    scaled, _ = tx.update(updates, tx.init(updates))
    factors = jax.tree.map(
        lambda new, old: np.unique((new / old).reshape(len(new), -1), axis=1), scaled, updates
    )
    encoder, head = factors["encoder"], factors["head"]
    for name in ("cls_token", "position_embedding", "patch_embedding"):
        assert all((x == 1 / 16).all() for x in jax.tree.leaves(encoder[name])), name
    for name in ("kernel", "bias"):
        blocks = encoder["transformer"]["blocks"]["out"][name]
        np.testing.assert_array_equal(blocks, [[1 / 8], [1 / 4], [1 / 2]])
    assert all((x == 1).all() for x in jax.tree.leaves((encoder["norm"], head)))


def test_adamw_by_hand():
    params, lr, wd = params_like(), 0.01, 0.3
    numbers = optimizer.Hyperparameters(
        learning_rate=10 * lr,  # the peak, after ten steps; the test takes four
        final_learning_rate=0.0,
        warmup_steps=10,
        total_steps=100,
        b1=0.9,
        b2=0.95,
        eps=1e-8,
        weight_decay=wd,
        clip_norm=np.inf,
    )

    @jax.jit
    def update(numbers, gradients, state, params):
        tx = optimizer.adamw(numbers, clipped=lambda names: True)
        return tx.update(gradients, state, params)

    state = optimizer.adamw(numbers).init(params)
    kernel = np.asarray(params["video"]["decoder"]["prediction"]["kernel"], np.float64)
    scale = np.asarray(params["video"]["encoder"]["norm"]["scale"], np.float64)
    moments = {
        name: [np.zeros_like(x), np.zeros_like(x)]
        for name, x in (("kernel", kernel), ("scale", scale))
    }
    for step in range(4):
        gradients = params_like(seed=step + 1)
        updates, state = update(numbers, gradients, state, params)
        params = optax.apply_updates(params, updates)
        for name, g in (
            ("kernel", gradients["video"]["decoder"]["prediction"]["kernel"]),
            ("scale", gradients["video"]["encoder"]["norm"]["scale"]),
        ):
            g = np.asarray(g, np.float64)
            first, second = moments[name]
            moments[name] = [0.9 * first + 0.1 * g, 0.95 * second + 0.05 * g**2]
            first, second = moments[name]
            t = step + 1
            direction = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.95**t)) + 1e-8)
            if name == "kernel":
                kernel = kernel - lr * step * (direction + wd * kernel)
            else:
                scale = scale - lr * step * direction
    np.testing.assert_allclose(
        params["video"]["decoder"]["prediction"]["kernel"], kernel, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(params["video"]["encoder"]["norm"]["scale"], scale, rtol=1e-4)
