"""The traced step in bfloat16, for CPU and TPU: dtypes, attention maps, repeated products.

tests/xkd_jax/method/test_gpu_rules.py traces it for GPUs, where attention is a call of cuDNN.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from tests.tiny import tiny_config
from xkd_jax import pretrain_run, sharding
from xkd_jax.method import train_step
from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models import xkd
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.method.state import init_state

# Tracing takes long; test_gpu_rules.py always traces for another platform than the tests'.
PLATFORMS = ("cpu", pytest.param("tpu", marks=pytest.mark.slow))
# Scopes of two products: of queries and keys, and of positions resized to another grid.
LOGITS = ("bhqw,bhkw->bhqk", "BTNH,BSNH->BNTS")
POSITIONS = ("thwd,xt,yh,zw->xyzd", "ftd,xt->fxd")


@functools.cache
def step_program(platform, remat="none"):
    """Returns the step of the tiny model, traced for a device that may be absent."""
    config = tiny_config()
    config.parallel.remat = remat
    device = jax.sharding.AbstractDevice(device_kind="any", num_cores=1, platform=platform)
    mesh = jax.sharding.AbstractMesh((1, 1), sharding.BATCH_AXES, abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        model = xkd.build(config, jnp.bfloat16)
        numbers = hyperparameters(config, 100, 10.0)
        step = train_step.make_train_step(model, config)
        state = jax.eval_shape(functools.partial(init_state, model, numbers, 0))
        batch = pretrain_run.batch_shapes(config)
        return jax.make_jaxpr(step)(state, batch, numbers).jaxpr


def equations(jaxpr, scope=""):
    """Yields all equations with their scopes, also those in the bodies of scans."""
    for equation in jaxpr.eqns:
        inner = f"{scope}/{equation.source_info.name_stack}"
        yield equation, inner
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            body = getattr(value, "jaxpr", value)
            if hasattr(body, "eqns"):
                yield from equations(body, inner)


def products(jaxpr):
    """Lists the operands' types and shapes, the result's shape and the scope of matrix products."""
    return [
        (
            {str(x.aval.dtype) for x in equation.invars},
            [x.aval.shape for x in equation.invars],
            equation.outvars[0].aval.shape,
            scope,
        )
        for equation, scope in equations(jaxpr)
        if equation.primitive.name == "dot_general"
    ]


def is_map(shape):
    """Returns whether a shape is (..., N, N) with the number of tokens of some view."""
    return len(shape) >= 4 and shape[-1] == shape[-2] and shape[-1] in (33, 17, 6, 5, 4)


def scans(jaxpr, scope_part):
    return [
        (equation, scope)
        for equation, scope in equations(jaxpr)
        if equation.primitive.name == "scan" and scope_part in scope and "transformer" in scope
    ]


@pytest.mark.parametrize("remat", ["none", "dots"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_encoders_and_decoders_multiply_in_bfloat16(platform, remat):
    networks = [p for p in products(step_program(platform, remat)) if "coder" in p[3]]
    assert sum(types == {"bfloat16"} for types, *_ in networks) > 50
    for types, operands, _, scope in networks:
        if types == {"float32"}:
            # These are weights: learned positions for the local views' grid.
            assert scope.endswith(POSITIONS), (operands, scope)
        elif types != {"bfloat16"}:
            # The gradient of the float32 softmax with respect to queries and keys.
            assert any(name in scope for name in LOGITS), (operands, scope)
            assert any(is_map(shape[:-2] + shape[-1:] * 2) for shape in operands)
            assert "transpose" in scope


@pytest.mark.parametrize("platform", PLATFORMS)
def test_losses_multiply_in_float32(platform):
    """MMD's distances are in float32, and so is the gradient of the projectors' outputs."""
    outside = [p for p in products(step_program(platform)) if "coder" not in p[3]]
    for types, _, _, scope in outside:
        if "Projector" not in scope:
            assert types == {"float32"}, scope
        elif types != {"bfloat16"}:
            assert "transpose" in scope
    distances = [p for p in outside if "Projector" not in p[3] and "transpose" not in p[3]]
    assert len(distances) == 6, "two samples, of students and of teachers, three products each"


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_what_the_backward_pass_is_left_of_attention(platform, remat):
    """Attention maps are kept for the backward pass only without remat, on CPUs and TPUs."""
    forward = [e for e, scope in scans(step_program(platform, remat), "jvp") if e.outvars]
    forward = [e for e in forward if "transpose" not in str(e.source_info.name_stack)]
    assert len(forward) == 6, "masked and local views' encoders, and the decoders"
    for equation in forward:
        kept = [x.aval.shape for x in equation.outvars[equation.params["num_carry"] :]]
        assert any(map(is_map, kept)) == (remat == "none"), kept


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_teacher_makes_no_map_twice_and_keeps_one_row(platform):
    config = tiny_config()
    teachers = [
        (equation, scope)
        for equation, scope in scans(step_program(platform), "Encoder")
        if "jvp" not in scope
    ]
    assert len(teachers) == len(MODALITIES)
    for equation, _ in teachers:
        assert len(equation.outvars) == equation.params["num_carry"], "layers stack nothing"
        tokens = max(x.aval.shape[1] for x in equation.outvars if x.aval.ndim == 3)
        made = [shape for *_, shape, _ in products(equation.params["jaxpr"].jaxpr)]
        maps = [shape for shape in made if shape.count(tokens) == 2]
        rows = [shape for shape in made if shape == (config.batch_size, 4, tokens)]
        assert (len(maps), len(rows)) == (1, 1), made
        assert len(made) == 3 + 3 + 2 + 1, "Q, K and V; output and MLP; attention; the row"
