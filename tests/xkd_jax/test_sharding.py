import jax
import numpy as np
import pytest

from xkd_jax import sharding


@pytest.mark.parametrize(("fsdp", "data"), [(1, 8), (2, 4), (8, 1)])
def test_mesh_spans_all_devices(fsdp, data):
    mesh = sharding.make_mesh(fsdp)
    assert dict(mesh.shape) == {"data": data, "fsdp": fsdp}
    assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)


@pytest.mark.parametrize("fsdp", [0, 3, 16])
def test_mesh_refuses_an_axis_that_does_not_divide_the_devices(fsdp):
    with pytest.raises(ValueError, match=f"fsdp axis of {fsdp} does not divide the 8 devices"):
        sharding.make_mesh(fsdp)


@pytest.mark.parametrize(("batch_size", "allowed"), [(12, "8 or 16"), (3, "8"), (0, "8")])
def test_batch_that_the_mesh_does_not_divide_is_refused(batch_size, allowed):
    with pytest.raises(
        ValueError, match=rf"config\.batch_size={batch_size} .*allowed: {allowed}\.$"
    ):
        sharding.check_batch_size(batch_size, sharding.make_mesh())
    sharding.check_batch_size(8, sharding.make_mesh())


@pytest.mark.parametrize("fsdp", [1, 4])
def test_batch_is_split_over_all_devices_in_order(fsdp):
    batch = {"x": np.arange(32, dtype=np.float32).reshape(16, 2), "flag": np.arange(16) % 3 == 0}
    placed = sharding.put_batch(batch, sharding.make_mesh(fsdp))
    for name, array in batch.items():
        np.testing.assert_array_equal(placed[name], array)
        assert [shard.data.shape[0] for shard in placed[name].addressable_shards] == [2] * 8


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
    assert len(made) <= 2 + 2 + 1  # used, queued, in the thread's hand


def test_prefetch_raises_the_source_s_error_in_its_place():
    def source():
        yield np.zeros(8)
        raise OSError("the disk is gone")

    with sharding.Prefetch(source(), sharding.make_mesh()) as batches:
        next(batches)
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)
