import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from xkd_jax.method.models import vit, xkd


def random(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_attention():
    query, key, value = (random(2, 7, 3, 8, seed=i) for i in range(3))
    np.testing.assert_allclose(
        vit.attend(query, key, value),
        jax.nn.dot_product_attention(query, key, value),
        rtol=1e-4,
        atol=1e-6,
    )


def attention_map(query, key):
    """The whole map (B, H, N, N) after the softmax."""
    logits = np.einsum("bqhw,bkhw->bhqk", query, key) / np.sqrt(query.shape[-1])
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("count", [None, 6])
def test_attention_rows_are_those_of_the_whole_map(count):
    query, key = random(2, 8, 3, 8), random(2, 8, 3, 8, seed=1)
    q, k = (np.asarray(x)[:, :count] for x in (query, key))
    expected = {
        "cls": attention_map(q, k)[:, :, 0],
        "mean": attention_map(q.mean(axis=1, keepdims=True), k)[:, :, 0],
        "rows": attention_map(q, k).mean(axis=2),
    }
    for kind, row in expected.items():
        made = vit.attention_row(query, key, kind, count)
        np.testing.assert_allclose(made, row, rtol=1e-4, atol=1e-7, err_msg=kind)
        np.testing.assert_allclose(made.sum(axis=-1), 1, rtol=1e-5)
    assert not np.allclose(expected["mean"], expected["rows"], atol=1e-3)


def test_the_mean_of_rows_is_the_same_in_parts():
    query, key = random(1, 130, 2, 4), random(1, 130, 2, 4, seed=1)  # five parts of 26
    row = vit.attention_row(query, key, "rows")
    np.testing.assert_allclose(row, attention_map(query, key).mean(axis=2), rtol=1e-4)


def test_an_encoder_without_cls_sees_patches_alone():
    with_cls = vit.Encoder(grid=(2, 3), width=8, depth=2, heads=2, row="mean")
    encoder = with_cls.clone(cls=False)
    patches = random(2, 6, 5)
    params = jax.jit(encoder.init)(jax.random.key(0), patches)["params"]
    assert "cls_token" not in params and params["position_embedding"].shape == (6, 8)
    tokens, row = jax.jit(encoder.apply)({"params": params}, patches)
    assert tokens.shape == (2, 7, 8) and row.shape == (2, 2, 6)
    np.testing.assert_array_equal(tokens[:, 0], 0)
    np.testing.assert_allclose(row.sum(axis=-1), 1, rtol=1e-5)
    keep = jnp.array([[4, 1]] * 2)
    kept, kept_row = jax.jit(encoder.apply)({"params": params}, patches, keep=keep)
    assert kept.shape == (2, 3, 8) and kept_row.shape == (2, 2, 2)
    # Patches attend to a CLS token, even if it is 0.
    zero = jnp.zeros((1, 8))
    positions = jnp.concatenate([zero, params["position_embedding"]])
    params = {**params, "cls_token": zero, "position_embedding": positions}
    others, row = jax.jit(with_cls.apply)({"params": params}, patches)
    assert row.shape == (2, 2, 6) and not np.allclose(others[:, 1:], tokens[:, 1:])


def test_seeing_all_patches_in_any_order_is_seeing_them():
    """Dropping decides which patches are encoded, not how."""
    encoder = vit.Encoder(grid=(2, 3), width=8, depth=2, heads=2)
    patches = random(2, 6, 5)
    variables = jax.jit(encoder.init)(jax.random.key(0), patches)
    whole, _ = jax.jit(encoder.apply)(variables, patches)
    order = jnp.array([[3, 0, 5, 1, 2, 4], [0, 1, 2, 3, 4, 5]])
    shuffled, _ = jax.jit(encoder.apply)(variables, patches, keep=order)
    expected = jnp.take_along_axis(whole[:, 1:], order[..., None], axis=1)
    np.testing.assert_allclose(shuffled[:, 1:], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shuffled[:, 0], whole[:, 0], rtol=1e-4, atol=1e-5)


def test_dropped_patches_have_no_influence():
    encoder = vit.Encoder(grid=(2, 3), width=8, depth=2, heads=2)
    patches = random(1, 6, 5)
    variables = jax.jit(encoder.init)(jax.random.key(0), patches)
    keep = jnp.array([[4, 1]])
    apply = jax.jit(encoder.apply)
    before, _ = apply(variables, patches, keep=keep)
    after, _ = apply(variables, patches.at[:, jnp.array([0, 2, 3, 5])].set(9.0), keep=keep)
    np.testing.assert_array_equal(before, after)
    other, _ = apply(variables, patches.at[:, 4].set(9.0), keep=keep)
    assert not np.allclose(before, other)


def test_a_path_may_be_scaled_or_dropped_example_by_example():
    encoder = vit.Encoder(grid=(2, 3), width=8, depth=2, heads=2)
    patches = random(3, 6, 5)
    variables = jax.jit(encoder.init)(jax.random.key(0), patches)
    apply = jax.jit(encoder.apply)
    plain, _ = apply(variables, patches)
    scales = jnp.ones((2, 2, 3)).at[:, :, 1].set(0.0).at[1, 0, 2].set(0.0)
    scaled, _ = apply(variables, patches, scales=scales)
    np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-5, atol=1e-6)
    # If every path is dropped, blocks return their input.
    without = jax.tree.map(lambda x: x, variables)
    blocks = without["params"]["transformer"]["blocks"]
    for name in ("out", "mlp_out"):
        blocks[name] = jax.tree.map(jnp.zeros_like, blocks[name])
    np.testing.assert_allclose(scaled[1], apply(without, patches)[0][1], rtol=1e-5, atol=1e-6)
    # Only the second block's attention of example 2 is dropped.
    blocks = (without := jax.tree.map(lambda x: x, variables))["params"]["transformer"]["blocks"]
    blocks["out"] = jax.tree.map(lambda x: x.at[1].set(0.0), blocks["out"])
    np.testing.assert_allclose(scaled[2], apply(without, patches)[0][2], rtol=1e-5, atol=1e-6)
    assert not np.allclose(scaled[2], plain[2], atol=1e-3)


