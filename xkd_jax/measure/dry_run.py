"""Says what a config would run and on what, without running it.

    python -m xkd_jax.main --config=configs/k400.py --config.data.path=DATA --dry_run

The config is checked as the task checks it. Of data and weights it reads only the descriptions.
"""

import os
import pathlib
from collections.abc import Callable, Iterator

import ml_collections
import numpy as np

from input_pipeline import data_folders
from input_pipeline.prepared import metadata, records, sets, verification
from input_pipeline.programs import config_fields
from xkd_jax import pretrain_run
from xkd_jax.config import checks, probing, schema
from xkd_jax.downstream import attentive_rules, few_shot, probe_rules, retrieval
from xkd_jax.downstream.finetuning import finetune_rules
from xkd_jax.encoders import descriptions, pretrained
from xkd_jax.interop import vit_files
from xkd_jax.method import schedules
from xkd_jax.run import checkpoint


def _check_comparison(config: ml_collections.ConfigDict) -> None:
    probe_rules.check(config, schema.rules(probing.comparison()))


# Check of a config, by its task. Each raises ConfigError.
CHECKS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
    "pretrain": checks.check,
    "probe": probe_rules.check,
    "compare": _check_comparison,
    "attentive": attentive_rules.check,
    "few_shot": few_shot.check,
    "retrieval": retrieval.check,
    "finetune": finetune_rules.check,
}


def facts(config: ml_collections.ConfigDict, workdir: str | None) -> Iterator[str]:
    """Checks a config, and yields lines that say what would run, each with one fact.

    Args:
        config: Config of any task.
        workdir: Folder of the run; None if not known.

    Raises:
        ConfigError: A field is wrong.
        ValueError: The data or the weights are damaged, or not what they have to be.
        FileNotFoundError: There are no such weights.
    """
    CHECKS[config.task](config)
    mixture = config.task == "pretrain" and data_folders.is_mixture(config.data)
    yield from _mixture(config) if mixture else _data(config.data)
    yield from _weights(config.get("checkpoint"))
    yield from _initial_weights(config.get("init_from"))
    if workdir is not None:
        step = checkpoint.latest_step(workdir)
        yield f"workdir: {workdir}, " + ("new" if step is None else f"at step {step}")
    for name, value in config_fields.fields(config).items():
        yield f"config.{name} = {value!r}"


def _data(data: ml_collections.ConfigDict) -> Iterator[str]:
    """Yields what the data are; for prepared data, the number of recordings in each split."""
    if data.dataset != "prepared":
        is_new = not os.path.isdir(os.path.expanduser(data.path))
        yield f"data: {data.dataset}, {data.path}" + (", to be made" if is_new else "")
        return
    folder = verification.find(data.path, data_folders.subject(data, data.path))
    recipe = records.load_recipe(folder)
    splits = metadata.splits(folder, recipe)
    verification.check(folder, recipe, splits)
    for split in splits:
        index = records.load_index(records.index_path(folder, split))
        yield _recordings(recipe, data.path, split, index)


def _recordings(recipe: records.Recipe, path: str, split: str, index: records.Index) -> str:
    """Says how many recordings a split has, and how many of them lack a modality."""
    lacking = {"sound": index.samples, "a picture": index.frames}
    counts = {name: np.sum(np.asarray(lengths) == 0) for name, lengths in lacking.items()}
    without = "".join(f", {count} without {name}" for name, count in counts.items() if count)
    return f"data: {recipe.dataset}, {path}, split {split}: {len(index.names)} recordings{without}"


def _mixture(config: ml_collections.ConfigDict) -> Iterator[str]:
    """Yields what each set of a mixture is, its share, and how often the run goes through it."""
    prepared = sets.open_sets(config.data)
    sizes = [len(ids) for ids in pretrain_run.choose_examples(config, prepared).values()]
    steps = schedules.total_steps(config.steps, config.epochs, sum(sizes) / config.batch_size)
    shares = data_folders.shares(config.data, sizes)
    for part, share in zip(prepared.parts, shares, strict=True):
        recordings = _recordings(part.recipe, part.name, part.split, part.index)
        yield f"{recordings}; {share.in_words(steps * config.batch_size)}"


def _weights(path: str | None) -> Iterator[str]:
    """Yields which networks some weights are of, and what these see."""
    if path:
        description = pretrained.load(pathlib.Path(path), lambda _: False).description
        for line in descriptions.summary(description).splitlines():
            yield f"weights: {path}, {line.strip()}"


def _initial_weights(path: str | None) -> Iterator[str]:
    """Yields the same of weights to start from, which may be a ViT of MAE or VideoMAE."""
    if not path or not vit_files.is_vit(path):
        yield from _weights(path)
        return
    vit = vit_files.read(path)
    yield (
        f"weights: {path}, {vit.kind}: width {vit.width}, depth {vit.depth}, {vit.heads} heads, "
        f"patches of {'x'.join(map(str, vit.patch))}"
    )
