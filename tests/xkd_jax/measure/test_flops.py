import jax
import jax.numpy as jnp
import pytest

from configs import k400
from tests.tiny import tiny_config
from xkd_jax.measure import flops
from xkd_jax.method.models import xkd


def test_the_paper_s_model_costs_what_the_method_s_sheet_says():
    config = k400.get_config()
    counts = flops.per_clip(xkd.build(config), config.views)
    assert counts["teachers"] == pytest.approx(180e9, rel=0.01)
    assert counts["student_encoders"] == pytest.approx(202e9, rel=0.01)
    assert counts["decoders"] == pytest.approx(52e9, rel=0.01)
    assert sum(counts.values()) == pytest.approx(434e9, rel=0.01)


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
