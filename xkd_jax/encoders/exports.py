"""Exports: folders with weights and their description, written and read.

A folder has the weights, as an Orbax checkpoint or one safetensors file, and config.json: their
description with digests of everything, by which damage is noticed.
"""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from safetensors import safe_open
from safetensors.numpy import save_file

from input_pipeline.files import atomic, sealed
from xkd_jax.encoders import description_rules, descriptions, weight_trees
from xkd_jax.encoders.weight_trees import Path
from xkd_jax.run import digests, saved_checkpoint
from xkd_jax.run.saved_checkpoint import DamagedError

STORES = ("orbax", "safetensors")

CONFIG = "config.json"
_WEIGHTS = {"orbax": "weights", "safetensors": "model.safetensors"}
FILES = (CONFIG, _WEIGHTS["safetensors"])
# Exports for other programs, and what to do with them.
_FOREIGN = {
    "release": "files for PyTorch; convert them with xkd_jax.interop.import_release",
    "huggingface": "an export for transformers; export the run with --format=safetensors",
    "stablehlo": "an export for JAX alone; export the run with --format=safetensors",
}


class Pretrained(NamedTuple):
    """Weights and their description.

    Attributes:
        description: Content of config.json; see `descriptions.describe`.
        trees: Nested dictionaries of arrays, usually NumPy's.
    """

    description: dict[str, Any]
    trees: dict[str, Any]


def as_json(description: Mapping[str, Any], arrays: Mapping[str, str]) -> str:
    """Formats the text of config.json.

    Args:
        description: Description of the weights from `descriptions.describe`.
        arrays: Digests of the weights from `digests.of_arrays`.
    """
    return json.dumps(digests.seal(description, arrays), indent=2) + "\n"


def save(
    folder: str | os.PathLike,
    pretrained: Pretrained,
    store: str = "orbax",
    overwrite: bool = False,
) -> bool:
    """Writes weights and their description atomically.

    Args:
        folder: Folder to create. If it holds the same already, it is left as it is.
        pretrained: Weights and their description.
        store: Format of the weights, one of `STORES`.
        overwrite: Whether to replace a folder that holds something else.

    Returns:
        Whether anything was written.

    Raises:
        FileExistsError: The folder holds something else, and `overwrite` is not set.
        OSError: The folder cannot be written.
    """
    folder = pathlib.Path(folder).absolute()
    weights = weight_trees.by_name(pretrained.trees)
    description = {**pretrained.description, "weights": store}
    text = as_json(description, digests.of_arrays(weights))
    if folder.exists() and _is_same(folder, text, weights):
        return False
    with atomic.replacing_folder(folder, overwrite) as draft, _unwritable(folder):
        if store == "orbax":
            # Weights are written from the host's memory, also on TPU and GPU.
            arrays = jax.tree.map(np.asarray, pretrained.trees)
            ocp.save_checkpointables(draft / _WEIGHTS[store], {"trees": arrays})
        else:
            flat = {name: np.ascontiguousarray(x) for name, x in weights.items()}
            save_file(flat, draft / _WEIGHTS[store])
        (draft / CONFIG).write_text(text, "utf-8")
    return True


