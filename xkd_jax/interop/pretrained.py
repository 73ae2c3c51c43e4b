"""Pretrained weights with a description of them: folders of their own, or out of a run.

Such a folder has the weights, as an Orbax checkpoint or as one safetensors file, and config.json,
which says all that is needed to use them without the run: the architecture, the preprocessing, and
where they come from; and the digests of all that, by which damage is noticed. The trees of weights
are those of `xkd_jax.train_step.TrainState`:

    params   the students', teacher   the teachers', centers   the teachers' centers

as far as there are: an encoder alone has nothing but {network: {modality: {"encoder": ...}}}, and
blocks that modalities share stand under {network: {"shared": ...}}.
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
from xkd_jax import augment, checkpoint, digests, saved_checkpoint
from xkd_jax.interop import description_rules
from xkd_jax.models.xkd import MODALITIES
from xkd_jax.saved_checkpoint import DamagedError

FORMAT = "xkd_jax"
FORMAT_VERSION = 1
STORES = ("orbax", "safetensors")
# What users call the networks, and where their weights are.
NETWORKS = {"teacher": "teacher", "student": "params"}

CONFIG = "config.json"
_WEIGHTS = {"orbax": "weights", "safetensors": "model.safetensors"}
_FILES = (CONFIG, _WEIGHTS["safetensors"])

Path = tuple[str, ...]


class Pretrained(NamedTuple):
    """Weights, and what they are.

    Attributes:
        description: What config.json holds, see `describe`.
        trees: Nested dictionaries of (NumPy) arrays.
    """

    description: dict[str, Any]
    trees: dict[str, Any]


def encoders_only(path: Path) -> bool:
    """Whether a weight belongs to an encoder."""
    return path[0] in NETWORKS.values() and (path[1] == "shared" or path[2] == "encoder")


def everything(path: Path) -> bool:
    """Whether a weight belongs to the model, and not to its optimizer."""
    return path[0] in (*NETWORKS.values(), "centers")


def describe(
    config: Mapping[str, Any], trees: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Describes weights so that they can be used without the run that made them.

    Args:
        config: Of the run (configs/base.py), as nested dictionaries.
        trees: The weights.
        provenance: Where they come from: plain values.

    Returns:
        What to put into config.json.
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
        # In full: what it takes to go on with the pretraining.
        "config": dict(config),
    }


def native_grid(description: Mapping[str, Any], modality: str) -> tuple[int, ...]:
    """The token grid that an encoder was trained on."""
    view = description["preprocessing"][modality]
    extents = (
        (view["frames"], view["size"], view["size"])
        if modality == "video"
        else (view["mel_bands"], view["frames"])
    )
    patch = description["architecture"][modality]["patch"]
    return tuple(n // p for n, p in zip(extents, patch, strict=True))


def contents(trees: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """The parts that trees hold of each network and modality."""
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
    """The text of config.json.

    Args:
        description: Of the weights, see `describe`.
        arrays: Their digests, see `digests.of_arrays`.
    """
    return json.dumps(digests.seal(description, arrays), indent=2) + "\n"


def summary(description: Mapping[str, Any]) -> str:
    """Several lines for people: what weights are of, and what they see."""
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
    """Writes weights and their description, whole or not at all.

    Args:
        folder: Made here. If it is there and holds the same already, it is left as it is.
        pretrained: What to write.
        store: Of the weights, out of `STORES`.
        overwrite: Whether to replace a folder that holds something else.

    Returns:
        Whether anything was written.

    Raises:
        FileExistsError: The folder holds something else, and `overwrite` is not set.
        OSError: It cannot be written.
    """
    folder = pathlib.Path(folder).absolute()
    weights = _by_name(pretrained.trees)
    description = {**pretrained.description, "weights": store}
    text = as_json(description, digests.of_arrays(weights))
    if folder.exists() and _is_same(folder, text, weights):
        return False
    with replacing(folder, overwrite) as draft, _unwritable(folder):
        if store == "orbax":
            # On TPU and GPU too, weights are written from the host's memory.
            arrays = jax.tree.map(np.asarray, pretrained.trees)
            ocp.save_checkpointables(draft / _WEIGHTS[store], {"trees": arrays})
        else:
            flat = {name: np.ascontiguousarray(x) for name, x in weights.items()}
            save_file(flat, draft / _WEIGHTS[store])
        (draft / CONFIG).write_text(text, "utf-8")
    return True


@contextlib.contextmanager
def _unwritable(folder: pathlib.Path) -> Iterator[None]:
    """Makes an OSError of whatever Orbax, TensorStore and safetensors raise for a full disk."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # TensorStore's ends, after several paths, with what the system says.
        whole = " ".join(str(error).split())
        reason = re.split(r" \[\w+='", whole)[0].rpartition(": ")[2] or whole
        raise OSError(
            f"{folder} cannot be written ({type(error).__name__}: {reason[:300]})"
        ) from error


@contextlib.contextmanager
def replacing(folder: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """Makes a folder appear in one go, once it is written elsewhere.

    Args:
        folder: The folder.
        overwrite: Whether it may be there already, and is to be replaced.

    Yields:
        Where to write it: a hidden folder beside it, which is taken away if something is raised.

    Raises:
        FileExistsError: It is there and holds something, and `overwrite` is not set.
    """
    if folder.exists() and not overwrite and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} is there already and holds something else; give another --output, or "
            "--overwrite to replace it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    draft.chmod(0o755)  # mkdtemp's is for its owner alone
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
    """Takes a folder away to which threads of Orbax, whose save has failed, may still write."""
    for _ in range(20):
        shutil.rmtree(draft, ignore_errors=True)
        if not draft.exists():
            break
        time.sleep(0.1)


