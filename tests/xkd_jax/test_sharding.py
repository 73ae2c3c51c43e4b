import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tests.tiny import tiny_config
from xkd_jax import sharding
from xkd_jax.measure import hlo
from xkd_jax.method.hyperparameters import hyperparameters
from xkd_jax.method.models import vit, xkd
from xkd_jax.method.state import init_state


@pytest.mark.parametrize(("fsdp", "data"), [(1, 8), (2, 4), (8, 1)])
def test_mesh_spans_all_devices(fsdp, data):
    mesh = sharding.make_mesh(fsdp)
    assert dict(mesh.shape) == {"data": data, "fsdp": fsdp}
    assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)


@pytest.mark.parametrize("fsdp", [0, 3, 16])
def test_mesh_refuses_an_axis_that_does_not_divide_the_devices(fsdp):
    with pytest.raises(
        ValueError, match=rf"config\.parallel\.fsdp is {fsdp}; allowed with 8 devices: 1, 2, 4, 8$"
    ):
        sharding.make_mesh(fsdp)


@pytest.mark.parametrize(("batch_size", "allowed"), [(12, "8 or 16"), (3, "8"), (0, "8")])
def test_batch_that_the_mesh_does_not_divide_is_refused(batch_size, allowed):
    with pytest.raises(
        ValueError, match=rf"config\.batch_size={batch_size} .*allowed: {allowed}\.$"
    ):
        sharding.check_batch_size(batch_size, sharding.make_mesh())
    sharding.check_batch_size(8, sharding.make_mesh())


def test_batch_that_cannot_be_taken_in_parts_is_refused():
    mesh = sharding.make_mesh()
    message = r"batch_size=40 .* 8 devices times config\.parallel\.accumulate=2; .*: 32 or 48\.$"
    with pytest.raises(ValueError, match=message):
        sharding.check_batch_size(40, mesh, accumulate=2)
    sharding.check_batch_size(48, mesh, accumulate=2)


@pytest.mark.parametrize("fsdp", [1, 4])
def test_batch_is_split_over_all_devices_in_order(fsdp):
    batch = {"x": np.arange(32, dtype=np.float32).reshape(16, 2), "flag": np.arange(16) % 3 == 0}
    placed = sharding.put_batch(batch, sharding.make_mesh(fsdp))
    for name, array in batch.items():
        np.testing.assert_array_equal(placed[name], array)
        assert [shard.data.shape[0] for shard in placed[name].addressable_shards] == [2] * 8


def test_fsdp_splits_weights_teachers_and_moments_and_nothing_small():
    config = tiny_config()
    model = xkd.build(config)
    numbers = hyperparameters(config, 100, 10.0)
    state = jax.eval_shape(lambda: init_state(model, numbers, 0))
    shardings = sharding.state_shardings(state, sharding.make_mesh(fsdp=4))
    qkv = shardings.params["video"]["encoder"]["transformer"]["blocks"]["qkv"]["kernel"]
    assert qkv.spec == P(None, None, "fsdp")
    assert shardings.teacher["audio"]["projector"]["prototypes"].spec == P(None, "fsdp")
    assert shardings.params["video"]["encoder"]["norm"]["scale"].spec == P()
    assert shardings.centers["video"].spec == shardings.step.spec == P()

    def of_a_device(leaf, sharding):
        return int(np.prod(sharding.shard_shape(leaf.shape)))

    whole = sum(leaf.size for leaf in jax.tree.leaves(state))
    split = sum(jax.tree.leaves(jax.tree.map(of_a_device, state, shardings)))
    assert whole / 4 < split < whole / 3  # even at these widths


def test_what_fsdp_does_not_divide_stays_whole():
    state = {"kernel": np.zeros((4, 6)), "other": {"kernel": np.zeros((4, 8))}}
    shardings = sharding.state_shardings({"params": state}, sharding.make_mesh(fsdp=4))["params"]
    assert shardings["kernel"].spec == P()
    assert shardings["other"]["kernel"].spec == P(None, "fsdp")


@pytest.mark.parametrize("fsdp", [2, 8])
def test_with_fsdp_weights_are_gathered_and_no_activations(fsdp):
    """Without constraints, the compiler would gather the tokens of all examples."""
    batch, width, tokens = 16, 32, 10
    mesh = sharding.make_mesh(fsdp)
    depth = vit.SHALLOW + 1  # blocks in a loop, as on TPUs
    encoder = vit.Encoder(grid=(tokens,), width=width, depth=depth, heads=4)
    patches = jax.ShapeDtypeStruct(
        (batch, tokens, 24), np.float32, sharding=sharding.batch_sharding(mesh)
    )
    params = jax.eval_shape(encoder.init, jax.random.key(0), patches)
    shardings = sharding.state_shardings(params, mesh)
    params = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), params, shardings
    )
    gradient = jax.jit(
        jax.grad(lambda params, patches: jnp.mean(encoder.apply(params, patches)[0] ** 2)),
        out_shardings=shardings,
    )

    def gathered():
        programs = hlo.computations(gradient.lower(params, patches).compile().as_text())
        lines = [line for lines in programs.values() for line in lines]
        moved = [line for line in lines if line.op in ("all-gather", "all-to-all")]
        assert moved
        return {extents for line in moved for _, extents in hlo.shapes(line.shape)}

    assert any(len(shape) > 2 and shape[1] == 1 + tokens for shape in gathered())
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        assert not any(1 + tokens in shape and len(shape) > 2 for shape in gathered())


def test_prefetch_gives_every_batch_once_in_order():
    mesh = sharding.make_mesh()
    source = ({"k": np.full(8, k)} for k in range(7))
    with sharding.Prefetch(source, mesh) as batches:
        assert [int(batch["k"][0]) for batch in batches] == list(range(7))
        assert next(batches, None) is None


def test_prefetch_runs_ahead_but_not_away():
    made = []

    def source():
        for k in range(100):
            made.append(k)
            yield np.full(8, k)

    with sharding.Prefetch(source(), sharding.make_mesh(), size=2) as batches:
        next(batches)
        next(batches)
    assert len(made) <= 2 + 2 + 1  # one in use, one queued, one in the thread


def test_prefetch_raises_the_source_s_error_in_its_place():
    def source():
        yield np.zeros(8)
        raise OSError("the disk is gone")

    with sharding.Prefetch(source(), sharding.make_mesh()) as batches:
        next(batches)
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)
