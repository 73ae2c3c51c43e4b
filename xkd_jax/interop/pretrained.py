"""Pretrained weights with their description, saved in a folder or loaded from a run.

A saved folder has the weights, as an Orbax checkpoint or one safetensors file, and config.json. The
latter holds all that is needed to use the weights without the run: the architecture, the
preprocessing and the provenance. It also holds digests of everything, by which damage is noticed.
The trees of weights are those of `xkd_jax.train_step.TrainState`:

    params    students' weights
    teacher   teachers' weights
    centers   centers of the teachers' outputs

Trees may be incomplete: those of encoders hold only {network: {modality: {"encoder": ...}}}. Blocks
that the modalities share are under {network: {"shared": ...}}.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from safetensors import safe_open
from safetensors.numpy import save_file

from input_pipeline import atomic, sealed
from xkd_jax import augment, checkpoint, digests, preprocessing, saved_checkpoint
from xkd_jax.interop import description_rules
from xkd_jax.models.patches import token_grid
from xkd_jax.models.xkd import MODALITIES
from xkd_jax.saved_checkpoint import DamagedError

FORMAT = "xkd_jax"
FORMAT_VERSION = 1
STORES = ("orbax", "safetensors")
# By the users' name of a network, the root of its weights.
NETWORKS = {"teacher": "teacher", "student": "params"}

CONFIG = "config.json"
_WEIGHTS = {"orbax": "weights", "safetensors": "model.safetensors"}
_FILES = (CONFIG, _WEIGHTS["safetensors"])

Path = tuple[str, ...]


class Pretrained(NamedTuple):
    """Weights and their description.

    Attributes:
        description: Content of config.json; see `describe`.
        trees: Nested dictionaries of arrays, usually NumPy's.
    """

    description: dict[str, Any]
    trees: dict[str, Any]


def encoders_only(path: Path) -> bool:
    """Returns whether a weight belongs to an encoder, given its path."""
    return path[0] in NETWORKS.values() and (path[1] == "shared" or path[2] == "encoder")


def everything(path: Path) -> bool:
    """Returns whether a weight belongs to the model, not the optimizer, given its path."""
    return path[0] in (*NETWORKS.values(), "centers")


def describe(
    config: Mapping[str, Any], trees: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Describes weights so that they can be used without the run that made them.

    Args:
        config: Config of the run (xkd_jax/config/pretraining.py) as nested dictionaries.
        trees: Weights, or anything of the same structure.
        provenance: Plain values that say where the weights come from.

    Returns:
        The description: plain values for config.json.
    """
    model, video, audio = config["model"], config["views"]["video"], config["views"]["audio"]
    preprocessing = {
        "video": {
            "frame_rate": video["frame_rate"],
            "frames": video["global_frames"],
            "size": video["global_size"],
            "mean": [round(float(x), 6) for x in augment.MEAN],
            "std": [round(float(x), 6) for x in augment.STD],
        },
        "audio": {
            "seconds": video["global_frames"] / video["frame_rate"],
            "frames": audio["global_frames"],
            **{name: audio[name] for name in description_rules.LOG_MEL},
        },
    }
    networks = contents(trees)
    held = [m for m in MODALITIES if any(m in parts for parts in networks.values())]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "networks": networks,
        "architecture": {
            "variant": model["variant"],
            **{m: {k: model[m][k] for k in ("patch", "encoder")} for m in held},
        },
        "preprocessing": {m: preprocessing[m] for m in held},
        "provenance": dict(provenance),
        # The whole config, so that the pretraining can be continued.
        "config": dict(config),
    }


def native_grid(description: Mapping[str, Any], modality: str) -> tuple[int, ...]:
    """Returns the numbers of tokens, by axis, that an encoder was trained on."""
    view = preprocessing.view_shape(description["preprocessing"][modality], modality)
    return token_grid(view, description["architecture"][modality]["patch"])


