"""Composition and variants: shared weights, teachers' targets, and unequal encoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from tests.tiny import random_params, tiny_config
from xkd_jax.method import averages
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES, Views


def random_views(model, config, local_counts=(1, 1)):
    rng = np.random.default_rng(0)
    batch, video, audio = 2, config.views.video, config.views.audio
    n, m = local_counts
    size = {"video": (video.global_frames, video.global_size, video.global_size, 3)}
    size["audio"] = (audio.mel_bands, audio.global_frames)
    local = {"video": (n, video.local_frames, video.local_size, video.local_size, 3)}
    local["audio"] = (m, audio.mel_bands, audio.local_frames)
    return {
        name: Views(
            rng.normal(size=(batch, *size[name])).astype(np.float32),
            rng.normal(size=(batch, *local[name])).astype(np.float32),
            rng.uniform(size=(batch, getattr(model, name).token_count)).astype(np.float32),
            np.ones(batch, np.float32),
        )
        for name in MODALITIES
    }


def leaves(tree):
    return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("variant", xkd.VARIANTS)
def test_what_a_variant_shares(variant):
    model = xkd.build(tiny_config(variant))
    params = model.shapes()
    teacher = jax.eval_shape(model.teacher_target, params)
    assert ("shared" in params) == (variant != "xkd")
    assert ("shared" in teacher) == (variant == "xkd_mats")
    for tree in (params, teacher):
        for m in MODALITIES:
            assert ("transformer" in tree[m]["encoder"]) == ("shared" not in tree)
            own = {"cls_token", "position_embedding", "patch_embedding", "norm"}
            assert own <= set(tree[m]["encoder"])
            assert "projector" in tree[m]
    assert all("decoder" in params[m] and "decoder" not in teacher[m] for m in MODALITIES)


@pytest.mark.parametrize("variant", xkd.VARIANTS)
def test_teachers_start_equal_to_students_and_follow_them(variant):
    model = xkd.build(tiny_config(variant))
    params = random_params(model)
    teacher = model.teacher_target(params)
    for m in MODALITIES:
        same = jax.tree.map(
            np.array_equal, xkd.encoder_params(teacher, m), xkd.encoder_params(params, m)
        )
        assert all(jax.tree.leaves(same))
    moved = jax.tree.map(lambda x: x + 1.0, params)
    momenta = {"video": np.float32(0.75), "audio": np.float32(0.75)}
    followed = averages.follow(model.teacher_target(moved), teacher, momenta)
    assert leaves(followed) == leaves(teacher)
    for new, old in zip(jax.tree.leaves(followed), jax.tree.leaves(teacher), strict=True):
        np.testing.assert_allclose(new, old + 0.25, atol=1e-5)  # once, whether shared or not


def test_each_teacher_follows_with_its_own_momentum():
    model = xkd.build(tiny_config())
    params = random_params(model)
    target = jax.tree.map(np.ones_like, model.teacher_target(params))
    teacher = jax.tree.map(np.zeros_like, target)
    followed = averages.follow(target, teacher, {"video": 0.9, "audio": 0.5})
    assert np.allclose(followed["video"]["encoder"]["cls_token"], 0.1)
    assert np.allclose(followed["audio"]["encoder"]["cls_token"], 0.5)


def test_shared_blocks_see_both_modalities_gradients():
    config = tiny_config("xkd_mas")
    model = xkd.build(config)
    params = random_params(model)
    views = random_views(model, config)

    @jax.jit
    def gradients(params):
        def objective(params, m):
            return jnp.square(model.study(params, views)[m].latent).mean()

        return {m: jax.grad(objective)(params, m)["shared"] for m in MODALITIES}

    for tree in gradients(params).values():
        assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(tree))


def test_local_views_keep_their_place():
    """Projection (1 + v, b) belongs to view v of example b: equal views have equal projections."""
    config = tiny_config()
    model = xkd.build(config)
    views = random_views(model, config, local_counts=(3, 0))
    local = views["video"].local
    local[1, 2] = local[0, 1]
    students = jax.jit(model.study)(random_params(model), views)
    projections = np.asarray(students["video"].projections)
    assert projections.shape == (4, 2, 64)
    np.testing.assert_allclose(projections[3, 1], projections[2, 0], rtol=1e-4, atol=1e-5)
    distances = np.linalg.norm(
        projections.reshape(8, 1, 64) - projections.reshape(1, 8, 64), axis=-1
    )
    assert (distances[np.triu_indices(8, 1)] < 1e-2).sum() == 1
    assert students["audio"].projections.shape == (1, 2, 64)


def test_larger_video_encoder_beside_a_smaller_audio_encoder():
    """A small version of ViT-L beside ViT-B, with different widths and numbers of heads."""
    config = tiny_config()
    config.model.video.encoder = base.transformer((48, 3, 6))
    model = xkd.build(config)
    params = random_params(model)
    teacher = jax.jit(model.teach)(model.teacher_target(params), random_views(model, config))
    assert teacher["video"].cross_attention.shape == (2, 6, 2 * 4 * 4)
    assert teacher["audio"].cross_attention.shape == (2, 4, 4 * 4)
    assert teacher["video"].refined.shape == (2, 32, 48)


def test_without_refinement_no_attention_is_computed():
    config = tiny_config()
    config.xkd.refine = False
    model = xkd.build(config)
    params = model.shapes()
    views = jax.eval_shape(lambda: random_views(model, config))
    teacher = jax.eval_shape(model.teach, jax.eval_shape(model.teacher_target, params), views)
    assert teacher["video"].attention is None


@pytest.mark.parametrize("variant", xkd.VARIANTS)
def test_without_cls_no_network_has_one(variant):
    config = tiny_config(variant)
    config.xkd.query = "mean"
    model = xkd.build(config)
    params = model.shapes()
    teacher = jax.eval_shape(model.teacher_target, params)
    assert not any("cls_token" in name for name in leaves(params) | leaves(teacher))
    counts = {"video": 32, "audio": 4 * 4}
    for m, count in counts.items():
        assert params[m]["encoder"]["position_embedding"].shape == (count, 32)
        assert params[m]["decoder"]["position_embedding"].shape == (count, 16)
    views = jax.eval_shape(lambda: random_views(model, config))
    taught = jax.eval_shape(model.teach, teacher, views)
    studied = jax.eval_shape(model.study, params, views)
    for m, count in counts.items():
        assert taught[m].attention.shape == (2, 4, count)
        assert taught[m].refined.shape == (2, count, 32)
        assert studied[m].predictions.shape[:2] == (2, count)


@pytest.mark.parametrize("query", ["mean", "rows"])
def test_decoders_without_cls_ignore_the_first_token(query):
    config = tiny_config()
    config.xkd.query = query
    model = xkd.build(config)
    params = random_params(model)["audio"]
    noise = np.random.default_rng(0).uniform(size=(2, 16)).astype(np.float32)
    views = np.random.default_rng(1).normal(size=(2, 16, 64)).astype(np.float32)
    restored = model.audio.restore(params, views, noise)
    np.testing.assert_array_equal(restored.latent[:, 0], 0)
    other = model.audio.decode(params, restored.latent.at[:, 0].set(9.0), restored.mask)
    np.testing.assert_array_equal(other, restored.predictions)


def test_parameter_counts_cover_every_parameter():
    model = xkd.build(tiny_config("xkd_mas"))
    params = model.shapes()
    counts = xkd.count_parameters(params)
    assert sum(counts.values()) == sum(x.size for x in jax.tree.leaves(params))
    assert {"video/encoder", "audio/decoder", "shared/transformer"} <= set(counts)
