"""Trees of weights, by the paths of their arrays: read in part from Orbax, and checked."""

import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from xkd_jax.run import saved_checkpoint

Path = tuple[str, ...]  # of an array, such as ("teacher", "video", "encoder", "cls_token")


def load(
    path: pathlib.Path, name: str, saved: Any, wanted: Callable[[Path], bool]
) -> dict[str, Any]:
    """Reads only the wanted arrays of a checkpoint, into the host's memory."""
    abstract = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: (
            np.empty(leaf.shape, leaf.dtype) if wanted(names(keys)) else ocp.PLACEHOLDER
        ),
        saved,
    )
    loaded = dict(flatten(ocp.load_checkpointables(path, {name: abstract})[name]))
    return nest({path: leaf for path, leaf in loaded.items() if wanted(path)})


def check(
    path: pathlib.Path,
    trees: dict[str, Any],
    arrays: dict[str, str] | None,
    wanted: Callable[[Path], bool],
) -> None:
    """Compares loaded weights with the digests of those that were written.

    Args:
        path: Path for the warning that there are no digests.
        trees: Loaded weights.
        arrays: Digests by name of all weights that were written; None if there are none.
        wanted: The filter that the weights were loaded with.

    Raises:
        DamagedError: A weight differs from its digest, or is missing on one side.
    """
    if arrays is None:
        warnings.warn(f"{path}: {saved_checkpoint.UNVERIFIED}", stacklevel=4)
    else:
        expected = {name: a for name, a in arrays.items() if wanted(tuple(name.split("/")))}
        saved_checkpoint.check_arrays(by_name(trees), expected)


def by_name(trees: Any) -> dict[str, Any]:
    """Returns the arrays by names such as "teacher/video/encoder/cls_token"."""
    return {"/".join(path): leaf for path, leaf in flatten(trees)}


def names(keys: tuple[Any, ...]) -> Path:
    """Converts JAX's keys of a leaf to a path."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in keys)


def flatten(tree: Any) -> list[tuple[Path, Any]]:
    """Lists the arrays of a tree with their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(names(keys), leaf) for keys, leaf in leaves]


def nest(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """Makes nested dictionaries of arrays by path."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return tree
