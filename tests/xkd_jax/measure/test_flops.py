import functools
import math

import jax
import jax.numpy as jnp
import pytest

from configs import k400
from tests.tiny import tiny_config
from xkd_jax.downstream import attentive_heads
from xkd_jax.measure import flops
from xkd_jax.method.models import xkd
from xkd_jax.method.models.vit import Encoder, init_params


def test_the_paper_s_model_costs_what_the_method_s_sheet_says():
    config = k400.get_config()
    counts = flops.per_clip(xkd.build(config), config.views)
    assert counts["teachers"] == pytest.approx(180e9, rel=0.01)
    assert counts["student_encoders"] == pytest.approx(202e9, rel=0.01)
    assert counts["decoders"] == pytest.approx(52e9, rel=0.01)
    assert sum(counts.values()) == pytest.approx(434e9, rel=0.01)


@pytest.mark.parametrize(("modalities", "blocks"), [(("video",), 1), (("video", "audio"), 2)])
def test_an_attentive_probe_s_parts_agree_with_the_compiler(modalities, blocks):
    """Counts the forward pass: what a gradient adds is twice as much."""
    sizes = {"video": (4, 64, (8, 16, 16), (2, 4, 4)), "audio": (2, 32, (16, 32), (4, 8))}
    encoders, tokens, grids, weights = {}, {}, {}, {}
    for m in modalities:
        heads, width, view, patch = sizes[m]
        grids[m] = tuple(n // p for n, p in zip(view, patch, strict=True))
        encoders[m] = (Encoder(grids[m], width, 1, heads), patch)
        tokens[m] = jnp.zeros((1, math.prod(grids[m]), width))
        weights[m] = jax.eval_shape(functools.partial(init_params, *encoders[m]), jax.random.key(0))
    model = attentive_heads.Heads.over(encoders, blocks, 10, 3)

    def counted(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    views = {m: jnp.zeros((1, *sizes[m][2], 3)[: 5 if m == "video" else 3]) for m in modalities}
    params = jax.eval_shape(model.init, jax.random.key(0))
    counts = flops.attentive_per_clip(model, grids)
    assert counts["encoder"] == pytest.approx(counted(model.tokens, weights, views), rel=0.15)
    assert counts["heads"] / 3 == pytest.approx(counted(model.classify, params, tokens), rel=0.15)


def test_agrees_with_the_compiler_where_there_is_one_block():
    """Uses one block: the compiler counts only one iteration of a scan over blocks."""
    config = tiny_config()
    config.model.video.encoder.update({"width": 64, "depth": 1})
    model = xkd.build(config)
    encoder = model.video.encoder
    patches = jnp.zeros((1, model.video.token_count, model.video.decoder.patch_size))
    params = jax.eval_shape(encoder.init, jax.random.key(0), patches)
    counted = jax.jit(encoder.apply).lower(params, patches).compile().cost_analysis()["flops"]
    assert flops.per_clip(model, config.views)["teachers"] > 0
    assert flops._encoder(model.video, model.video.token_count) == pytest.approx(counted, rel=0.15)