@contextlib.contextmanager
def _unwritable(folder: pathlib.Path) -> Iterator[None]:
    """Converts whatever Orbax, TensorStore and safetensors raise for a full disk to an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # TensorStore's message has several paths before the system's own message.
        message = " ".join(str(error).split())
        reason = re.split(r" \[\w+='", message)[0].rpartition(": ")[2] or message
        raise OSError(
            f"{folder} cannot be written ({type(error).__name__}: {reason[:300]})"
        ) from error


def read(
    path: pathlib.Path, wanted: Callable[[Path], bool] = descriptions.everything
) -> Pretrained | None:
    """Reads what `save` wrote.

    Args:
        path: The folder.
        wanted: Function of a weight's path that returns whether to load it.

    Returns:
        The wanted weights, and the description of all; None if the folder is no export.

    Raises:
        DamagedError: The export is damaged, or another version's.
    """
    content = _read_description(path)
    if not content:
        return None
    for store, what in _FOREIGN.items():
        if content.get("weights") == store:
            raise DamagedError(f"{path} holds {what}")
    try:
        description, arrays = digests.unseal(content)
    except ValueError as error:
        raise DamagedError(
            f"{path / CONFIG} is damaged ({error}); export again, or, if you changed it yourself, "
            'remove its "sha256" and its "arrays"'
        ) from None
    store = description.get("weights")
    if description.get("format_version") != descriptions.FORMAT_VERSION or store not in STORES:
        raise DamagedError(
            f"{path / CONFIG} has format_version {description.get('format_version')} and weights "
            f"{store!r}; allowed: format_version {descriptions.FORMAT_VERSION} and weights "
            f"{' or '.join(STORES)}"
        )
    try:
        description_rules.check(description)
    except ValueError as error:
        raise DamagedError(f"{path / CONFIG} cannot be used: {error}") from None
    try:
        with saved_checkpoint.reading():
            trees, names = _load_weights(path / _WEIGHTS[store], store, wanted)
            weight_trees.check(path, trees, arrays, wanted)
            _check_listed(names, description["networks"])
    except DamagedError as error:
        raise DamagedError(
            f"{path / _WEIGHTS[store]} cannot be used ({error}); export again"
        ) from None
    return Pretrained(description, trees)


def _load_weights(
    path: pathlib.Path, store: str, wanted: Callable[[Path], bool]
) -> tuple[dict[str, Any], list[Path]]:
    """Returns the wanted weights, and the paths of all weights in the file."""
    if store == "orbax":
        saved_checkpoint.check_files(path)
        saved = ocp.checkpointables_metadata(path).metadata.get("trees")
        return weight_trees.load(path, "trees", saved, wanted), [
            p for p, _ in weight_trees.flatten(saved)
        ]
    if not path.is_file():  # a pipe would block the whole process
        raise DamagedError("it is missing or not a regular file")
    path.open("rb").close()  # safetensors calls any error of the system a missing file
    with safe_open(path, "numpy") as file:
        paths = [tuple(name.split("/")) for name in file.keys()]  # noqa: SIM118 - not a dictionary
        return weight_trees.nest(
            {p: file.get_tensor("/".join(p)) for p in paths if wanted(p)}
        ), paths


def _check_listed(paths: list[Path], networks: Mapping[str, Any]) -> None:
    """Raises DamagedError if a description lists other networks than there are weights of."""
    held, listed = (
        {(n, m, part) for n, parts in listing.items() for m in parts for part in parts[m]}
        for listing in (descriptions.contents(weight_trees.nest(dict.fromkeys(paths))), networks)
    )
    for network, m, part in sorted(held ^ listed):
        has, weights = (
            ("lists", "no weights")
            if (network, m, part) in listed
            else ("does not list", "weights")
        )
        raise DamagedError(
            f"{CONFIG} {has} the {m} {part} of the {network}, of which there are {weights}"
        )


def _read_description(path: pathlib.Path) -> dict[str, Any] | None:
    """Reads config.json; returns None if it is missing or a run's, not one that `save` wrote."""
    try:
        description = sealed.load_json(path / CONFIG)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedError(str(error)) from error
    except OSError as error:
        raise DamagedError(f"{path / CONFIG} cannot be read: {error.strerror}") from error
    is_ours = isinstance(description, dict) and description.get("format") == descriptions.FORMAT
    return description if is_ours else None


def _is_same(folder: pathlib.Path, text: str, weights: dict[str, Any]) -> bool:
    """Returns whether a folder holds the same description and weights, undamaged."""
    try:
        existing = read(folder)
    except (ValueError, OSError):
        return False
    if existing is None:
        return False
    description, _ = digests.unseal(json.loads(text))
    theirs = weight_trees.by_name(existing.trees)
    return (
        existing.description == description
        and weights.keys() == theirs.keys()
        and all(np.array_equal(weights[name], theirs[name], equal_nan=True) for name in weights)
    )
