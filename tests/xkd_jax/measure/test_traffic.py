"""Bytes that programs move, compared to counts by hand."""

import jax
import jax.numpy as jnp

from xkd_jax.measure import traffic

HEADER = "HloModule jit_step, is_scheduled=true\n\n"


def of(text):
    return [(kernel.name, *kernel[2:]) for kernel in traffic.kernels(HEADER + text)]


def test_a_kernel_reads_its_operands_once_and_writes_its_results_once():
    assert of("""%fused (p: f32[10], q: bf16[10]) -> (f32[10], f32[]) {
  %p = f32[10]{0} parameter(0)
  %q = bf16[10]{0} parameter(1)
  %wide = f32[10]{0} convert(%q)
  %product = f32[10]{0} multiply(%p, %wide)
  %square = f32[10]{0} multiply(%product, %p)
  %zero = f32[] constant(0)
  %sum = f32[] reduce(%square, %zero), dimensions={0}, to_apply=%add
  ROOT %both = (f32[10]{0}, f32[]) tuple(%product, %sum)
}

ENTRY %main (a: f32[10], b: bf16[2,5]) -> f32[10] {
  %a = f32[10]{0} parameter(0)
  %b = bf16[2,5]{1,0} parameter(1)
  %flat = bf16[10]{0} bitcast(%b)
  %fusion = (f32[10]{0}, f32[]) fusion(%a, %flat), kind=kLoop, calls=%fused
  %sum = f32[] get-tuple-element(%fusion), index=1
  ROOT %product = f32[10]{0} get-tuple-element(%fusion), index=0
}
""") == [("fusion", 40 + 20, 40 + 4, 1)]


LOOP = """%fused_read (p: f32[12,100], i: s32[]) -> f32[100] {
  %p = f32[12,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %layer = f32[1,100]{1,0} dynamic-slice(%p, %i, %zero), dynamic_slice_sizes={1,100}
  ROOT %flat = f32[100]{0} bitcast(%layer)
}

%fused_write (p: bf16[12,100], x: f32[100], i: s32[]) -> bf16[12,100] {
  %p = bf16[12,100]{1,0} parameter(0)
  %x = f32[100]{0} parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  %narrow = bf16[100]{0} convert(%x)
  %layer = bf16[1,100]{1,0} bitcast(%narrow)
  ROOT %updated = bf16[12,100]{1,0} dynamic-update-slice(%p, %layer, %i, %zero)
}

%condition (c: (s32[], f32[12,100], bf16[12,100])) -> pred[] {
  %c = (s32[], f32[12,100]{1,0}, bf16[12,100]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %layers = s32[] constant(12)
  ROOT %goes_on = pred[] compare(%i, %layers), direction=LT
}

%body (c: (s32[], f32[12,100], bf16[12,100])) -> (s32[], f32[12,100], bf16[12,100]) {
  %c = (s32[], f32[12,100]{1,0}, bf16[12,100]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %weights = f32[12,100]{1,0} get-tuple-element(%c), index=1
  %stack = bf16[12,100]{1,0} get-tuple-element(%c), index=2
  %layer = f32[100]{0} fusion(%weights, %i), kind=kLoop, calls=%fused_read
  %kept = bf16[12,100]{1,0} fusion(%stack, %layer, %i), kind=kLoop, calls=%fused_write
  ROOT %out = (s32[], f32[12,100]{1,0}, bf16[12,100]{1,0}) tuple(%i, %weights, %kept)
}

ENTRY %main (c: (s32[], f32[12,100], bf16[12,100])) -> (s32[], f32[12,100], bf16[12,100]) {
  %c = (s32[], f32[12,100]{1,0}, bf16[12,100]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[12,100]{1,0}, bf16[12,100]{1,0}) while(%c), condition=%condition, \
body=%body
}
"""


def test_a_loop_over_layers_moves_a_layer_at_a_time():
    found = {name: rest for name, *rest in of(LOOP)}
    assert found["layer"] == [400 + 4, 400, 12]
    assert found["kept"] == [400 + 4, 200, 12], "its stack is updated in place"
    kernels = traffic.kernels(HEADER + LOOP)
    assert traffic.total(kernels) == 12 * (804 + 604 + 9), "and 9 bytes of the condition"


def test_what_is_near_the_processors_moves_no_bytes_nor_does_scratch():
    assert of("""ENTRY %main (a: bf16[8,4]) -> bf16[8,8] {
  %a = bf16[8,4]{1,0:T(8,128)(2,1)} parameter(0)
  %start = (bf16[8,4]{1,0:T(8,128)(2,1)S(1)}, bf16[8,4]{1,0}, u32[]{:S(2)}) copy-start(%a)
  %near = bf16[8,4]{1,0:T(8,128)(2,1)S(1)} copy-done(%start)
  %call = (bf16[8,8]{1,0}, s8[4096]{0}) custom-call(%a, %near), \
custom_call_target="__cublas$lt$matmul", metadata={op_name="(a b)"}
  ROOT %product = bf16[8,8]{1,0} get-tuple-element(%call), index=0
}
""") == [("start", 64, 0, 1), ("call", 64, 128, 1)]
    (_, call) = traffic.kernels(
        HEADER
        + """ENTRY %main (a: bf16[4]) -> bf16[4] {
  %a = bf16[4]{0} parameter(0)
  %sum = bf16[4]{0} all-reduce(%a), channel_id=1, to_apply=%add
  ROOT %call = bf16[4]{0} custom-call(%sum), custom_call_target="mine"
}
"""
    )
    assert call.op == "mine"


def test_of_two_branches_the_dearer_one_counts():
    assert of("""%small (p: f32[100]) -> f32[10] {
  %p = f32[100]{0} parameter(0)
  ROOT %part = f32[10]{0} slice(%p), slice={[0:10]}
}

%large (p: f32[100]) -> f32[10] {
  %p = f32[100]{0} parameter(0)
  ROOT %sums = f32[10]{0} reduce-window(%p), window={size=10 stride=10}, to_apply=%add
}

ENTRY %main (which: s32[], a: f32[100]) -> f32[10] {
  %which = s32[] parameter(0)
  %a = f32[100]{0} parameter(1)
  ROOT %either = f32[10]{0} conditional(%which, %a, %a), branch_computations={%small, %large}
}
""") == [("sums", 400, 40, 1)]


def test_a_compiled_loop_moves_weights_inputs_and_outputs():
    layers = jax.ShapeDtypeStruct((7, 256, 256), jnp.float32)
    x = jax.ShapeDtypeStruct((512, 256), jnp.float32)

    def apply(layers, x):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, layers)[0]

    found = traffic.kernels(jax.jit(apply).lower(layers, x).compile().as_text())
    moved = traffic.total([kernel for kernel in found if kernel.op != "copy"])
    products = 7 * 4 * (256 * 256 + 2 * 512 * 256)
    of_the_stack = 7 * 4 * (2 * 256 * 256)  # one layer at a time, each into its own place
    assert products <= moved <= 1.001 * (products + of_the_stack)
