"""Exports encoders to a folder that PyTorch's users load with `transformers`, without this package.

The folder has the weights, the configs of model and preprocessing, two Python files that define
both (xkd_jax/interop/pytorch), and a model card.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from xkd_jax.encoders import descriptions, exports
from xkd_jax.encoders.weight_trees import flatten
from xkd_jax.interop import folders, model_card
from xkd_jax.method.models.xkd import MODALITIES

_CODE = pathlib.Path(__file__).parent / "pytorch"
_MODEL, _PROCESSOR = "modeling_xkd", "processing_xkd"
# PyTorch's names of weights where they differ from Flax's.
_NAMES = {"kernel": "weight", "scale": "weight"}


def write(folder: pathlib.Path, weights: exports.Pretrained, overwrite: bool) -> bool:
    """Writes encoders for PyTorch and `transformers`.

    Args:
        folder: Folder to create.
        weights: The encoders.
        overwrite: Whether to replace existing content of `folder`.

    Returns:
        Whether anything was written. Nothing is written if `folder` holds the same already.

    Raises:
        FileExistsError: `folder` holds something else, and `overwrite` is not set.
    """
    config = _config(weights)
    files = {
        exports.CONFIG: folders.json_bytes(config),
        "processor_config.json": folders.json_bytes(_processor(weights.description)),
        "README.md": model_card.text(weights.description).encode(),
        **{f"{name}.py": (_CODE / f"{name}.py").read_bytes() for name in (_MODEL, _PROCESSOR)},
        # transformers reads the format of the tensors here.
        "model.safetensors": safetensors.numpy.save(dict(tensors(weights)), {"format": "pt"}),
    }
    return folders.write(folder, files, overwrite)


def tensors(weights: exports.Pretrained) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the encoders' weights by the names and in the layouts of modeling_xkd.py."""
    names = {root: network for network, root in descriptions.NETWORKS.items()}
    for path, leaf in flatten(weights.trees):
        root, owner, *parts = path
        prefix = f"{names[root]}.{owner}"
        parts = [_NAMES.get(part, part) for part in parts if part not in ("encoder", "transformer")]
        array = np.asarray(leaf, np.float32)
        if path[-1] == "kernel":
            array = array.swapaxes(-1, -2)
        if parts[0] != "blocks":
            yield ".".join([prefix, *parts]), np.ascontiguousarray(array)
            continue
        for number, layer in enumerate(array):
            name = ".".join([prefix, "blocks", str(number), *parts[1:]])
            yield name, np.ascontiguousarray(layer)


def _config(weights: exports.Pretrained) -> dict[str, Any]:
    """Returns the config of an `XKDModel`."""
    description, trees = weights
    networks = {n: list(parts) for n, parts in description["networks"].items()}
    return {
        "model_type": "xkd",
        "architectures": ["XKDModel"],
        "auto_map": {
            "AutoConfig": f"{_MODEL}.XKDConfig",
            "AutoModel": f"{_MODEL}.XKDModel",
            "AutoProcessor": f"{_PROCESSOR}.XKDProcessor",
        },
        "dtype": "float32",
        # By these two, `load_encoder` can say what the folder is.
        "format": description["format"],
        "weights": "huggingface",
        "network": next(iter(networks)),
        "networks": networks,
        "shared": [n for n in networks if "shared" in trees[descriptions.NETWORKS[n]]],
        "cls_token": descriptions.have_cls(trees),
        "encoders": {
            m: {
                "grid": list(descriptions.native_grid(description, m)),
                "patch": list(description["architecture"][m]["patch"]),
                **description["architecture"][m]["encoder"],
            }
            for m in MODALITIES
            if any(m in held for held in networks.values())
        },
        "provenance": descriptions.without_folders(description["provenance"]),
    }


def _processor(description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of an `XKDProcessor`."""
    return {
        "processor_class": "XKDProcessor",
        "auto_map": {"AutoProcessor": f"{_PROCESSOR}.XKDProcessor"},
        "views": description["preprocessing"],
    }
