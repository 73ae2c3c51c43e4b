"""The task `probe`: how well a classifier does on the features of a frozen encoder."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from xkd_jax import config_check, pretrain, sharding
from xkd_jax.downstream import (
    backbones,
    classifiers,
    labelled,
    metrics,
    probe_rules,
    published,
    selection,
)
from xkd_jax.downstream import results as reporting
from xkd_jax.downstream.labelled import LabelledData
from xkd_jax.downstream.sampling import Fold, Sampled, folds
from xkd_jax.downstream.selection import Outcome


def probe(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Extracts features, classifies them, and writes results as the config says.

    Args:
        config: See configs/eval/probe.py.
        workdir: Where `results.json` and the pictures go, and the features if nowhere else.

    Returns:
        What `results.json` holds; nothing in other processes than the first.

    Raises:
        ConfigError: For an impossible config.
        ValueError, FileNotFoundError: For an unusable checkpoint or unusable data.
    """
    probe_rules.check(config)
    sharding.check_batch_size(config.batch_size, sharding.make_mesh())
    encoders = load_backbones(config)
    data = open_data(config, encoders)
    parts = folds(config, data)
    classifier = make_classifier(config, data, parts)
    cache = config.features.cache or os.path.join(workdir, "features")
    samples = Sampled(config, encoders, parts, pathlib.Path(cache))
    written = None
    if jax.process_index() == 0:
        outcomes = evaluate(parts, samples, classifier, metrics.main_metric(data.multi_label))
        written = _report(config, workdir, encoders, data, samples.unreadable, outcomes)
    if jax.process_count() > 1:
        # The others wait: it is by the first process that they all know of each other.
        multihost_utils.sync_global_devices("results")
    return written


def load_backbones(config: ml_collections.ConfigDict) -> backbones.Backbones:
    """The encoders that a config names."""
    return backbones.load(
        config.checkpoint,
        config.modalities,
        config.network,
        pretrain.compute_dtype(config),
        config.frame_size,
        config.seed if config.untrained else None,
    )


def open_data(config: ml_collections.ConfigDict, encoders: backbones.Backbones) -> LabelledData:
    """The labelled data that a config names, in clips such as the encoders see.

    Prints how many recordings are silent where sound is wanted.

    Raises:
        ConfigError: None of them has sound; and see `labelled.open_labelled`.
    """
    views = backbones.make_views(encoders)
    data = labelled.open_labelled(config.data, views, picture="video" in encoders)
    silent, count = without_sound(data)
    if "audio" in encoders and silent == count:
        config_check.refuse(config, "modalities", "('video',) for data without any sound")
    if "audio" in encoders and silent and jax.process_index() == 0:
        print(f"{silent} of {count} recordings have no sound: silence stands for it", flush=True)
    return data


def without_sound(data: LabelledData) -> tuple[int, int]:
    """How many recordings have no sound, and how many there are."""
    audible = [source.has_audio[ids] for source, ids in labelled.all_recordings(data)]
    return int(sum(np.sum(~has) for has in audible)), sum(map(len, audible))


def make_classifier(
    config: ml_collections.ConfigDict, data: LabelledData, parts: Sequence[Fold]
) -> classifiers.Classifier:
    """The classifier that a config names; to be made before features are, which take long.

    Raises:
        ConfigError: It cannot serve such data, or there is nothing to choose it on.
    """
    classifier = classifiers.make(config.classifier, data.multi_label, config.seed)
    for fold in parts:
        if len(classifier.candidates) > 1 and fold.held is not None and not len(fold.held):
            config_check.refuse(
                config,
                "data.held_out",
                f"what leaves some of {len(fold.train)} recordings to choose {classifier.varied} "
                f"on, or a single value of that in config.classifier.{config.classifier.name}",
            )
    return classifier


def evaluate(
    parts: Sequence[Fold],
    samples: Sampled,
    classifier: classifiers.Classifier,
    metric: metrics.Metric,
) -> dict[str, Outcome]:
    """Classifies the features of each fold.

    Returns:
        What each gave, by name.
    """
    outcomes: dict[str, Outcome] = {}
    for fold in parts:
        train, test = samples.of(fold.train, "train"), samples.of(fold.test, "test")
        if fold.held is None:
            chosen = next(iter(outcomes.values())).chosen
            outcomes[fold.name] = _with(chosen, train, test, classifier, metric)
            continue
        held_out = None
        if len(fold.held):
            held_out = samples.of(fold.held, "test")
            if fold.kept is not fold.train:
                held_out = selection.Divided(samples.of(fold.kept, "train"), held_out)
        outcomes[fold.name] = selection.evaluate(train, test, held_out, classifier, metric)
    return outcomes


def _with(
    chosen: float,
    train: selection.Samples,
    test: selection.Samples,
    classifier: classifiers.Classifier,
    metric: metrics.Metric,
) -> Outcome:
    """What a partition gives with a candidate that was chosen on another one."""
    # With all of them, for the best on the test set is reported too.
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
    """The encoders, as plain values."""
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
    config: ml_collections.ConfigDict, data: LabelledData, unreadable: list[str]
) -> dict[str, Any]:
    """The recordings, as plain values; says how many are left out."""
    if unreadable:
        print(f"{len(unreadable)} recordings could not be read and are left out", flush=True)
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
    data: LabelledData,
    unreadable: list[str],
    outcomes: Mapping[str, Outcome],
) -> dict[str, Any]:
    """Writes and prints results."""
    dataset, _, protocol = config.paper.partition("/")
    description = next(iter(encoders.values())).description
    network = f"untrained {config.network}" if config.untrained else config.network
    where = os.path.basename(os.path.normpath(config.data.path))
    return reporting.report(
        workdir,
        outcomes,
        title=f"{config.classifier.name} on {' and '.join(encoders)} of the {network}, {where}",
        class_names=data.class_names,
        multi_label=data.multi_label,
        protocol=config.to_dict(),
        checkpoint={**describe(config, encoders), "untrained": config.untrained},
        data=describe_data(config, data, unreadable),
        published=published.find(dataset, protocol, description["config"]) if dataset else (),
    )
