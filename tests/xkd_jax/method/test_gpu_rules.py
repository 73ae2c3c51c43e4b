"""Pretraining and finetuning under a GPU's rules, which JAX checks without a device."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import gpu
from xkd_jax.measure import step_shapes
from xkd_jax.method.models import vit

ROOT = pathlib.Path(__file__).parents[3]
# One config for each kind of shape.
TRACED = (
    *("k400", "audioset", "folder", "demo"),
    *("eval.finetune_k400", "eval.finetune_esc50", "eval.finetune_joint", "eval.attentive"),
)
SHIPPED = sorted(
    str(path.relative_to(ROOT / "configs").with_suffix("")).replace("/", ".")
    for pattern in ("*.py", "eval/finetune_*.py")
    for path in (ROOT / "configs").glob(pattern)
    if path.stem not in ("__init__", "ablation")
)
KERNEL = "dot_product_attention_"


def shipped(name):
    return importlib.import_module(f"configs.{name}").get_config()


def shape_of(config):
    """Returns what determines the shapes of a config's attention."""
    if config.task != "pretrain":
        return config.get("modality", config.get("modalities")), config.frame_size
    sizes = [
        (m.patch, m.mask_ratio, m.encoder, m.decoder)
        for m in (config.model.video, config.model.audio)
    ]
    return str(config.views), str(sizes)


def attention_calls(jaxpr):
    """Lists all calls of cuDNN's kernel, with the shapes of their queries."""
    for equation in jaxpr.eqns:
        if equation.primitive.name.startswith(KERNEL):
            yield equation.primitive.name.removeprefix(KERNEL), equation.invars[0].aval.shape
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            body = getattr(value, "jaxpr", value)
            if hasattr(body, "eqns"):
                yield from attention_calls(body)


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("k400", "eval.finetune_esc50")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in TRACED
    ],
)
def test_shipped_steps_trace_with_all_attention_fused(name, monkeypatch):
    """While tracing, JAX refuses shapes that cuDNN does not take."""
    config = shipped(name)
    step_shapes.check(config)
    with gpu.rules(monkeypatch):
        step = step_shapes.make(config, gpu.mesh())
        program = jax.make_jaxpr(step.step_fn)(step.state, step.batch, *step.step_args)
    calls = list(attention_calls(program.jaxpr))
    forward = sum("fwd" in kernel for kernel, _ in calls)
    backward = sum("bwd" in kernel for kernel, _ in calls)
    # Two students with two views each, and two decoders; teachers have no backward pass.
    trained, taught = {
        "pretrain": (6, 2),
        "finetune": (2 if config.get("modality") == "joint" else 1, 0),
        "attentive": (0, len(config.get("modalities", ()))),
    }[config.task]
    again = 0 if config.parallel.get("remat", "none") == "none" else trained
    assert (forward, backward) == (taught + trained + again, trained), calls
    assert {shape[0] for _, shape in calls} == {config.batch_size}


def test_all_shipped_configs_are_like_one_that_is_traced():
    shapes = [shape_of(shipped(name)) for name in TRACED]
    assert len(SHIPPED) > 12
    for name in SHIPPED:
        assert shape_of(shipped(name)) in shapes, name


def test_jax_refuses_an_odd_number_of_tokens(monkeypatch):
    """Shows why `vit.padding` is needed; once this test fails, it is not needed any more."""

    def loss(x):
        return jax.nn.dot_product_attention(x, x, x, implementation="cudnn").sum()

    tokens = jax.ShapeDtypeStruct((1, 393, 12, 64), jnp.bfloat16)
    with (
        gpu.rules(monkeypatch),
        pytest.raises(NotImplementedError, match="Unsupported sequence length Q 393, KV 393"),
    ):
        jax.eval_shape(jax.grad(loss), tokens)


@pytest.mark.parametrize("width", [4, 136])
def test_heads_that_the_kernel_does_not_take_go_another_way(width, monkeypatch):
    encoder = vit.Encoder(grid=(32,), width=2 * width, depth=1, heads=2, dtype=jnp.bfloat16)
    patches = jax.ShapeDtypeStruct((1, 32, 5), jnp.float32)
    with gpu.rules(monkeypatch):
        program = jax.make_jaxpr(encoder.init_with_output)(jax.random.key(0), patches)
    assert not list(attention_calls(program.jaxpr))
    assert "[1,34" not in str(program), "tokens are padded"


def spoiled(x, lengths, seed):
    """Replaces tokens of `x` (B, N, H, W) beyond lengths (B,) by large random numbers."""
    is_beyond = (jnp.arange(x.shape[1]) >= lengths[:, None])[..., None, None]
    return jnp.where(is_beyond, 1e4 * jax.random.normal(jax.random.key(seed), x.shape, x.dtype), x)


@jax.custom_vjp
def spoiled_both_ways(x, lengths, seed):
    """Does the same as `spoiled`, also to gradients."""
    return spoiled(x, lengths, seed)


spoiled_both_ways.defvjp(
    lambda x, lengths, seed: (spoiled(x, lengths, seed), (lengths, seed)),
    lambda kept, gradient: (spoiled(gradient, *kept), None, None),
)


@pytest.fixture
def careless_kernel(monkeypatch):
    """Stands for cuDNN's kernel; reads and leaves noise beyond the given lengths."""
    attention = jax.nn.dot_product_attention
    counts = []

    def kernel(query, key, value, *, key_value_seq_lengths, implementation):
        assert implementation == "cudnn"
        assert query.shape[1] % 2 == 0
        counts.append(query.shape[1])
        key = spoiled_both_ways(key, key_value_seq_lengths, 0)
        value = spoiled_both_ways(value, key_value_seq_lengths, 1)
        return attention(query, key, value, key_value_seq_lengths=key_value_seq_lengths)

    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    return counts


@pytest.mark.parametrize(("patches", "row"), [(8, "cls"), (8, "mean"), (9, "cls")])
def test_padded_tokens_are_never_seen(patches, row, careless_kernel, monkeypatch):
    """Tokens, rows and gradients equal those of a CPU, whatever the padding tokens hold."""
    encoder = vit.Encoder(grid=(patches,), width=32, depth=3, heads=2, row=row, dtype=jnp.bfloat16)
    cut = jax.random.normal(jax.random.key(0), (2, patches, 5))
    params = jax.jit(encoder.init)(jax.random.key(1), cut)

    def outputs(params, cut):
        tokens, attention = encoder.apply(params, cut)
        tokens = tokens.astype(jnp.float32)
        return (tokens**2).mean() + jnp.sin(tokens[:, 1:].mean(axis=1)).sum(), (tokens, attention)

    def run():
        # A new function, so that it is traced again.
        return jax.jit(lambda *x: jax.value_and_grad(outputs, (0, 1), has_aux=True)(*x))(
            params, cut
        )

    expected = run()
    assert not careless_kernel
    with gpu.rules(monkeypatch):
        found = run()
    assert set(careless_kernel) == {10}, "9 tokens and 10, CLS included"
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0.05, atol=0.03), found, expected
    )
