"""Digests of arrays and of what is said about them: damage on a disk or in a copy is noticed.

Of an array, every element is hashed with its position, and the hashes are added. So the digest does
not depend on how the array is split over devices, each of which reads its own part once, where it
is; it differs for sure where one element differs, and else but for one chance in 2**32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline import sealed

_ARRAYS = "arrays"  # what a sealed record has besides its own fields and the seal


def of_arrays(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Describes and digests arrays.

    With several processes, each calls it, with the same names in the same order.

    Args:
        leaves: Arrays of NumPy or JAX, of elements of 1, 2, 4 or 8 bytes.

    Returns:
        For each name the dtype, the shape and the digest, such as "float32[6,1] 0a1b2c3d".
    """
    sums = {}
    for name, leaf in leaves.items():
        is_jax = isinstance(leaf, jax.Array)
        sums[name] = _on_devices(leaf) if is_jax else _on_host(np.asarray(leaf))
        if is_jax and not leaf.is_fully_addressable:
            # One after another: CPUs of several processes may begin programs in different orders,
            # and wait for each other for ever where these communicate.
            sums[name].block_until_ready()
    sums = jax.device_get(sums)  # all at once, when all have been started
    return {name: f"{describe(leaf)} {sums[name]:08x}" for name, leaf in leaves.items()}


def describe(leaf: Any) -> str:
    """An array's dtype and shape, such as "float32[6,1]"."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def misdescribed(leaves: Mapping[str, Any], expected: Mapping[str, str]) -> list[str]:
    """The names at which `leaves`, of anything with dtype and shape, are not those digested."""
    found = {name: describe(leaf) for name, leaf in leaves.items()}
    return _differing(found, {name: text.split()[0] for name, text in expected.items()})


def damaged(leaves: Mapping[str, Any], expected: Mapping[str, str]) -> list[str]:
    """The names at which arrays are not those digested, or are missing on one side."""
    return _differing(of_arrays(leaves), expected)


def seal(record: Mapping[str, Any], arrays: Mapping[str, str]) -> dict[str, Any]:
    """Adds to plain values the digests of the arrays that they tell of, and one of it all."""
    return sealed.seal({**record, _ARRAYS: dict(arrays)})


def unseal(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Takes apart what `seal` made.

    Returns:
        The record and the arrays' digests; for these None where it never was sealed.

    Raises:
        ValueError: It was, and has changed since.
    """
    if _ARRAYS not in record and sealed.FIELD not in record:
        return dict(record), None
    record = sealed.unseal(record)
    return record, record.pop(_ARRAYS)


def _differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return [n for n in {**expected, **found} if found.get(n) != expected.get(n)]


@jax.jit
def _on_devices(array: jax.Array) -> jax.Array:
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    # Elements of 8 bytes become two along a last axis.
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    # Axis by axis: a reshape would gather an array that is split.
    places = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        places = places * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return jnp.sum(_hashed(bits, places), dtype=jnp.uint32)


def _on_host(array: np.ndarray) -> np.ndarray:
    unsigned = {1: np.uint8, 2: np.uint16}.get(array.dtype.itemsize, np.uint32)
    bits = np.ascontiguousarray(array).reshape(-1).view(unsigned)
    total, piece = np.zeros(1, np.uint32), 1 << 16  # elements: what fits the processor's cache
    for start in range(0, bits.size, piece):
        part = bits[start : start + piece].astype(np.uint32)
        places = np.arange(start, start + part.size, dtype=np.uint64).astype(np.uint32)
        total += np.sum(_hashed(part, places), dtype=np.uint32)
    return total[0]


def _hashed(bits: Any, places: Any) -> Any:
    return _mixed(bits ^ _mixed(places))


def _mixed(x: Any) -> Any:
    """The last stage of MurmurHash3: one to one, and every bit depends on all."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
