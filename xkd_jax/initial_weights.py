"""The weights that a new run starts from, if `config.init_from` is set.

They are all weights of a pretraining, or encoders alone, beside which the rest starts fresh. A ViT
of MAE or VideoMAE is an encoder of video.
"""

import collections
import os
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from input_pipeline.programs import config_fields
from xkd_jax.config import checks
from xkd_jax.encoders import descriptions, pretrained, weight_trees
from xkd_jax.interop import vit_files, vit_weights
from xkd_jax.method.models import xkd
from xkd_jax.method.state import TrainState, initial_centers
from xkd_jax.run import checkpoint, console

Trees = dict[str, Any]


def load(config: ml_collections.ConfigDict, model: xkd.XKD, workdir: str | os.PathLike) -> Trees:
    """Loads the weights of `config.init_from`, and says which they are.

    Args:
        config: Config of the run.
        model: The model.
        workdir: Folder of the run.

    Returns:
        The fields `params`, `teacher` and `centers` of the state, whole; or of `params` and
        `teacher` the encoders alone. Empty if `config.init_from` is empty, or if the workdir has a
        checkpoint to resume from.

    Raises:
        ConfigError: `config.model` differs from the model of the weights.
        MismatchError: A weight is missing or has another shape.
        FileNotFoundError: There are no weights at `config.init_from`.
        DamagedError: The weights cannot be read.
    """
    path = config.init_from
    if not path or checkpoint.latest_step(workdir) is not None:
        return {}
    expected = _expected(model)
    if vit_files.is_vit(path):
        return _load_vit(config, model, expected)
    description, trees = pretrained.load(path, descriptions.everything)
    origin = ", ".join(f"{name} {value}" for name, value in description["provenance"].items())
    if all(descriptions.encoders_only(place) for place, _ in weight_trees.flatten(trees)):
        _check_same_encoders(config, description["architecture"])
        given = _for_both_networks(trees, model.variant, path)
        _check_encoders(given, expected, path)
        what = _account(trees, given, expected)
    else:
        if description["config"]:
            _check_same_model(config, description["config"]["model"])
        given = trees
        advice = (
            "config.init_from takes a run, an export, encoders that were finetuned, weights of the "
            "authors' release that were converted, or a ViT of MAE or VideoMAE, of the same "
            "architecture and sizes of views."
        )
        checkpoint.check_fits(given, expected, path, advice)
        what = f"{_millions(given)} weights of students, teachers, decoders, projectors and centers"
    console.say(f"STARTED FROM {path} ({origin}): {what}; step 0 and a fresh optimizer")
    return given


def place(state: TrainState, trees: Mapping[str, Any]) -> TrainState:
    """Puts loaded weights into a first state, whose other arrays stay as they are.

    Args:
        state: State before the first step.
        trees: Weights as from `load`.
    """
    return state.replace(
        **{field: _over(getattr(state, field), tree) for field, tree in trees.items()}
    )


