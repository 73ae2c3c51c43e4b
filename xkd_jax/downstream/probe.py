"""The task `probe`: a classifier on the features of a frozen encoder."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from input_pipeline.programs.wording import counted
from xkd_jax import sharding
from xkd_jax.config import checks
from xkd_jax.downstream import (
    backbones,
    classifiers,
    labeled_data,
    metrics,
    probe_rules,
    selection,
)
from xkd_jax.downstream import results as reporting
from xkd_jax.downstream.labeled_data import LabeledData
from xkd_jax.downstream.sampling import FeatureSource, Fold, folds
from xkd_jax.downstream.selection import Outcome
from xkd_jax.run import console, processes


def probe(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Extracts features, classifies them, and writes the results.

    Args:
        config: Config as in xkd_jax/config/probing.py.
        workdir: Folder for `results.json` and the figures, and for the features if
            `config.features.cache` is empty.

    Returns:
        Content of `results.json`. None in all processes but the first.

    Raises:
        ConfigError: The config is invalid.
        ValueError: The checkpoint or the data are unusable.
        FileNotFoundError: The checkpoint or the data do not exist.
    """
    probe_rules.check(config)
    sharding.check_batch_size(config.batch_size, sharding.make_mesh())
    encoders = load_backbones(config)
    data = open_data(config, encoders)
    parts = folds(config, data)
    classifier = make_classifier(config, data, parts)
    cache = config.features.cache or os.path.join(workdir, "features")
    samples = FeatureSource(config, encoders, parts, pathlib.Path(cache))
    summary = None
    if processes.is_first():
        outcomes = evaluate(parts, samples, classifier, metrics.main_metric(data.multi_label))
        classifier.conclude()
        summary = _report(config, workdir, encoders, data, samples.unreadable, outcomes)
    processes.meet("results")
    return summary


def load_backbones(config: ml_collections.ConfigDict) -> backbones.Backbones:
    """Loads the encoders that a config names, by modality."""
    return backbones.load(
        config.checkpoint,
        config.modalities,
        config.network,
        sharding.compute_dtype(config.compute_dtype),
        config.frame_size,
        config.seed if config.untrained else None,
    )


def open_data(config: ml_collections.ConfigDict, encoders: backbones.Backbones) -> LabeledData:
    """Opens the labeled data that a config names, with views as the encoders take them.

    Prints how many recordings have no sound if there is an audio encoder.

    Raises:
        ConfigError: There is an audio encoder but no recording has sound, or the data are unusable
            (see `labeled_data.open_labeled`).
    """
    views = backbones.make_views(encoders)
    # Media files are decoded so large that a crop has the size of the encoder's input.
    views.video.short_side = round(views.video.short_side / config.clips.test.crop)
    data = labeled_data.open_labeled(config.data, views, picture="video" in encoders)
    silent, count = without_sound(data)
    if "audio" in encoders and silent == count:
        checks.refuse(config, "modalities", "('video',) for data without sound")
    if "audio" in encoders and silent:
        console.say(f"silence in place of sound: {silent} of {counted(count, 'recording')}")
    return data


def without_sound(data: LabeledData) -> tuple[int, int]:
    """Returns the number of recordings without sound and the number of all recordings."""
    audible = [source.has_audio[ids] for source, ids in labeled_data.all_recordings(data)]
    return int(sum(np.sum(~has) for has in audible)), sum(map(len, audible))


def make_classifier(
    config: ml_collections.ConfigDict, data: LabeledData, parts: Sequence[Fold]
) -> classifiers.Classifier:
    """Makes the classifier that a config names.

    Call it before features are extracted, which takes long, so that errors come early.

    Raises:
        ConfigError: The classifier does not fit the data, or there are no recordings to choose its
            hyperparameter on.
    """
    classifier = classifiers.make(config.classifier, data.multi_label, config.seed)
    for fold in parts:
        if len(classifier.candidates) > 1 and fold.held is not None and not len(fold.held):
            checks.refuse(
                config,
                "data.held_out",
                f"a share that holds out at least one of {len(fold.train)} recordings to choose "
                f"{classifier.varied} on, or a single value of {classifier.varied} in "
                f"config.classifier.{config.classifier.name}",
            )
    return classifier


