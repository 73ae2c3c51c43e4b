"""The task `compare`: features of a checkpoint beside those of fresh weights, in several ways.

See configs/eval/compare.py.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from xkd_jax import config_check, pretrain, sharding
from xkd_jax.config_rules import Rule, one_of
from xkd_jax.downstream import (
    backbones,
    classifiers,
    figures,
    metrics,
    probe,
    probe_rules,
    results,
    sampling,
)
from xkd_jax.downstream.selection import Outcome

PRETRAINED, UNTRAINED = "pretrained", "untrained"
FUSED = "fused"
PICTURE = "compare.png"

_NAMES = classifiers.RULES["classifier.name"]
_CHANGED = ("task", "paper", "untrained", "classifier.name")
RULES = {
    **{field: rule for field, rule in probe_rules.RULES.items() if field not in _CHANGED},
    "task": one_of("compare"),
    "classifiers": Rule(
        f"one or more, none twice, of {_NAMES.allowed}",
        lambda x: isinstance(x, tuple) and 0 < len(x) == len(set(x)) and all(map(_NAMES.holds, x)),
    ),
}

# What each combination of features, classifier and weights gave, by partition.
Cells = dict[tuple[str, str, str], dict[str, Outcome]]


def compare(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Extracts features, classifies them in all ways, and writes, draws and prints a table.

    Args:
        config: See configs/eval/compare.py.
        workdir: Where `results.json` and `compare.png` go, and the features if nowhere else.

    Returns:
        What `results.json` holds; nothing in other processes than the first.

    Raises:
        ConfigError: For an impossible config.
        ValueError, FileNotFoundError: For an unusable checkpoint or unusable data.
    """
    probe_rules.check(config, RULES)
    sharding.check_batch_size(config.batch_size, sharding.make_mesh())
    encoders = {
        weights: backbones.load(
            config.checkpoint,
            config.modalities,
            config.network,
            pretrain.compute_dtype(config),
            config.frame_size,
            seed,
        )
        for weights, seed in ((PRETRAINED, None), (UNTRAINED, config.seed))
    }
    data = probe.open_data(config, encoders[PRETRAINED])
    parts = sampling.folds(config, data)
    if data.multi_label and "svm" in config.classifiers:
        config_check.refuse(
            config, "classifiers", "'linear' and 'knn' for recordings of several classes"
        )
    made = {
        name: probe.make_classifier(_with_classifier(config, name), data, parts)
        for name in config.classifiers
    }
    cells, unreadable = evaluate(
        config, workdir, encoders, parts, made, metrics.main_metric(data.multi_label)
    )
    found = None
    if jax.process_index() == 0:
        found = {
            **collect(cells, data.class_names, data.multi_label),
            "title": _title(config, cells),
            "checkpoint": probe.describe(config, encoders[PRETRAINED]),
            "data": probe.describe_data(config, data, unreadable),
            "protocol": config.to_dict(),
        }
        pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
        figures.save(pathlib.Path(workdir, PICTURE), picture(found))
        results.save(workdir, found)
        print(table(found), flush=True)
    if jax.process_count() > 1:
        # The others wait: it is by the first process that they all know of each other.
        multihost_utils.sync_global_devices("results")
    return found


def evaluate(
    config: ml_collections.ConfigDict,
    workdir: str,
    encoders: Mapping[str, backbones.Backbones],
    parts: Sequence[sampling.Fold],
    made: Mapping[str, classifiers.Classifier],
    metric: metrics.Metric,
) -> tuple[Cells, list[str]]:
    """Classifies the features of all kinds in all ways.

    Args:
        config: See `compare`.
        workdir: Likewise.
        encoders: By weights.
        parts: What the recordings are for.
        made: The classifiers by name.
        metric: To choose by.

    Returns:
        What each combination gave, nothing in other processes than the first; and the names of
        recordings that could not be read.
    """
    cache = pathlib.Path(config.features.cache or os.path.join(workdir, "features"))
    cells: Cells = {}
    unreadable = set()
    for weights, of in encoders.items():
        samples = sampling.Sampled(config, of, parts, cache)
        unreadable.update(samples.unreadable)
        if jax.process_index():
            continue
        seen = {m: samples.seen_by(m) for m in config.modalities}
        if len(seen) > 1:
            seen[FUSED] = samples
        for features, view in seen.items():
            for name, classifier in made.items():
                cells[features, name, weights] = probe.evaluate(parts, view, classifier, metric)
    return cells, sorted(unreadable)


def collect(cells: Cells, class_names: tuple[str, ...], multi_label: bool) -> dict[str, Any]:
    """All that the outcomes say.

    Returns:
        `metric` and `chance`; `rows`, with the features and the classifier of each, and for each
        kind of weights what `results.collect` makes of it.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for (features, classifier, weights), outcomes in cells.items():
        row = rows.setdefault((features, classifier), {})
        row |= {"features": features, "classifier": classifier}
        title = f"{classifier} on {features}, {weights}"
        row[weights] = results.collect(outcomes, title, class_names, multi_label)
    any_cell = next(iter(rows.values()))[PRETRAINED]
    return {
        "metric": any_cell["metric"],
        "chance": any_cell["chance"],
        "rows": list(rows.values()),
    }


def table(found: Mapping[str, Any]) -> str:
    """The results as lines for the terminal, in percent."""
    title = metrics.TITLES[found["metric"]]
    rows = [(title, [PRETRAINED, UNTRAINED], "")]
    for row in found["rows"]:
        scores = [row[weights]["scores"][found["metric"]] for weights in (PRETRAINED, UNTRAINED)]
        label = f"{row['features']:<6} {row['classifier']}"
        rows.append((label, [results.percent(**score) for score in scores], ""))
    rows.append(("chance", [results.percent(found["chance"])] * 2, ""))
    return "\n".join([found["title"], *results.aligned(rows)])


def picture(found: Mapping[str, Any]) -> np.ndarray:
    """The results as bars, (H, W, 3) uint8."""
    scores = [
        [row[weights]["scores"][found["metric"]] for weights in (PRETRAINED, UNTRAINED)]
        for row in found["rows"]
    ]
    spreads = np.array([[score["spread"] or 0.0 for score in pair] for pair in scores])
    return figures.grouped_bars(
        np.array([[score["mean"] for score in pair] for pair in scores]),
        [f"{row['features']}\n{row['classifier']}" for row in found["rows"]],
        [PRETRAINED, UNTRAINED],
        metrics.TITLES[found["metric"]],
        found["title"],
        found["chance"],
        spreads if spreads.any() else None,
    )


def _title(config: ml_collections.ConfigDict, cells: Cells) -> str:
    outcomes = next(iter(cells.values()))
    tested = sum(len(outcome.targets) for outcome in outcomes.values())
    where = os.path.basename(os.path.normpath(config.data.path))
    return f"{tested} test recordings of {where}, {config.network} of {config.checkpoint}"


def _with_classifier(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    """A probe's config, with that classifier."""
    fields = config.to_dict()
    fields["classifier"]["name"] = name
    return ml_collections.ConfigDict(fields)
