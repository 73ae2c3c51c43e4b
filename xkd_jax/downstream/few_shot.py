"""The task `few_shot`: classifiers on few labeled recordings of each class, and frozen features.

See configs/eval/few_shot.py. The recordings to train on are drawn at random several times; the
result is the mean over the draws, with their spread. In one draw, those for fewer shots are among
those for more.
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
from xkd_jax.downstream import backbones, classifiers, figures, metrics, probe, probe_rules, results
from xkd_jax.downstream.sampling import FeatureSource, Fold, folds
from xkd_jax.downstream.selection import LabeledFeatures, Outcome, evaluate
from xkd_jax.run import console, processes

RULES = schema.rules(probing.few_shot())
PICTURE = "few_shot.png"

# Outcomes by partition, for each number of shots and each draw.
Drawn = dict[int, list[dict[str, Outcome]]]


def check(config: ml_collections.ConfigDict) -> None:
    """Checks each field of a few-shot config, alone and in combination with others.

    Raises:
        ConfigError: A field is not allowed. The message names it, its value and what is allowed.
    """
    probe_rules.check(config, RULES)
    if len(set(config.shots)) < len(config.shots):
        checks.refuse(config, "shots", "distinct numbers")


def few_shot(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Extracts features, trains classifiers on few of them, and writes and prints the results.

    Args:
        config: Config as in configs/eval/few_shot.py.
        workdir: Folder for `results.json` and `few_shot.png`, and for the features if
            `config.features.cache` is empty.

    Returns:
        Content of `results.json`. None in all processes but the first.

    Raises:
        ConfigError: The config is invalid.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
    """
    check(config)
    sharding.check_batch_size(config.batch_size, sharding.make_mesh())
    encoders = probe.load_backbones(config)
    data = probe.open_data(config, encoders)
    parts = folds(config, data)
    classifier = probe.make_classifier(config, data, parts)
    cache = config.features.cache or os.path.join(workdir, "features")
    samples = FeatureSource(config, encoders, parts, pathlib.Path(cache))
    summary = None
    if processes.is_first():
        drawn = evaluate_draws(config, parts, samples, classifier, data.multi_label)
        classifier.conclude()
        network = backbones.network_name(config)
        data_name = os.path.basename(os.path.normpath(config.data.path))
        title = (
            f"{config.classifier.name} on few {' and '.join(encoders)} features of the {network}"
        )
        summary = {
            **collect(drawn, data.class_names, data.multi_label),
            "title": f"{title}, {data_name}",
            "checkpoint": {**probe.describe(config, encoders), "untrained": config.untrained},
            "data": {
                **probe.describe_data(config, data, samples.unreadable),
                "classes": list(data.class_names),
            },
            "protocol": config.to_dict(),
        }
        pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
        figures.save(pathlib.Path(workdir, PICTURE), picture(summary))
        results.save(workdir, summary)
        console.say(table(summary))
    processes.meet("results")
    return summary


def evaluate_draws(
    config: ml_collections.ConfigDict,
    parts: Sequence[Fold],
    samples: FeatureSource,
    classifier: classifiers.Classifier,
    multi_label: bool,
) -> Drawn:
    """Evaluates a classifier on each draw of recordings of each fold.

    A candidate is chosen on as many held-out recordings of each class as there are shots.

    Args:
        config: Config as in configs/eval/few_shot.py.
        parts: Folds of the data.
        samples: Features of their recordings.
        classifier: Classifier from `probe.make_classifier`.
        multi_label: Whether recordings may have any number of classes.
    """
    metric = metrics.main_metric(multi_label)
    chooses = len(classifier.candidates) > 1
    drawn: Drawn = {shots: [{} for _ in range(config.draws)] for shots in config.shots}
    for fold in parts:
        train = samples.load(fold.kept if chooses else fold.train, "train")
        test = samples.load(fold.test, "test")
        held_out = samples.load(fold.held, "test") if chooses else None
        for shots, of_draws in drawn.items():
            _report_short_classes(fold.name, train, shots)
            for draw, outcomes in enumerate(of_draws):
                rng = np.random.Generator(np.random.Philox(key=[config.seed, draw]))
                few = train.take(draw_recordings(train.targets, shots, rng))
                few_held = None
                if held_out is not None:
                    few_held = held_out.take(draw_recordings(held_out.targets, shots, rng))
                outcomes[fold.name] = evaluate(few, test, few_held, classifier, metric)
    return drawn


