"""The model and the training step of finetuning, each against its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.eval import finetune_audio, finetune_video
from tests.saved_runs import save_run
from xkd_jax import sharding
from xkd_jax.downstream import backbones
from xkd_jax.downstream.finetuning import finetune_model, finetune_step
from xkd_jax.downstream.finetuning.finetune_step import HELD_OUT

CLASSES = 3


@pytest.fixture(scope="module")
def video(run):
    """Video encoder for 48 pixels, pretrained with 32."""
    return backbones.load(run, ("video",), "teacher", np.dtype("float32"), 48)["video"]


def params_of(model, weights):
    params = model.init(jax.random.key(0), weights)
    params["head"]["bias"] = jnp.arange(CLASSES, dtype=jnp.float32)
    return params


def test_logits_are_the_head_on_the_encoder_s_features(video, rng):
    """The positions are resized once, with the same result as the encoder's own resizing."""
    model, weights = finetune_model.from_pretrained(video, CLASSES)
    assert model.encoder.grid == (2, 6, 6)
    assert weights["position_embedding"].shape == (1 + 72, 32)
    params = params_of(model, weights)
    views = rng.normal(size=(2, 8, 48, 48, 3)).astype(np.float32)
    features = video.encode_views(views)
    expected = features @ params["head"]["kernel"] + params["head"]["bias"]
    logits = jax.jit(model.logits)(params, {"video": views})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert np.std(params["head"]["kernel"]) == pytest.approx(0.02, rel=0.3)


def test_features_of_unit_length_lose_their_scale(video, rng):
    model, weights = finetune_model.from_pretrained(video, CLASSES, normalize=True)
    params = params_of(model, weights)
    views = rng.normal(size=(2, 8, 48, 48, 3)).astype(np.float32)
    features = video.encode_views(views)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    expected = features @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(
        jax.jit(model.logits)(params, {"video": views}), expected, rtol=1e-4, atol=1e-5
    )


def test_an_encoder_without_cls_is_finetuned_with_resized_positions(tmp_path):
    save_run(tmp_path, query="mean")
    video = backbones.load(tmp_path, ("video",), "teacher", np.dtype("float32"), 48)["video"]
    model, weights = finetune_model.from_pretrained(video, CLASSES)
    assert weights["position_embedding"].shape == (72, 32)
    views = {"video": jax.ShapeDtypeStruct((2, 8, 48, 48, 3), np.float32)}
    assert jax.eval_shape(model.logits, params_of(model, weights), views).shape == (2, CLASSES)


def noise(features=1.0, paths=1.0):
    return finetune_model.Noise(jnp.full((2, 32), features), jnp.full((2, 2, 2), paths))


def test_dropout_and_drop_path_drop_by_their_noise(video, rng):
    views = {"video": rng.normal(size=(2, 8, 48, 48, 3)).astype(np.float32)}
    model, weights = finetune_model.from_pretrained(video, CLASSES, dropout=0.25, drop_path=0.4)
    params = params_of(model, weights)
    params["head"]["bias"] = jnp.zeros(CLASSES)
    logits = jax.jit(model.logits)
    # Dropping half of the features removes them from the head and scales up the others.
    half = noise()._replace(features=jnp.where(jnp.arange(32) < 16, 0.1, 0.3) * jnp.ones((2, 1)))
    kept = jax.tree.map(lambda x: x, params)
    kept["head"]["kernel"] = kept["head"]["kernel"].at[:16].set(0.0) / 0.75
    no_paths = model.__class__(**{**vars(model), "drop_path": 0.0})
    np.testing.assert_allclose(
        no_paths.logits(params, views, half),
        no_paths.logits(kept, views),
        rtol=1e-4,
        atol=1e-6,
    )
    # The first block is never dropped. The second has rate 0.4: a path is dropped or scaled by
    # 1 / 0.6.
    dropped = logits(params, views, noise(paths=0.39))
    scaled = logits(params, views, noise(paths=0.41))
    for made, factor in ((dropped, 0.0), (scaled, 1 / 0.6)):
        changed = jax.tree.map(lambda x: x, params)
        changed["head"]["kernel"] = changed["head"]["kernel"] / 0.75
        blocks = changed["encoder"]["transformer"]["blocks"]
        for name in ("out", "mlp_out"):
            blocks[name] = jax.tree.map(lambda x, f=factor: x.at[1].multiply(f), blocks[name])
        np.testing.assert_allclose(made, logits(changed, views), rtol=1e-4, atol=1e-5)


