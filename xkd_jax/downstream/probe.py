"""The task `probe`: how well a classifier does on the features of a frozen encoder."""

import os
import pathlib
from collections.abc import Mapping
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
from xkd_jax.downstream.sampling import Sampled
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
    check_choice(config, data)
    cache = config.features.cache or os.path.join(workdir, "features")
    samples = Sampled(config, encoders, data, pathlib.Path(cache).expanduser())
    written = None
    if jax.process_index() == 0:
        outcomes = evaluate(config, data, samples)
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


def check_choice(config: ml_collections.ConfigDict, data: LabelledData) -> None:
    """Refuses, before features are made, what they could not be classified by.

    Raises:
        ConfigError: The classifier cannot serve such data, or there is nothing to choose it on.
    """
    classifier = classifiers.make(config.classifier, data.multi_label, config.seed)
    partitions = data.partitions[:1] if config.selection.tune_on == "first" else data.partitions
    for partition in partitions:
        held = partition.validation
        if held is None:
            _, held = labelled.held_out(partition.train, config.data.held_out, config.data.seed)
        if len(classifier.candidates) > 1 and not len(held):
            config_check.refuse(
                config,
                "data.held_out",
                f"what leaves some of {len(partition.train)} recordings to choose "
                f"{classifier.varied} on, or a single value of that in "
                f"config.classifier.{config.classifier.name}",
            )


def evaluate(
    config: ml_collections.ConfigDict, data: LabelledData, samples: Sampled
) -> dict[str, Outcome]:
    """Classifies the features of each partition.

    Returns:
        What each gave, by name.
    """
    classifier = classifiers.make(config.classifier, data.multi_label, config.seed)
    metric = metrics.main_metric(data.multi_label)
    outcomes: dict[str, Outcome] = {}
    for partition in data.partitions:
        train, test = samples.of(partition.train, "train"), samples.of(partition.test, "test")
        if outcomes and config.selection.tune_on == "first":
            chosen = next(iter(outcomes.values())).chosen
            outcomes[partition.name] = _with(chosen, train, test, classifier, metric)
            continue
        held_out = config.data.held_out
        if partition.validation is not None:
            held_out = samples.of(partition.validation, "test")
        outcomes[partition.name] = selection.evaluate(
            train, test, held_out, classifier, metric, config.data.seed
        )
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
    """What was evaluated, as plain values."""
    description = next(iter(encoders.values())).description
    return {
        "path": config.checkpoint,
        "network": config.network,
        "untrained": config.untrained,
        "provenance": description["provenance"],
        "architecture": {m: description["architecture"][m] for m in encoders},
        "preprocessing": {m: encoder.view for m, encoder in encoders.items()},
        "weights_sha256": backbones.weights_digest(encoders),
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
    if unreadable:
        print(f"{len(unreadable)} recordings could not be read and are left out", flush=True)
    dataset, _, protocol = config.paper.partition("/")
    silent, count = without_sound(data)
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
        checkpoint=describe(config, encoders),
        data={
            "dataset": config.data.dataset,
            "path": config.data.path,
            "fingerprint": data.fingerprint,
            "recordings": count,
            "without_sound": silent,
            "unreadable": unreadable,
        },
        published=published.find(dataset, protocol, description["config"]) if dataset else (),
    )
