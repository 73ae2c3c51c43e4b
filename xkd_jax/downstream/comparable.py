"""Which of the paper's numbers belong beside a result, and how one's own run differs from theirs.

A number belongs to a run if everything is as in the paper's pretraining: every field of the config
that changes what is learned, the data, and the network that is evaluated.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from input_pipeline import data_folders
from input_pipeline.prepared import records
from input_pipeline.programs.config_fields import fields
from xkd_jax.config import pretraining
from xkd_jax.paper import published, rows
from xkd_jax.paper.published import Published

# Fields that do not change what a run learns, or are not the method's: `_data_difference` is about
# the data.
_FREE = ("task", "seed", "compute_dtype", "parallel.fsdp", "parallel.remat")
_FREE_SECTIONS = ("data.", "probe.", "log.", "saving.")
_COUNTED = ("data.require",)
# Rows to show beside a run of another recipe than the paper's. Other rows need the same recipe.
_MAIN = ("xkd", "mas", "mats", "xkd_audioset", "student", "mas_teacher", "mats_student")


class Comparable(NamedTuple):
    """A number of the paper to show beside a result.

    Attributes:
        number: The number.
        differences: How the pretraining differs from the number's; empty if it does not. None if
            it is not known how the model was pretrained.
    """

    number: Published
    differences: tuple[str, ...] | None


def find(
    dataset: str, protocol: str, config: Mapping[str, Any] | None, network: str
) -> list[Comparable]:
    """Finds the paper's numbers to show beside a result.

    Args:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        protocol: "svm", "linear", "finetune" or "fusion".
        config: Config of the pretraining as nested dictionaries. None if it is unknown.
        network: The evaluated network, such as "teacher", "student" or "untrained teacher".

    Returns:
        The numbers of the same recipe. If there are none, those of the main rows that differ in
        the fewest fields. All main rows if the config is unknown. Empty for
        benchmarks that the paper does not have.
    """
    numbers = [n for n in published.numbers() if (n.dataset, n.protocol) == (dataset, protocol)]
    if config is None:
        return [Comparable(n, None) for n in numbers if n.row in _MAIN]
    found = [Comparable(n, tuple(differences(config, network, n.row))) for n in numbers]
    same = [c for c in found if not c.differences]
    main = [c for c in found if c.number.row in _MAIN]
    fewest = min((len(c.differences) for c in main), default=0)
    return same or [c for c in main if len(c.differences) == fewest]


def differences(config: Mapping[str, Any], network: str, row: str) -> list[str]:
    """Lists in words how a pretraining differs from the paper's of a row.

    Args:
        config: Config of the pretraining as nested dictionaries. Fields that it lacks, because it
            is of an earlier version, count as their defaults.
        network: As in `find`.
        row: Name of the row.
    """
    ours = {field: value for field, value in fields(config).items() if field in _defaults()}
    found = []
    if network != rows.ROWS[row].network:
        found.append(f"the {network}, not the {rows.ROWS[row].network}")
    found += _data_difference(config["data"], rows.ROWS[row].data)
    for field, theirs in _paper_fields(row).items():
        value = ours.get(field, _defaults()[field])
        if _plain(value) != _plain(theirs):
            found.append(f"{field} is {value!r}, not {theirs!r}")
    return found


def _data_difference(data: Mapping[str, Any], name: str) -> list[str]:
    """Compares the pretraining data with those of the paper, as far as they can be found."""
    if data["dataset"] != "prepared":
        return [f"data.dataset is {data['dataset']!r}, not {name}, prepared"]
    if data["split"] not in ("train", ""):
        return [f"data.split is {data['split']!r}, not 'train'"]
    folder, *others = data_folders.folders(data)
    if others:
        return [f"pretrained on a mixture of {', '.join((folder, *others))}, not {name}"]
    try:
        ours = records.load_recipe(folder).dataset
    except (OSError, ValueError):
        return []  # moved or removed since the run
    return [] if ours == name else [f"pretrained on {ours}, not {name}"]


@functools.cache
def _defaults() -> dict[str, Any]:
    return fields(pretraining.get_config().to_dict())


@functools.cache
def _paper_fields(row: str) -> dict[str, Any]:
    """Returns the fields of the paper's run that count, by name."""
    config = pretraining.get_config()
    config.update_from_flattened_dict(rows.recipe_of(row))
    config.update_from_flattened_dict(rows.changed(config, rows.ROWS[row]))
    return {
        field: value
        for field, value in fields(config).items()
        if field in _COUNTED or not (field in _FREE or field.startswith(_FREE_SECTIONS))
    }


def _plain(value: Any) -> Any:
    """Returns a value as JSON holds it, where tuples are lists."""
    return list(value) if isinstance(value, tuple) else value
