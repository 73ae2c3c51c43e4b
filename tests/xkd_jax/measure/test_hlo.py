"""Analysis of compiled programs whose communication is known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from xkd_jax import sharding
from xkd_jax.measure import hlo

WIDTH, LAYERS = 64, 5


@pytest.fixture(scope="module")
def text():
    """A scan over layers that sums gradients over eight devices in each layer."""
    mesh = sharding.make_mesh()
    rows, whole = NamedSharding(mesh, P(sharding.BATCH_AXES)), NamedSharding(mesh, P())

    def loss(layers, x):
        x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, layers)
        return jnp.mean(x**2)

    layers = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32, sharding=whole)
    x = jax.ShapeDtypeStruct((16, WIDTH), jnp.float32, sharding=rows)
    return jax.jit(jax.grad(loss), out_shardings=whole).lower(layers, x).compile().as_text()


def test_a_collective_in_a_loop_counts_as_often_as_the_loop_runs(text):
    found = hlo.collectives(text)
    assert {one.kind for one in found} == {"all-reduce"}
    assert hlo.by_kind(found)["all-reduce"][1] == pytest.approx(4 * LAYERS * WIDTH**2, rel=0.01)
    in_text = [one for lines in hlo.computations(text).values() for one in lines]
    assert sum(one.op == "all-reduce" for one in in_text) < LAYERS


def test_without_devices_to_talk_to_there_are_no_collectives():
    text = jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8))).compile().as_text()
    assert hlo.collectives(text) == []
    assert hlo.by_kind([]) == {}


def test_what_accelerators_write_differently():
    """Loops whose length is only in the condition; starts and ends; parts of a collective."""
    text = """HloModule jit_step, is_scheduled=true

%condition (p: (s32[], bf16[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %p = (s32[], bf16[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%part (p: f32[4]) -> f32[32] {
  %p = f32[4]{0} parameter(0)
  ROOT %gathered = f32[32]{0:T(256)} all-gather(%p), channel_id=7, dimensions={0}
}

%body (p: (s32[], bf16[8])) -> (s32[], bf16[8]) {
  %p = (s32[], bf16[8]{0:T(256)(2,1)}) parameter(0)
  %x = bf16[8]{0:T(256)(2,1)S(1)} get-tuple-element(%p), index=1
  %sum = bf16[8]{0:T(256)(2,1)S(1)} all-reduce(%x), channel_id=3, to_apply=%add
  %overlapped = f32[32]{0} fusion(%x), kind=kCustom, calls=%part
  ROOT %out = (s32[], bf16[8]{0}) tuple(%i, %sum)
}

ENTRY %main (x: f32[4], n: (s32[], bf16[8])) -> f32[32] {
  %x = f32[4]{0} parameter(0)
  %n = (s32[], bf16[8]{0}) parameter(1)
  %loop = (s32[], bf16[8]{0}) while(%n), condition=%condition, body=%body
  %first = f32[32]{0} fusion(%x), kind=kCustom, calls=%part
  %start = (f32[4]{0}, f32[32]{0}) all-gather-start(f32[4]{0} %x), channel_id=9, dimensions={0}
  ROOT %done = f32[32]{0} all-gather-done(%start)
}
"""
    found = hlo.collectives(text)
    assert sorted(found) == [
        ("all-gather", 128, 1),  # part of it runs in the loop
        ("all-gather", 128, 1),
        ("all-reduce", 16, 12),
    ]
    assert hlo.by_kind(found) == {"all-reduce": (12, 192), "all-gather": (2, 256)}


def test_bytes_of_shapes():
    assert hlo.bytes_of("(f32[2,3]{1,0:T(8,128)}, /*index=1*/bf16[4]{0}, pred[], f8e4m3fn[3])") == (
        24 + 8 + 1 + 3
    )
    assert list(hlo.shapes("s32[] u8[2,16]{1,0}")) == [("s32", ()), ("u8", (2, 16))]