def draw_recordings(targets: np.ndarray, shots: int, rng: np.random.Generator) -> np.ndarray:
    """Draws recordings of each class, all those of a class that has no more.

    Args:
        targets: (n, C) bool. Classes of the recordings.
        shots: Number of recordings of each class. A recording of several classes that is drawn for
            one of them does not count for the others.
        rng: Source of the draws. Equal ones draw supersets for more shots.

    Returns:
        Places of the drawn recordings, in ascending order.
    """
    places = rng.permutation(len(targets))
    chosen = [places[targets[places, label]][:shots] for label in range(targets.shape[1])]
    return np.unique(np.concatenate(chosen))


def _report_short_classes(name: str, train: LabeledFeatures, shots: int) -> None:
    """Prints how many classes have fewer recordings than shots."""
    counts = train.targets.sum(axis=0)
    short = int(np.sum((counts > 0) & (counts < shots)))
    if short:
        console.say(
            f"partition {name!r}: {counted(short, 'class')} with fewer than {shots} training "
            "recordings to draw from"
        )


def collect(drawn: Drawn, class_names: tuple[str, ...], multi_label: bool) -> dict[str, Any]:
    """Summarizes the outcomes of all draws as plain values.

    Args:
        drawn: Outcomes from `evaluate_draws`.
        class_names: C names.
        multi_label: Whether recordings may have any number of classes.

    Returns:
        A dictionary with these keys:
        `metric`: Name of the main metric.
        `chance`: Mean score of random guesses.
        `shots`: For each number of shots, `scores`, mean and spread over the draws by metric; and
        `draws`, the summary of each draw over the partitions from `results.collect`.
    """
    of_shots = {}
    for shots, of_draws in drawn.items():
        draws = [
            results.collect(outcomes, f"{shots} shots, draw {n}", class_names, multi_label)
            for n, outcomes in enumerate(of_draws)
        ]
        scores = {
            name: results.mean_and_spread([draw["scores"][name]["mean"] for draw in draws])
            for name in draws[0]["scores"]
        }
        of_shots[str(shots)] = {"scores": scores, "draws": draws}
    any_draw = next(iter(of_shots.values()))["draws"][0]
    return {"metric": any_draw["metric"], "chance": any_draw["chance"], "shots": of_shots}


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float | None]]]:
    for shots, row in summary["shots"].items():
        yield f"{counted(int(shots), 'shot')} of each class", row["scores"][summary["metric"]]


def table(summary: Mapping[str, Any]) -> str:
    """Formats results as a table for the terminal, in percent."""
    draws = len(next(iter(summary["shots"].values()))["draws"])
    rows = [(f"mean of {counted(draws, 'draw')}", [metrics.TITLES[summary["metric"]]], "")]
    rows += [(label, [results.percent(**score)], "") for label, score in _rows(summary)]
    rows.append(("chance", [results.percent(summary["chance"])], ""))
    return "\n".join([summary["title"], *results.aligned(rows)])


def picture(summary: Mapping[str, Any]) -> np.ndarray:
    """Draws results as bars, (H, W, 3) uint8."""
    labels, scores = zip(*_rows(summary), strict=True)
    spreads = np.array([[score["spread"] or 0.0] for score in scores])
    return figures.grouped_bars(
        np.array([[score["mean"]] for score in scores]),
        labels,
        ["mean of the draws"],
        metrics.TITLES[summary["metric"]],
        summary["title"],
        summary["chance"],
        spreads if spreads.any() else None,
    )