def load(path: str | os.PathLike, wanted: Callable[[Path], bool] = everything) -> Pretrained:
    """Loads weights; of a run, the newest checkpoint's.

    Args:
        path: A run's folder, one of its checkpoints, or a folder that `save` wrote.
        wanted: Of a weight's path, such as ("teacher", "video", "encoder", "cls_token"), whether to
            load it.

    Returns:
        The weights that are wanted and there, and the description of all that are there.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        DamagedError: What is there is none of these, cannot be read, or is not what was written.

    Warns:
        UserWarning: It was written before digests were kept.
    """
    path = pathlib.Path(os.path.expanduser(path)).absolute()
    if not path.is_dir():
        what = "is a file" if path.is_file() else "no such folder"
        hint = f"; give its folder, {path.parent}" if path.name in _FILES else ""
        raise FileNotFoundError(
            f"{path}: {what}; allowed: the workdir of a run, a folder of "
            f"xkd_jax.interop.export, or one of xkd_jax.interop.import_release{hint}"
        )
    content = _read_description(path)
    if content:
        return _load_folder(path, content, wanted)
    return _load_checkpoint(_newest(path), wanted)


def _newest(path: pathlib.Path) -> pathlib.Path:
    """The newest complete checkpoint of a run, or `path` itself if it is one."""
    if saved_checkpoint.is_checkpoint(path):
        return path
    # Not by the class that trains use: it would clean up behind a run that still writes.
    step = checkpoint.latest_step(path)
    if step is None:
        if (
            path.name == "checkpoints"
            and (beside := checkpoint.latest_step(path.parent)) is not None
        ):
            raise DamagedError(
                f"{path} holds the checkpoints of a run; give the run, {path.parent}, or one of "
                f"them, such as {path / str(beside)}"
            )
        raise DamagedError(
            f"{path} holds no weights: it has neither checkpoints, as the workdir of a run, nor "
            f"the {CONFIG} of an export (weights of the authors' release have to go through "
            "xkd_jax.interop.import_release first)"
        )
    return path / "checkpoints" / str(step)


def _load_checkpoint(path: pathlib.Path, wanted: Callable[[Path], bool]) -> Pretrained:
    with saved_checkpoint.reading_checkpoint(path):
        record = saved_checkpoint.read_record(path)
        state = ocp.checkpointables_metadata(path).metadata.get("state")
        saved_checkpoint.check_listed(record, state)
    if record.config.get("task") == "finetune":
        raise DamagedError(f"{path} is of a finetuning; allowed: checkpoints of a pretraining")
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
            f"{path / CONFIG} is of version {description.get('format_version')} with weights "
            f"{store!r}; this one reads version {FORMAT_VERSION} with {' or '.join(STORES)}"
        )
    try:
        description_rules.check(description)
    except ValueError as error:
        raise DamagedError(f"{path / CONFIG} cannot be used: {error}") from None
    try:
        with saved_checkpoint.reading():
            trees = _load_weights(path / _WEIGHTS[store], store, wanted)
            _check_arrays(path, trees, arrays, wanted)
            _check_listed(trees, description["networks"])
    except DamagedError as error:
        raise DamagedError(
            f"{path / _WEIGHTS[store]} cannot be used ({error}); export again"
        ) from None
    return Pretrained(description, trees)


def _load_weights(path: pathlib.Path, store: str, wanted: Callable[[Path], bool]) -> dict[str, Any]:
    if store == "orbax":
        saved = ocp.checkpointables_metadata(path).metadata.get("trees")
        return _load_orbax(path, "trees", saved, wanted)
    with safe_open(path, "numpy") as file:
        paths = [tuple(name.split("/")) for name in file.keys()]  # noqa: SIM118 - no dictionary
        return _tree({p: file.get_tensor("/".join(p)) for p in paths if wanted(p)})


def _check_arrays(
    path: pathlib.Path,
    trees: dict[str, Any],
    arrays: dict[str, str] | None,
    wanted: Callable[[Path], bool],
) -> None:
    """Compares weights that have been read with the digests of all that were written.

    Raises:
        DamagedError: Some differ, or are missing on one side.
    """
    if arrays is None:
        warnings.warn(f"{path}: {saved_checkpoint.UNVERIFIED}", stacklevel=4)
    else:
        expected = {name: a for name, a in arrays.items() if wanted(tuple(name.split("/")))}
        saved_checkpoint.check_arrays(_by_name(trees), expected)


def _check_listed(trees: Mapping[str, Any], networks: Mapping[str, Any]) -> None:
    """Raises DamagedError where there are weights that the description does not tell of."""
    for network, parts in contents(trees).items():
        for m in parts:
            if m not in networks.get(network, {}):
                raise DamagedError(f"{CONFIG} does not tell of its {network} of {m}")


def _load_orbax(
    path: pathlib.Path, name: str, saved: Any, wanted: Callable[[Path], bool]
) -> dict[str, Any]:
    """Reads those arrays of a checkpoint that are wanted, into the host's memory, and no others."""
    abstract = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: (
            np.empty(leaf.shape, leaf.dtype) if wanted(_names(keys)) else ocp.PLACEHOLDER
        ),
        saved,
    )
    loaded = dict(_flat(ocp.load_checkpointables(path, {name: abstract})[name]))
    return _tree({path: leaf for path, leaf in loaded.items() if wanted(path)})


def _read_description(path: pathlib.Path) -> dict[str, Any] | None:
    """What config.json says, if it is of a folder such as `save` writes; a run has one too."""
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
    """Whether a folder holds the description of `text` and these weights, undamaged."""
    try:
        there = load(folder)
    except (ValueError, OSError):
        return False
    description, _ = digests.unseal(json.loads(text))
    theirs = _by_name(there.trees)
    return (
        there.description == description
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