def contents(trees: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Lists the parts of each network and modality that trees hold."""
    return {
        network: {
            m: sorted({*trees[root][m], *(["encoder"] if "shared" in trees[root] else [])})
            for m in MODALITIES
            if m in trees[root]
        }
        for network, root in NETWORKS.items()
        if root in trees
    }


def as_json(description: Mapping[str, Any], arrays: Mapping[str, str]) -> str:
    """Formats the text of config.json.

    Args:
        description: Description of the weights from `describe`.
        arrays: Digests of the weights from `digests.of_arrays`.
    """
    return json.dumps(digests.seal(description, arrays), indent=2) + "\n"


def summary(description: Mapping[str, Any]) -> str:
    """Formats lines that say which networks the weights are of, and what these see."""
    lines = []
    for m in MODALITIES:
        networks = {
            n: ", ".join(parts[m]) for n, parts in description["networks"].items() if m in parts
        }
        if not networks:
            continue
        size, view = description["architecture"][m], description["preprocessing"][m]
        encoder = size["encoder"]
        if m == "video":
            sees = f"{view['frames']} frames of {view['size']}x{view['size']} pixels"
            sees += f" at {view['frame_rate']:g} per second"
        else:
            sees = f"{view['seconds']:.4g} s at {view['sample_rate']} Hz"
            sees += f" as log-mels of {view['mel_bands']}x{view['frames']}"
        lines += [
            f"{m}: width {encoder['width']}, depth {encoder['depth']}, {encoder['heads']} heads",
            f"  sees {sees}, in patches of {'x'.join(map(str, size['patch']))}",
            *(f"  {network}: {parts}" for network, parts in networks.items()),
        ]
    return "\n".join(lines)


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
    weights = _by_name(pretrained.trees)
    description = {**pretrained.description, "weights": store}
    text = as_json(description, digests.of_arrays(weights))
    if folder.exists() and _is_same(folder, text, weights):
        return False
    with replacing(folder, overwrite) as draft, _unwritable(folder):
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


@contextlib.contextmanager
def replacing(folder: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """Creates or replaces a folder atomically, after its content is written elsewhere.

    Args:
        folder: Folder to create or replace.
        overwrite: Whether to replace an existing folder that is not empty.

    Yields:
        A hidden folder beside it to write to, which is removed if the body raises an error.

    Raises:
        FileExistsError: The folder exists and is not empty, and `overwrite` is not set.
    """
    if folder.exists() and not overwrite and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} exists already and holds something else; give another --output, or "
            "--overwrite to replace it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    draft.chmod(0o755)  # mkdtemp makes it private to its owner
    old = draft.with_name(f"{draft.name}.old")
    try:
        with atomic.named(folder):
            yield draft
        if folder.exists():
            os.rename(folder, old)
        os.rename(draft, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        _remove(draft)
        raise
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def _remove(draft: pathlib.Path) -> None:
    """Removes a folder to which Orbax's threads may still write after a failed save."""
    for _ in range(20):
        shutil.rmtree(draft, ignore_errors=True)
        if not draft.exists():
            break
        time.sleep(0.1)


def load(path: str | os.PathLike, wanted: Callable[[Path], bool] = everything) -> Pretrained:
    """Loads weights; from a run, those of its newest checkpoint.

    Args:
        path: Workdir of a run, one of its checkpoints, or a folder that `save` wrote.
        wanted: Function of a weight's path, such as ("teacher", "video", "encoder", "cls_token"),
            that returns whether to load it.

    Returns:
        The wanted weights that exist, and the description of all weights that exist.

    Raises:
        FileNotFoundError: `path` is not a folder.
        DamagedError: `path` is none of these, cannot be read, or differs from what was written.

    Warns:
        UserWarning: The weights were written by a version without digests.
    """
    path = pathlib.Path(os.path.expanduser(path)).absolute()
    if not path.is_dir():
        problem = "is a file" if path.is_file() else "no such folder"
        hint = f"; give its folder, {path.parent}" if path.name in _FILES else ""
        raise FileNotFoundError(
            f"{path}: {problem}; allowed: the workdir of a run, or a folder that "
            f"xkd_jax.interop.export or xkd_jax.interop.import_release wrote{hint}"
        )
    content = _read_description(path)
    if content:
        return _load_folder(path, content, wanted)
    return _load_checkpoint(_newest(path), wanted)


def _newest(path: pathlib.Path) -> pathlib.Path:
    """Returns the newest complete checkpoint of a run, or `path` itself if it is a checkpoint."""
    if saved_checkpoint.is_checkpoint(path):
        return path
    # The class that training uses would remove what a running process is still writing.
    step = checkpoint.latest_step(path)
    if step is None:
        if (
            path.name == "checkpoints"
            and (step_of_run := checkpoint.latest_step(path.parent)) is not None
        ):
            raise DamagedError(
                f"{path} holds the checkpoints of a run; give the run, {path.parent}, or one of "
                f"them, such as {path / str(step_of_run)}"
            )
        raise DamagedError(
            f"{path} holds no weights: it has neither the checkpoints of a run nor the {CONFIG} of "
            "an export (convert weights of the authors' release with "
            "xkd_jax.interop.import_release first)"
        )
    return path / "checkpoints" / str(step)


def _load_checkpoint(path: pathlib.Path, wanted: Callable[[Path], bool]) -> Pretrained:
    with saved_checkpoint.reading_checkpoint(path):
        record = saved_checkpoint.read_record(path)
        state = ocp.checkpointables_metadata(path).metadata.get("state")
        saved_checkpoint.check_listed(record, state)
    if record.config.get("task") == "finetune":
        raise DamagedError(f"{path} is a checkpoint of a finetuning; allowed: of a pretraining")
    with saved_checkpoint.reading_checkpoint(path):
        trees = _load_orbax(path, "state", state, wanted)
        _check_arrays(path, trees, record.arrays, wanted)
        step = int(path.name) if record.step is None else record.step
        provenance = {"source": "run", "path": str(path), "step": step}
        description = describe(record.config, state, provenance)
        description_rules.check(description)
        return Pretrained(description, trees)


def _load_folder(
    path: pathlib.Path, content: dict[str, Any], wanted: Callable[[Path], bool]
) -> Pretrained:
    try:
        description, arrays = digests.unseal(content)
    except ValueError as error:
        raise DamagedError(
            f"{path / CONFIG} is damaged ({error}); export again, or, if you changed it yourself, "
            'remove its "sha256" and its "arrays"'
        ) from None
    store = description.get("weights")
    if store == "release":
        raise DamagedError(
            f"{path} holds files for PyTorch; convert them with xkd_jax.interop.import_release"
        )
    if description.get("format_version") != FORMAT_VERSION or store not in STORES:
        raise DamagedError(
            f"{path / CONFIG} has format_version {description.get('format_version')} and weights "
            f"{store!r}; allowed: format_version {FORMAT_VERSION} and weights "
            f"{' or '.join(STORES)}"
        )
    try:
        description_rules.check(description)
    except ValueError as error:
        raise DamagedError(f"{path / CONFIG} cannot be used: {error}") from None
    try:
        with saved_checkpoint.reading():
            trees, names = _load_weights(path / _WEIGHTS[store], store, wanted)
            _check_arrays(path, trees, arrays, wanted)
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
        saved = ocp.checkpointables_metadata(path).metadata.get("trees")
        return _load_orbax(path, "trees", saved, wanted), [p for p, _ in _flat(saved)]
    if not path.is_file():  # a pipe would block the whole process
        raise DamagedError("it is missing or not a regular file")
    with safe_open(path, "numpy") as file:
        paths = [tuple(name.split("/")) for name in file.keys()]  # noqa: SIM118 - not a dictionary
        return _tree({p: file.get_tensor("/".join(p)) for p in paths if wanted(p)}), paths


def _check_arrays(
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
        saved_checkpoint.check_arrays(_by_name(trees), expected)


def _check_listed(paths: list[Path], networks: Mapping[str, Any]) -> None:
    """Raises DamagedError if a description lists other networks than there are weights of."""
    held, listed = (
        {(n, m, part) for n, parts in listing.items() for m in parts for part in parts[m]}
        for listing in (contents(_tree(dict.fromkeys(paths))), networks)
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


def _load_orbax(
    path: pathlib.Path, name: str, saved: Any, wanted: Callable[[Path], bool]
) -> dict[str, Any]:
    """Reads only the wanted arrays of a checkpoint, into the host's memory."""
    abstract = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: (
            np.empty(leaf.shape, leaf.dtype) if wanted(_names(keys)) else ocp.PLACEHOLDER
        ),
        saved,
    )
    loaded = dict(_flat(ocp.load_checkpointables(path, {name: abstract})[name]))
    return _tree({path: leaf for path, leaf in loaded.items() if wanted(path)})


def _read_description(path: pathlib.Path) -> dict[str, Any] | None:
    """Reads config.json; returns None if it is missing or a run's, not one that `save` wrote."""
    try:
        description = sealed.load_json(path / CONFIG)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedError(str(error)) from error
    except OSError as error:
        raise DamagedError(f"{path / CONFIG} is damaged: {error}") from error
    is_ours = isinstance(description, dict) and description.get("format") == FORMAT
    return description if is_ours else None


def _is_same(folder: pathlib.Path, text: str, weights: dict[str, Any]) -> bool:
    """Returns whether a folder holds the same description and weights, undamaged."""
    try:
        existing = load(folder)
    except (ValueError, OSError):
        return False
    description, _ = digests.unseal(json.loads(text))
    theirs = _by_name(existing.trees)
    return (
        existing.description == description
        and weights.keys() == theirs.keys()
        and all(np.array_equal(weights[name], theirs[name], equal_nan=True) for name in weights)
    )


def _names(keys: tuple[Any, ...]) -> Path:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in keys)


def _by_name(trees: Any) -> dict[str, Any]:
    return {"/".join(path): leaf for path, leaf in _flat(trees)}


def _flat(tree: Any) -> list[tuple[Path, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(_names(keys), leaf) for keys, leaf in leaves]


def _tree(flat: Mapping[Path, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return tree
