"""Digests of arrays and of their records, which reveal damage on a disk or in a copy.

The digest of an array is the sum of a hash of each element with its position. It does not depend on
how the array is split over devices, and each device reads only its own part. The digests of two
arrays always differ if exactly one element differs, and otherwise with probability 1 - 2**-32.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.files import sealed

_ARRAYS = "arrays"  # the field that `seal` adds to a record, besides the seal


def of_arrays(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Computes the dtype, the shape and the digest of arrays.

    All processes must call it, with the same names in the same order.

    Args:
        leaves: NumPy or JAX arrays, whose elements have 1, 2, 4 or 8 bytes.

    Returns:
        Dtype, shape and digest by name, such as "float32[6,1] 0a1b2c3d".
    """
    sums = {}
    for name, leaf in leaves.items():
        if _is_in_host_memory(leaf):
            sums[name] = _on_host(np.asarray(leaf))
            continue
        sums[name] = _on_devices(leaf)
        if not leaf.is_fully_addressable:
            # Wait for each one: on CPUs, several processes may start the programs in different
            # orders, and then wait for each other forever in their communication.
            sums[name].block_until_ready()
    sums = jax.device_get(sums)  # one transfer after all are started
    return {name: f"{describe(leaf)} {sums[name]:08x}" for name, leaf in leaves.items()}


def of_record(arrays: Mapping[str, str]) -> str:
    """Computes one SHA-256 of the digests from `of_arrays`, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(dict(arrays), sort_keys=True).encode()).hexdigest()


def describe(leaf: Any) -> str:
    """Describes an array by its dtype and shape, such as "float32[6,1]"."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def misdescribed(leaves: Mapping[str, Any], expected: Mapping[str, str]) -> list[str]:
    """Returns the names of leaves whose dtype or shape differs from the digested array's."""
    actual = {name: describe(leaf) for name, leaf in leaves.items()}
    return _differing(actual, {name: text.split()[0] for name, text in expected.items()})


def damaged(leaves: Mapping[str, Any], expected: Mapping[str, str]) -> list[str]:
    """Returns the names of arrays that differ from their digests, or are missing on one side."""
    return _differing(of_arrays(leaves), expected)


def seal(record: Mapping[str, Any], arrays: Mapping[str, str]) -> dict[str, Any]:
    """Adds the digests of arrays to a record of plain values, and a digest of the whole record."""
    return sealed.seal({**record, _ARRAYS: dict(arrays)})


def unseal(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Checks and separates what `seal` has joined.

    Args:
        record: A sealed record, or one from before records were sealed.

    Returns:
        The record, and the digests of arrays, which are None if the record was never sealed.

    Raises:
        ValueError: The record has changed since it was sealed.
    """
    if _ARRAYS not in record and sealed.FIELD not in record:
        return dict(record), None
    record = sealed.unseal(record)
    return record, record.pop(_ARRAYS)


def _differing(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return [n for n in {**expected, **actual} if actual.get(n) != expected.get(n)]


def _is_in_host_memory(leaf: Any) -> bool:
    """Returns whether NumPy can read an array in place, which needs no program for its shape."""
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.is_fully_addressable and [d.platform for d in leaf.devices()] == ["cpu"]


@jax.jit
def _on_devices(array: jax.Array) -> jax.Array:
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    # An element of 8 bytes becomes two elements along a new last axis.
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    # Computed axis by axis, because a reshape would gather an array that is split over devices.
    places = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        places = places * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return jnp.sum(_hashed(bits, places), dtype=jnp.uint32)


def _on_host(array: np.ndarray) -> np.ndarray:
    unsigned = {1: np.uint8, 2: np.uint16}.get(array.dtype.itemsize, np.uint32)
    bits = np.ascontiguousarray(array).reshape(-1).view(unsigned)
    total, piece = np.zeros(1, np.uint32), 1 << 16  # elements per piece, which fit the CPU's cache
    for start in range(0, bits.size, piece):
        part = bits[start : start + piece].astype(np.uint32)
        places = np.arange(start, start + part.size, dtype=np.uint64).astype(np.uint32)
        total += np.sum(_hashed(part, places), dtype=np.uint32)
    return total[0]


def _hashed(bits: Any, places: Any) -> Any:
    return _mixed(bits ^ _mixed(places))


def _mixed(x: Any) -> Any:
    """Applies the last stage of MurmurHash3: it is one-to-one, and every bit depends on all."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