def test_no_whole_attention_map_is_built_for_the_row():
    """A requested row must not add an (N, N) float32 softmax to the fused attention."""
    encoder = vit.Encoder(grid=(8, 8), width=8, depth=1, heads=2, row="cls")
    patches = random(1, 64, 5)
    variables = jax.jit(encoder.init)(jax.random.key(0), patches)
    plain = encoder.clone(row=None)

    def maps(module):
        text = jax.jit(module.apply).lower(variables, patches).as_text()
        return text.count("65x65xf32")

    assert maps(encoder) == maps(plain) > 0


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny", 6), ("small", 22), ("base", 87), ("large", 305)]
)
def test_parameter_counts_of_video_encoders(name, millions):
    """The paper has 87M and 305M (Table S2)."""
    config = base.get_config()
    config.model.video.encoder = base.transformer(base.ENCODERS[name])
    params = xkd.build(config).shapes()
    count = xkd.count_parameters(params)["video/encoder"]
    assert abs(count / 1e6 - millions) < 1.0


@pytest.mark.parametrize("name", base.DECODERS)
def test_decoders_of_all_sizes(name):
    config = base.get_config()
    width, depth, _ = base.DECODERS[name]
    config.model.video.decoder = base.transformer(base.DECODERS[name])
    decoder = xkd.build(config).shapes()["video"]["decoder"]
    qkv = decoder["transformer"]["blocks"]["qkv"]
    assert qkv["kernel"].shape == (depth, width, 3 * width)
    assert "bias" not in qkv
    assert decoder["prediction"]["kernel"].shape == (width, 4 * 16 * 16 * 3)


def test_initial_values():
    config = base.get_config()
    config.model.video.encoder = base.transformer((64, 2, 4))
    params = jax.jit(xkd.build(config).video.init)(jax.random.key(0))["encoder"]
    assert np.std(params["position_embedding"]) == pytest.approx(0.02, rel=0.2)
    assert np.std(params["cls_token"]) == pytest.approx(0.02, rel=0.4)
    kernel = params["transformer"]["blocks"]["mlp_in"]["kernel"]
    bound = np.sqrt(6 / (64 + 256))  # Xavier's bound for each layer, not for the stack
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert not np.allclose(kernel[0], kernel[1])
    assert not params["patch_embedding"]["bias"].any()


def test_computing_again_saves_memory_and_changes_nothing():
    patches, temporaries, gradients = random(4, 64, 5), {}, {}
    for remat in vit.REMAT:
        encoder = vit.Encoder(grid=(64,), width=32, depth=16, heads=4, remat=remat)
        variables = encoder.init(jax.random.key(0), patches)

        def loss(variables, encoder=encoder):
            return jnp.square(encoder.apply(variables, patches)[0]).mean()

        compiled = jax.jit(jax.grad(loss)).lower(variables).compile()
        temporaries[remat] = compiled.memory_analysis().temp_size_in_bytes
        gradients[remat] = compiled(variables)
    assert temporaries["full"] < 0.6 * temporaries["dots"] < 0.6 * 0.4 * temporaries["none"]
    for remat in ("dots", "full"):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6),
            gradients[remat],
            gradients["none"],
        )


def test_few_blocks_are_not_a_loop_on_a_cpu_and_compute_the_same(monkeypatch):
    transformer = vit.Transformer(width=8, depth=3, heads=2)
    tokens = random(2, 5, 8)
    params = jax.jit(transformer.init)(jax.random.key(0), tokens)

    def program(shallow):
        monkeypatch.setattr(vit, "SHALLOW", shallow)
        loss = jax.value_and_grad(lambda p: jnp.square(transformer.apply(p, tokens)[0]).sum())
        return jax.jit(loss).lower(params).compile()

    in_a_row, in_a_loop = program(shallow=3), program(shallow=2)
    assert " while(" not in in_a_row.as_text() and " while(" in in_a_loop.as_text()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        in_a_row(params),
        in_a_loop(params),
    )