def test_noise_is_each_example_s_own(video):
    model, _ = finetune_model.from_pretrained(video, CLASSES)
    keys = jax.random.split(jax.random.key(0), 4)
    both = model.noise({"features": keys, "paths": keys})
    assert both.features.shape == (4, 32) and both.paths.shape == (4, 2, 2)
    one = model.noise({"features": keys[2:3], "paths": keys[2:3]})
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2:3], b), both, one)


def test_losses_by_hand():
    logits = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], np.float32)
    soft = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]], np.float32)
    log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(
        finetune_step.classification_loss(logits, soft, False),
        -(soft * log_shares).sum(axis=1),
        rtol=1e-5,
    )
    several = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    shares = 1 / (1 + np.exp(-logits))
    binary = -(several * np.log(shares) + (1 - several) * np.log(1 - shares))
    np.testing.assert_allclose(
        finetune_step.classification_loss(logits, several, True), binary.mean(axis=1), rtol=1e-5
    )


def batch_of(rng, count=8, replaced=()):
    return {
        "views": {"audio": rng.normal(size=(count, 16, 64)).astype(np.float32)},
        "targets": np.eye(CLASSES, dtype=bool)[np.arange(count) % CLASSES],
        "replaced": np.isin(np.arange(count), replaced),
        "example_id": np.arange(count, dtype=np.int64),
        "epoch": np.zeros(count, np.int32),
    }


def test_examples_that_others_stand_in_for_do_not_count_nor_what_is_mixed_with_them(rng):
    config = finetune_audio.get_config()
    mesh, seed = sharding.make_mesh(), jnp.uint32(0)
    augmented = jax.jit(lambda batch: finetune_step.augmented(batch, config, mesh, seed))
    _, _, weights = augmented(batch_of(rng, replaced=(2,)))
    np.testing.assert_array_equal(weights, [1, 1, 0, 1, 1, 1, 1, 1])
    config.mixing.mixup = 1.0
    augmented = jax.jit(lambda batch: finetune_step.augmented(batch, config, mesh, seed))
    _, targets, weights = augmented(batch_of(rng, replaced=(2,)))
    np.testing.assert_array_equal(weights, [1, 1, 0, 1, 1, 0, 1, 1])  # 5 is mixed with 2
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    assert ((targets > 0).sum(axis=1) > 1).any()


def test_clips_of_video_come_out_normalized_mixed_and_smoothed(rng):
    config = finetune_video.get_config()
    mesh = sharding.make_mesh()
    batch = batch_of(rng)
    batch["views"] = {"video": rng.integers(0, 256, (8, 2, 8, 8, 3)).astype(np.uint8)}
    augmented = jax.jit(
        lambda batch, seed: finetune_step.augmented(batch, config, mesh, seed),
    )
    made, targets, _ = augmented(batch, jnp.uint32(0))
    views = made["video"]
    assert views.shape == (8, 2, 8, 8, 3) and -2.2 < views.min() < -1 and 1 < views.max() < 2.7
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    assert targets.min() >= 0.1 / CLASSES * 0.999
    again, _, _ = augmented(batch, jnp.uint32(0))
    other, _, _ = augmented(batch, jnp.uint32(1))
    np.testing.assert_array_equal(views, again["video"])
    assert not np.allclose(views, other["video"])


def test_scores_are_put_down_and_the_best_parameters_kept():
    def state(value, history, best):
        params = {"w": jnp.full(2, value)}
        best = {"w": jnp.full(2, best)} if best is not None else None
        return finetune_step.FinetuneState(0, params, (), 0, jnp.array(history), best)

    none = finetune_step.NO_SCORE
    history = [[0.4, 0.9], [none, none], [none, none]]
    for score, expected in ((0.5, 7.0), (0.4, 3.0), (0.3, 3.0)):
        kept = finetune_step.keep_scores(state(7.0, history, 3.0), 1, jnp.array([score, 0.8]))
        np.testing.assert_allclose(kept.history[1], [score, 0.8])
        np.testing.assert_array_equal(kept.history[2], none)
        assert kept.best["w"][0] == expected
    first = [[none, none]] * 3
    kept = finetune_step.keep_scores(state(7.0, first, 0.0), 0, jnp.array([0.0, none]))
    assert kept.best["w"][0] == 7.0 and kept.history[0, HELD_OUT] == 0
    assert finetune_step.keep_scores(state(7.0, first, None), 0, jnp.zeros(2)).best is None
