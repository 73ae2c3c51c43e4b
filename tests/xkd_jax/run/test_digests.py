import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from xkd_jax import sharding
from xkd_jax.run import digests

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(6, 16)).astype(np.float32)


def by_definition(array):
    """Computes the sum over elements of a hash of bits and place with Python's integers."""

    def mixed(x):
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        return x ^ (x >> 16)

    size = min(array.dtype.itemsize, 4)
    words = np.frombuffer(array.tobytes(), f"<u{size}").tolist()
    return sum(mixed(word ^ mixed(place)) for place, word in enumerate(words)) % 2**32


@pytest.mark.parametrize(
    ("array", "described"),
    [
        (NOISE, "float32[6,16]"),
        (NOISE.astype(ml_dtypes.bfloat16), "bfloat16[6,16]"),
        (np.array(3, np.int32), "int32[]"),
        (np.arange(-3, 3, dtype=np.int8), "int8[6]"),
        (np.array([True, False]), "bool[2]"),
        (np.zeros((0, 3), np.float32), "float32[0,3]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_is_the_same_on_host_and_device_and_by_definition(array, described):
    expected = {"x": f"{described} {by_definition(array):08x}"}
    assert digests.of_arrays({"x": array}) == expected
    assert digests.of_arrays({"x": jnp.asarray(array)}) == expected
    everywhere = sharding.replicate(array, sharding.make_mesh())
    assert len(everywhere.devices()) > 1
    assert digests.of_arrays({"x": everywhere}) == expected


def test_an_array_on_one_cpu_needs_no_program(monkeypatch):
    monkeypatch.setattr(digests, "_on_devices", None)
    expected = {"x": f"float32[6,16] {by_definition(NOISE):08x}"}
    assert digests.of_arrays({"x": jnp.asarray(NOISE)}) == expected


def test_more_elements_than_one_piece_and_eight_bytes_each():
    array = RNG.normal(size=70_000)
    assert digests.of_arrays({"x": array}) == {"x": f"float64[70000] {by_definition(array):08x}"}


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_does_not_depend_on_the_split(fsdp):
    tree = {"params": {"kernel": NOISE}}
    split = jax.device_put(tree, sharding.state_shardings(tree, sharding.make_mesh(fsdp)))
    kernel = split["params"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (6, 16 // fsdp)
    assert digests.of_arrays({"x": kernel}) == digests.of_arrays({"x": NOISE})


def test_every_flipped_bit_and_every_swap_is_noticed():
    array = NOISE[:2]
    expected = digests.of_arrays({"x": array})
    for at in range(array.nbytes):
        for bit in range(8):
            content = bytearray(array.tobytes())
            content[at] ^= 1 << bit
            damaged = np.frombuffer(content, np.float32).reshape(array.shape)
            assert digests.damaged({"x": damaged}, expected) == ["x"]
    for other in (array[::-1], array[:, ::-1], -array, np.roll(array, 1)):
        assert digests.damaged({"x": other}, expected) == ["x"]
    assert digests.damaged({"x": array.reshape(-1)}, expected) == ["x"]
    assert digests.damaged({"x": array, "y": array}, expected) == ["y"]
    assert digests.damaged({}, expected) == ["x"]
    assert not digests.damaged({"x": array}, expected)


def test_a_record_is_unsealed_as_it_was_or_not_at_all():
    record, arrays = {"seed": 1, "name": "a"}, {"x": "int32[] 0a1b2c3d"}
    sealed = digests.seal(record, arrays)
    assert digests.unseal(sealed) == (record, arrays)
    assert digests.unseal(record) == (record, None)
    for name in sealed:
        with pytest.raises(ValueError, match=r"changed since|has no sha256"):
            digests.unseal({**sealed, name: "another"})
        with pytest.raises(ValueError, match=r"changed since|has no sha256"):
            digests.unseal({n: value for n, value in sealed.items() if n != name})
        with pytest.raises(ValueError, match=r"changed since|has no sha256"):
            digests.unseal({n + "x" * (n == name): value for n, value in sealed.items()})