def _over(fresh: Any, given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    return {**fresh, **{name: _over(fresh[name], tree) for name, tree in given.items()}}


def _load_vit(config: ml_collections.ConfigDict, model: xkd.XKD, expected: Trees) -> Trees:
    """Does as `load` for a ViT of MAE or VideoMAE."""
    path = config.init_from
    vit = vit_files.read(path)
    frames, *sides = vit.patch
    patch = (max(frames, config.model.video.patch[0]), *sides)
    encoder = {name: getattr(vit, name) for name in ("width", "depth", "heads")}
    video = {"patch": patch, "encoder": encoder}
    _check_same_encoders(config, {"variant": model.variant, "video": video})
    tree = vit_weights.convert(vit, model.video.encoder, patch)
    given = _as_video(tree, model.variant)
    filled = {place for place, _ in weight_trees.flatten(given)}
    wanted = {p: leaf for p, leaf in weight_trees.flatten(expected) if p in filled}
    checkpoint.check_fits(given, weight_trees.nest(wanted), path)
    unused = dict(vit.dropped)
    if not model.video.encoder.cls and "cls_token" in vit.names:
        unused["CLS token"] = 1
    dropped = ", ".join(f"{count} of the {part}" for part, count in unused.items()) or "none"
    console.say(
        f"STARTED FROM {path} (source {vit.kind}): {len(vit.names)} tensors, "
        f"{_millions(tree)} weights, are the encoder of video, {dropped} are not used; "
        f"{_filling(given, expected)}; step 0 and a fresh optimizer"
    )
    return given


def _as_video(encoder: Trees, variant: str) -> Trees:
    """Gives students and teachers an encoder of video. Where they share blocks, these are its."""
    if variant == "xkd":
        students = {"video": {"encoder": encoder}}
        return {"params": students, "teacher": _copied(students)}
    blocks = {"transformer": encoder["transformer"]}
    others = {name: tree for name, tree in encoder.items() if name not in blocks}
    students = {"shared": blocks, "video": {"encoder": others}}
    if variant == "xkd_mats":
        return {"params": students, "teacher": _copied(students)}
    teachers = {"video": {"encoder": encoder}, "audio": {"encoder": blocks}}
    return {"params": students, "teacher": _copied(teachers)}


def _expected(model: xkd.XKD) -> Trees:
    """Returns the shapes of all weights of a run."""
    params = model.shapes()
    return {
        "params": params,
        "teacher": jax.eval_shape(model.teacher_target, params),
        "centers": initial_centers(model),
    }


def _for_both_networks(trees: Trees, variant: str, path: str) -> Trees:
    """Gives each teacher that is missing its student's encoder, and the other way around."""
    students, teachers = trees.get("params", {}), trees.get("teacher", {})
    if variant != "xkd_mas":
        return {
            "params": {**_copied(teachers), **students},
            "teacher": {**_copied(students), **teachers},
        }
    # Only its students share blocks, so encoders of teachers are of no use to them.
    if not students:
        raise checkpoint.MismatchError(
            f"{path} holds no students, only teachers; allowed for config.model.variant='xkd_mas': "
            "encoders of students, or of both"
        )
    complete = {
        m: {"encoder": xkd.encoder_params(students, m)} for m in xkd.MODALITIES if m in students
    }
    return {"params": students, "teacher": {**_copied(complete), **teachers}}


def _copied(tree: Any) -> Any:
    # The step donates the state, and must not donate a buffer twice.
    return jax.tree.map(np.copy, tree)


def _check_encoders(given: Trees, expected: Trees, path: str) -> None:
    """Refuses encoders that lack a weight, or have one more or of another shape."""
    wanted = {
        place: leaf
        for place, leaf in weight_trees.flatten(expected)
        if descriptions.encoders_only(place)
        and (place[1] == "shared" or place[1] in given[place[0]])
    }
    advice = "config.init_from takes encoders of the same architecture and sizes of views."
    checkpoint.check_fits(given, weight_trees.nest(wanted), path, advice)


def _account(trees: Trees, given: Trees, expected: Trees) -> str:
    """Says how many arrays a file of encoders has, what they fill, and what starts fresh."""
    count = len(weight_trees.flatten(trees))
    return f"{count} arrays of encoders, {_millions(trees)} weights, {_filling(given, expected)}"


def _filling(given: Trees, expected: Trees) -> str:
    """Says how many arrays of a run the given ones fill, and what starts fresh."""
    filled = {place for place, _ in weight_trees.flatten(given)}
    places = [place for place, _ in weight_trees.flatten(expected)]
    fresh = collections.Counter(_part(place) for place in places if place not in filled)
    names = ", ".join(f"{count} of {part}s" for part, count in sorted(fresh.items()))
    return f"fill {len(filled)} of {len(places)} arrays; fresh are {names}"


def _part(place: weight_trees.Path) -> str:
    if place[0] == "centers":
        return "center"
    return "encoder" if place[1] == "shared" else place[2]


def _millions(trees: Trees) -> str:
    return f"{sum(leaf.size for leaf in jax.tree.leaves(trees)) / 1e6:.1f}M"


def _check_same_model(config: ml_collections.ConfigDict, their_model: Mapping[str, Any]) -> None:
    """Refuses weights of another model. Shapes alone do not show the heads and the norms."""
    for field in config_fields.fields(config.model):
        if not field.endswith(".mask_ratio"):
            _check_same(config, field, config_fields.value_of(their_model, field))


def _check_same_encoders(
    config: ml_collections.ConfigDict, architecture: Mapping[str, Any]
) -> None:
    """Refuses encoders of another architecture, as `_check_same_model` does."""
    _check_same(config, "variant", architecture["variant"])
    for m in (m for m in xkd.MODALITIES if m in architecture):
        _check_same(config, f"{m}.patch", architecture[m]["patch"])
        for name, value in architecture[m]["encoder"].items():
            _check_same(config, f"{m}.encoder.{name}", value)


def _check_same(config: ml_collections.ConfigDict, field: str, theirs: Any) -> None:
    ours = config_fields.value_of(config.model, field)
    if isinstance(ours, tuple):
        theirs = tuple(theirs)  # files store tuples as lists
    if ours != theirs:
        checks.refuse(config, f"model.{field}", f"{theirs!r}, as in config.init_from")
