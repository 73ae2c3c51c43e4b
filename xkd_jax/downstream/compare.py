"""The task `compare`: several classifiers on the features of pretrained and of random weights.

See configs/eval/compare.py.
"""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from input_pipeline.programs.wording import counted
from xkd_jax import sharding
from xkd_jax.config import checks, probing, schema
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
from xkd_jax.downstream.selection import FEATURES, FUSED, Outcome
from xkd_jax.run import console, processes

PRETRAINED, UNTRAINED = "pretrained", "untrained"
PICTURE = "compare.png"
_CLASSIFIERS = {
    "svm": "a linear classifier of the features (support vector machine)",
    "linear": "a linear layer on the features",
    "knn": "the classes of the nearest training clips (k nearest neighbors)",
}

RULES = schema.rules(probing.comparison())

# Outcomes by partition, for each combination of features, classifier and weights.
Cells = dict[tuple[str, str, str], dict[str, Outcome]]


def compare(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Extracts features, classifies them in all combinations, and writes and prints the results.

    Args:
        config: Config as in configs/eval/compare.py.
        workdir: Folder for `results.json` and `compare.png`, and for the features if
            `config.features.cache` is empty.

    Returns:
        Content of `results.json`. None in all processes but the first.

    Raises:
        ConfigError: The config is invalid.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
    """
    probe_rules.check(config, RULES)
    sharding.check_batch_size(config.batch_size, sharding.make_mesh())
    encoders = {
        weights: backbones.load(
            config.checkpoint,
            config.modalities,
            config.network,
            sharding.compute_dtype(config.compute_dtype),
            config.frame_size,
            seed,
        )
        for weights, seed in ((PRETRAINED, None), (UNTRAINED, config.seed))
    }
    data = probe.open_data(config, encoders[PRETRAINED])
    parts = sampling.folds(config, data)
    if data.multi_label and "svm" in config.classifiers:
        checks.refuse(config, "classifiers", "'linear' and 'knn' for multi-label data")
    classifiers_by_name = {
        name: probe.make_classifier(_with_classifier(config, name), data, parts)
        for name in config.classifiers
    }
    metric = metrics.main_metric(data.multi_label)
    cells, unreadable = evaluate(config, workdir, encoders, parts, classifiers_by_name, metric)
    summary = None
    if processes.is_first():
        summary = {
            **collect(cells, data.class_names, data.multi_label),
            "title": _title(config, cells),
            "checkpoint": probe.describe(config, encoders[PRETRAINED]),
            "data": probe.describe_data(config, data, unreadable),
            "protocol": config.to_dict(),
        }
        pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
        figures.save(pathlib.Path(workdir, PICTURE), picture(summary))
        results.save(workdir, summary)
        console.say(table(summary))
    processes.meet("results")
    return summary


def evaluate(
    config: ml_collections.ConfigDict,
    workdir: str,
    encoders: Mapping[str, backbones.Backbones],
    parts: Sequence[sampling.Fold],
    classifiers_by_name: Mapping[str, classifiers.Classifier],
    metric: metrics.Metric,
) -> tuple[Cells, list[str]]:
    """Evaluates all classifiers on all features.

    Args:
        config: Config as in configs/eval/compare.py.
        workdir: Folder for the features if `config.features.cache` is empty.
        encoders: Encoders by kind of weights, `PRETRAINED` or `UNTRAINED`.
        parts: Folds of the data.
        classifiers_by_name: Classifiers by name.
        metric: Metric that decides the choice of candidates.

    Returns:
        Outcomes of all combinations, empty in all processes but the first; and the names of the
        recordings that could not be read.
    """
    cache = pathlib.Path(config.features.cache or os.path.join(workdir, "features"))
    cells: Cells = {}
    unreadable = set()
    for weights, backbones_of_weights in encoders.items():
        console.say(f"Features of the {weights} networks:")
        samples = sampling.FeatureSource(config, backbones_of_weights, parts, cache)
        unreadable.update(samples.unreadable)
        if not processes.is_first():
            continue
        by_features = {m: samples.seen_by(m) for m in config.modalities}
        if len(by_features) > 1:
            by_features[FUSED] = samples
        for features, sampled in by_features.items():
            for name, classifier in classifiers_by_name.items():
                cells[features, name, weights] = probe.evaluate(parts, sampled, classifier, metric)
    for classifier in classifiers_by_name.values():
        classifier.conclude()
    return cells, sorted(unreadable)


def collect(cells: Cells, class_names: tuple[str, ...], multi_label: bool) -> dict[str, Any]:
    """Summarizes the outcomes of all combinations as plain values.

    Args:
        cells: Outcomes of all combinations.
        class_names: C names.
        multi_label: Whether recordings may have any number of classes.

    Returns:
        A dictionary with these keys:
        `metric`: Name of the main metric.
        `chance`: Mean score of random guesses.
        `rows`: For each pair of features and classifier, these two and the summaries from
        `results.collect` by kind of weights.
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


def table(summary: Mapping[str, Any]) -> str:
    """Formats results as a table for the terminal, in percent, with what its words mean."""
    metric = summary["metric"]
    rows = [(f"{metrics.TITLES[metric]}, %", [PRETRAINED, UNTRAINED, "gain"], "")]
    for row in summary["rows"]:
        pair = [row[weights]["scores"][metric] for weights in (PRETRAINED, UNTRAINED)]
        gain = f"{100 * (pair[0]['mean'] - pair[1]['mean']):+.1f}"
        label = f"{FEATURES[row['features']]:<6} {row['classifier']}"
        rows.append((label, [*(results.percent(**score) for score in pair), gain], ""))
    rows.append(("chance", [results.percent(summary["chance"])] * 2, ""))
    return "\n".join(
        [summary["title"], *results.aligned(rows), *_legend(summary), *_edges(summary)]
    )


def _legend(summary: Mapping[str, Any]) -> Iterator[str]:
    """Explains the names in a table's rows, one line each."""
    classified = {row["classifier"] for row in summary["rows"]}
    yield from (f"{name}: {text}" for name, text in _CLASSIFIERS.items() if name in classified)
    if any(row["features"] == FUSED for row in summary["rows"]):
        name = FEATURES[FUSED]
        yield f"{name}: features of video and audio side by side ({FUSED!r} in results.json)"


def _edges(summary: Mapping[str, Any]) -> Iterator[str]:
    """Names the features whose best C, k or epoch is at the end of those that were tried."""
    found: dict[tuple[str, str, str, float], list[str]] = {}
    for row in summary["rows"]:
        for weights in (PRETRAINED, UNTRAINED):
            for partition in row[weights]["partitions"].values():
                if side := results.edge(partition):
                    key = row["classifier"], side, partition["varied"], partition["chosen"]
                    found.setdefault(key, []).append(f"{weights} {FEATURES[row['features']]}")
    for (name, side, varied, value), features in sorted(found.items()):
        further = "larger" if side == "largest" else "smaller"
        yield (
            f"{name}: the {side} {varied} that was tried, {value:g}, is the best "
            f"on held-out recordings for {', '.join(dict.fromkeys(features))}; {further} ones may "
            f"be better (config.classifier.{name})"
        )


def picture(summary: Mapping[str, Any]) -> np.ndarray:
    """Draws results as grouped bars, (H, W, 3) uint8."""
    scores = [
        [row[weights]["scores"][summary["metric"]] for weights in (PRETRAINED, UNTRAINED)]
        for row in summary["rows"]
    ]
    spreads = np.array([[score["spread"] or 0.0 for score in pair] for pair in scores])
    return figures.grouped_bars(
        np.array([[score["mean"] for score in pair] for pair in scores]),
        [f"{FEATURES[row['features']]}\n{row['classifier']}" for row in summary["rows"]],
        [PRETRAINED, UNTRAINED],
        metrics.TITLES[summary["metric"]],
        summary["title"],
        summary["chance"],
        spreads if spreads.any() else None,
    )


def _title(config: ml_collections.ConfigDict, cells: Cells) -> str:
    outcomes = next(iter(cells.values()))
    count = sum(len(outcome.targets) for outcome in outcomes.values())
    data_name = os.path.basename(os.path.normpath(config.data.path))
    recordings = counted(count, "test recording")
    return f"{recordings} of {data_name}, {config.network} of {config.checkpoint}"


def _with_classifier(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    """Makes a probe's config with one classifier."""
    fields = config.to_dict()
    fields["classifier"]["name"] = name
    return ml_collections.ConfigDict(fields)