def evaluate(
    parts: Sequence[Fold],
    samples: FeatureSource,
    classifier: classifiers.Classifier,
    metric: metrics.Metric,
) -> dict[str, Outcome]:
    """Evaluates a classifier on each fold.

    Args:
        parts: Folds of the data.
        samples: Features of their recordings.
        classifier: Classifier from `make_classifier`.
        metric: Metric that decides the choice of a candidate.

    Returns:
        Outcomes by name of the partition.
    """
    outcomes: dict[str, Outcome] = {}
    for fold in parts:
        train, test = samples.load(fold.train, "train"), samples.load(fold.test, "test")
        if fold.held is None:
            chosen = next(iter(outcomes.values())).chosen
            outcomes[fold.name] = _evaluate_chosen(chosen, train, test, classifier, metric)
            continue
        held_out = None
        if len(fold.held):
            held_out = samples.load(fold.held, "test")
            if fold.kept is not fold.train:
                held_out = selection.Divided(samples.load(fold.kept, "train"), held_out)
        outcomes[fold.name] = selection.evaluate(train, test, held_out, classifier, metric)
    return outcomes


def _evaluate_chosen(
    chosen: float,
    train: selection.LabeledFeatures,
    test: selection.LabeledFeatures,
    classifier: classifiers.Classifier,
    metric: metrics.Metric,
) -> Outcome:
    """Evaluates a partition with a candidate that was chosen on the first one."""
    # All candidates are tested, since the best one on the test set is reported too.
    fits = selection.fit(classifier, train, [test], "testing")
    tested = {value: scores for value, [scores] in fits}
    return Outcome(
        varied=classifier.varied,
        candidates=tuple(
            selection.Candidate(value, None, metric.overall(scores, test.targets))
            for value, scores in tested.items()
        ),
        chosen=chosen,
        scores=tested[chosen],
        targets=test.targets,
        counts={"train": len(train), "held_out": 0, "test": len(test)},
    )


def describe(config: ml_collections.ConfigDict, encoders: backbones.Backbones) -> dict[str, Any]:
    """Describes the encoders as plain values for `results.json`."""
    description = next(iter(encoders.values())).description
    return {
        "path": config.checkpoint,
        "network": config.network,
        "provenance": description["provenance"],
        "architecture": {m: description["architecture"][m] for m in encoders},
        "preprocessing": {m: encoder.view for m, encoder in encoders.items()},
        "weights_sha256": backbones.weights_digest(encoders),
    }


def describe_data(
    config: ml_collections.ConfigDict, data: LabeledData, unreadable: list[str]
) -> dict[str, Any]:
    """Describes the data as plain values for `results.json`. Prints how many are unreadable."""
    if unreadable:
        console.say(f"left out {counted(len(unreadable), 'recording')} that could not be read")
    silent, count = without_sound(data)
    return {
        "dataset": config.data.dataset,
        "path": config.data.path,
        "fingerprint": data.fingerprint,
        "recordings": count,
        "without_sound": silent,
        "unreadable": unreadable,
    }


def _report(
    config: ml_collections.ConfigDict,
    workdir: str,
    encoders: backbones.Backbones,
    data: LabeledData,
    unreadable: list[str],
    outcomes: Mapping[str, Outcome],
) -> dict[str, Any]:
    """Writes and prints the results."""
    network = backbones.network_name(config)
    return reporting.report(
        workdir,
        outcomes,
        config,
        data,
        title=f"{config.classifier.name} on {' and '.join(encoders)} of the {network}",
        checkpoint={**describe(config, encoders), "untrained": config.untrained},
        recordings=describe_data(config, data, unreadable),
        pretraining=next(iter(encoders.values())).description["config"],
    )
