"""Which protocol an evaluation is of, and how it differs from the paper's.

The configs in configs/eval/ hold the paper's protocols.
"""

import functools
import pathlib
from collections.abc import Iterator

import ml_collections

from input_pipeline.datasets import published
from input_pipeline.prepared import records
from input_pipeline.programs import config_fields, config_flag
from xkd_jax.config import finetuning
from xkd_jax.paper.tables import Benchmark

SOUNDS = ("esc50", "fsd50k")
_CONFIGS = pathlib.Path(__file__).parents[2] / "configs" / "eval"
# Fields that say what is evaluated and where, or how fast; `comparable` is about the network, and
# the paper's numbers say which partitions they are for.
_FREE = (
    *("checkpoint", "network", "untrained", "seed", "compute_dtype", "features.cache"),
    *("data.path", "data.partitions", "data.threads", "data.prefetch", "data.max_bad_fraction"),
    *("classifier.svm.jobs", "evaluation.batch_size", "evaluation.watch_test"),
)
_FREE_SECTIONS = ("data.generated.", "log.", "saving.", "parallel.")
# Sides of prepared frames: `prepare`'s default, and what video is finetuned on.
_SHORT_SIDE, _FINETUNE_SHORT_SIDE = 128, 256


def config_name(benchmark: Benchmark) -> str:
    """Returns the name of the file in configs/eval/ with the paper's protocol of a benchmark."""
    dataset, protocol = benchmark
    return f"{protocol}_{'k400' if dataset == 'kinetics400' else dataset}.py"


@functools.cache
def protocol(benchmark: Benchmark) -> ml_collections.ConfigDict:
    """Loads the config with the paper's protocol of a benchmark."""
    return config_flag.load_config(str(_CONFIGS / config_name(benchmark)), ())


def needs_large_frames(benchmark: Benchmark) -> bool:
    """Returns whether the paper's protocol takes larger frames than `prepare` makes by default."""
    dataset, name = benchmark
    return name == "finetune" and dataset not in SOUNDS


def measured(config: ml_collections.ConfigDict) -> tuple[str, str, str]:
    """Returns what an evaluation measures, in the words of `xkd_jax.paper.elsewhere`.

    Args:
        config: Config of an evaluation with the task `probe`, `finetune` or `attentive`.

    Returns:
        Data set, protocol and modality. The data set is empty if the data are not prepared, or lack
        classes of the published data set, so that scores do not compare.
    """
    protocol = config.classifier.name if config.task == "probe" else config.task
    modalities = finetuning.modalities(config)
    modality = modalities[0] if len(modalities) == 1 else "joint"
    return _whole(config.data.path), protocol, modality


def _whole(path: str) -> str:
    """Returns the name of the prepared data set with all its classes at a path, or else nothing."""
    try:
        recipe = records.load_recipe(path)
    except (OSError, ValueError):
        return ""
    size = published.SIZES.get(recipe.dataset)
    return recipe.dataset if size and len(recipe.class_names) >= size.classes else ""


def departures(config: ml_collections.ConfigDict) -> list[str]:
    """Lists in words how an evaluation differs from the paper's protocol.

    Args:
        config: Config of the evaluation.

    Returns:
        The differences; none if `config.paper` names no benchmark.
    """
    if not config.paper:
        return []
    dataset, _, name = config.paper.partition("/")
    return [*_fields((dataset, name), config), *_data((dataset, name), config.data.path)]


def _fields(benchmark: Benchmark, config: ml_collections.ConfigDict) -> Iterator[str]:
    theirs = protocol(benchmark)
    if theirs.task != config.task:
        yield f"task is {config.task!r}, not {theirs.task!r}"
        return
    for field, paper in config_fields.fields(theirs).items():
        if field in _FREE or field.startswith(_FREE_SECTIONS):
            continue
        # Clips that an encoder takes at a time; in finetuning, those of a step.
        if field == "batch_size" and theirs.task == "probe":
            continue
        ours = config_fields.value_of(config, field)
        if ours != paper:
            yield f"{field} is {ours!r}, not {paper!r}"


def _data(benchmark: Benchmark, path: str) -> Iterator[str]:
    try:
        recipe = records.load_recipe(path)
    except (OSError, ValueError):
        yield f"the data are not {benchmark[0]}, prepared"
        return
    if recipe.dataset != benchmark[0]:
        yield f"the data are {recipe.dataset}, not {benchmark[0]}"
    side = _FINETUNE_SHORT_SIDE if needs_large_frames(benchmark) else _SHORT_SIDE
    if benchmark[0] not in SOUNDS and recipe.short_side != side:
        yield f"the data were prepared with --short_side={recipe.short_side}, not {side}"
