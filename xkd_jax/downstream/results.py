"""Results of an evaluation: `results.json`, a table on the terminal, and figures.

Scores in `results.json` are shares of 1; the table and the figures show percent. A result is the
mean over the partitions of a data set, and its spread is their sample standard deviation. The
paper's numbers are listed with it and labeled as the paper's, and so are those of other methods.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from input_pipeline.files import atomic
from xkd_jax.downstream import backbones, comparable, figures, metrics, protocols
from xkd_jax.downstream.comparable import Comparable
from xkd_jax.downstream.labeled_data import LabeledData
from xkd_jax.downstream.selection import Outcome
from xkd_jax.paper import elsewhere
from xkd_jax.run import console

FILE = "results.json"
_LEAST = {"k": 1, "epoch": 1}  # values that none is smaller than
_CONFUSED = 20  # number of confused pairs of classes to list


def report(
    workdir: str | os.PathLike,
    outcomes: Mapping[str, Outcome],
    config: ml_collections.ConfigDict,
    data: LabeledData,
    *,
    title: str,
    checkpoint: Mapping[str, Any],
    recordings: Mapping[str, Any],
    pretraining: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Writes `results.json` and the figures into the workdir, and prints the table.

    Args:
        workdir: Folder to write to. It is created if it is missing.
        outcomes: At least one outcome, by name of its partition.
        config: Config of the evaluation.
        data: Data of the evaluation.
        title: Short description of what was evaluated, to which the name of the data is added.
        checkpoint: Description of the checkpoint, as plain values.
        recordings: Description of the data with their fingerprint, as plain values.
        pretraining: Config of the pretraining, which decides which numbers of the paper are listed;
            None if unknown.

    Returns:
        Content of `results.json`.
    """
    data_name = os.path.basename(os.path.normpath(config.data.path))
    dataset, _, protocol = config.paper.partition("/")
    network = backbones.network_name(config)
    paper = comparable.find(dataset, protocol, pretraining, network)
    results = {
        **collect(outcomes, f"{title}, {data_name}", data.class_names, data.multi_label),
        "paper": [_paper(beside) for beside in paper],
        "unlike_paper": protocols.departures(config),
        "elsewhere": [_elsewhere(n) for n in elsewhere.find(*protocols.measured(config))],
        "checkpoint": dict(checkpoint),
        "data": {**recordings, "classes": list(data.class_names)},
        "protocol": config.to_dict(),
    }
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures(results, outcomes).items():
        figures.save(workdir / name, picture)
    save(workdir, results)
    console.say(table(results))
    return results


def save(workdir: str | os.PathLike, results: Mapping[str, Any]) -> None:
    """Writes `results.json` into the workdir, atomically."""
    text = json.dumps(results, indent=2, allow_nan=False) + "\n"
    atomic.write_text(pathlib.Path(workdir) / FILE, text)


def collect(
    outcomes: Mapping[str, Outcome], title: str, class_names: Sequence[str], multi_label: bool
) -> dict[str, Any]:
    """Summarizes the outcomes of all partitions as plain values.

    Args:
        outcomes: At least one outcome, by name of its partition.
        title: Short description of the evaluation.
        class_names: C names.
        multi_label: Whether recordings may have any number of classes.

    Returns:
        A dictionary with these keys:
        `title`: The title.
        `metric`: Name of the main metric.
        `scores`: Mean and spread by metric.
        `best_on_test`: Mean and spread of the main metric for the candidate that is best on the
        test set of the first partition, as in the paper. None if only one candidate was tested.
        `choices`: In words, how `scores` and `best_on_test` were chosen among candidates.
        `chance`: Mean score of random guesses.
        `partitions`: Results of each partition by name.
        `per_class`: Means over the partitions by class. None for classes without test recordings.
        `confused`: The most frequent confusions of classes. None for multi-label data.
    """
    metric = metrics.main_metric(multi_label)
    partitions = {
        name: _partition(outcome, class_names, multi_label) for name, outcome in outcomes.items()
    }
    first = next(iter(partitions.values()))
    by_class = np.array(
        [metric.by_class(outcome.scores, outcome.targets) for outcome in outcomes.values()]
    )
    return {
        "title": title,
        "metric": metric.name,
        "scores": {
            name: mean_and_spread([partition["scores"][name] for partition in partitions.values()])
            for name in first["scores"]
        },
        "best_on_test": _best_on_test(list(outcomes.values())),
        "choices": _choices(partitions),
        "chance": float(np.mean([metric.chance(o.targets) for o in outcomes.values()])),
        "partitions": partitions,
        "per_class": {
            name: float(np.nanmean(values)) if np.isfinite(values).any() else None
            for name, values in zip(class_names, by_class.T, strict=True)
        },
        "confused": None if multi_label else _confused(_confusion(outcomes), class_names),
    }


def _partition(outcome: Outcome, class_names: Sequence[str], multi_label: bool) -> dict[str, Any]:
    metric = metrics.main_metric(multi_label)
    by_class = metric.by_class(outcome.scores, outcome.targets)
    best = outcome.best_on_test
    return {
        "recordings": dict(outcome.counts),
        "scores": metrics.all_scores(outcome.scores, outcome.targets, multi_label),
        "varied": outcome.varied,
        "chosen": outcome.chosen,
        "candidates": [candidate._asdict() for candidate in outcome.candidates],
        "best_on_test": best and best._asdict(),
        "absent_classes": [class_names[place] for place in metrics.absent_classes(outcome.targets)],
        "per_class": {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(class_names, by_class, strict=True)
        },
    }


def _best_on_test(outcomes: Sequence[Outcome]) -> dict[str, float | None] | None:
    """Scores one candidate in all partitions: the one that is best on the first one's test set."""
    best = outcomes[0].best_on_test
    if best is None:
        return None
    tests = [{c.value: c.test for c in outcome.candidates}.get(best.value) for outcome in outcomes]
    return None if None in tests else mean_and_spread(tests)


def _choices(partitions: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Describes how `scores` and `best_on_test` were chosen; the latter only if there is one."""
    first = next(iter(partitions.values()))
    varied = first["varied"]
    chosen = next(c for c in first["candidates"] if c["value"] == first["chosen"])
    on = "set beforehand" if chosen["held_out"] is None else "chosen on held-out recordings"
    choices = {"scores": f"{varied} {on}"}
    if first["best_on_test"]:
        choices["best_on_test"] = f"{varied} {_on_test(partitions)}"
    return choices


def _on_test(partitions: Mapping[str, Any]) -> str:
    where = "itself" if len(partitions) == 1 else f"of partition {next(iter(partitions))}"
    return f"chosen on the test set {where}"


def mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    """Computes `mean` and `spread`, the sample standard deviation; None of a single value."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "spread": spread}


def _paper(beside: Comparable) -> dict[str, Any]:
    number, differences = beside
    return {
        "model": number.model,
        "of": number.of,
        "table": number.source,
        "score": round(number.percent / 100, 4),
        "differences": None if differences is None else list(differences),
    }


def _elsewhere(number: elsewhere.Number) -> dict[str, Any]:
    return {
        "model": number.model,
        "pretraining": number.pretraining,
        "score": round(number.percent / 100, 4),
        "source": number.source,
        "unlike": number.unlike,
        "quoted": number.quoted,
    }


def _confusion(outcomes: Mapping[str, Outcome]) -> np.ndarray:
    return sum(metrics.confusion(o.scores, o.targets) for o in outcomes.values())


def _confused(counts: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    off = counts - np.diag(np.diag(counts))
    order = np.argsort(-off, axis=None, kind="stable")[:_CONFUSED]
    pairs = zip(*np.unravel_index(order, off.shape), strict=True)
    return [
        {
            "class": class_names[row],
            "taken_for": class_names[column],
            "count": int(off[row, column]),
            "share": float(off[row, column] / counts[row].sum()),
        }
        for row, column in pairs
        if off[row, column]
    ]


def pictures(results: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> dict[str, np.ndarray]:
    """Draws the scores of the classes and, for single-label data, the confusion matrix.

    Args:
        results: Results from `collect`.
        outcomes: The outcomes that they summarize.

    Returns:
        (H, W, 3) uint8 by file name.
    """
    multi_label, title = results["confused"] is None, results["title"]
    names = list(results["per_class"])
    values = np.array([np.nan if v is None else v for v in results["per_class"].values()])
    of_class = metrics.main_metric(multi_label).of_class
    images = {"per_class.png": figures.class_bars(values, names, of_class, title)}
    if not multi_label:
        images["confusion.png"] = figures.confusion(_confusion(outcomes), names, title)
    return images


def table(results: Mapping[str, Any]) -> str:
    """Formats results as a table for the terminal, in percent."""
    names = list(results["scores"])
    rows = [("", [metrics.TITLES[name] for name in names], "")]
    partitions = results["partitions"]
    for name, partition in partitions.items():
        label = f"partition {name}" if len(partitions) > 1 else "this checkpoint"
        scores = [percent(partition["scores"][metric]) for metric in names]
        rows.append((label, scores, _choice(partition)))
    if len(partitions) > 1:
        means = [percent(**results["scores"][metric]) for metric in names]
        rows.append(("this checkpoint, mean and spread", means, ""))
    best = results["best_on_test"]
    if best:
        varied = next(iter(partitions.values()))["varied"]
        # The paper says so of C alone. Of epochs it would be too good for a comparison.
        label = "as the paper chooses" if varied == "C" else "for information alone"
        note = f"{varied} {_on_test(partitions)}"
        rows.append((f"best on test, {label}", [percent(**best)], note))
    rows.append(("chance", [percent(results["chance"])], ""))
    for number in results.get("paper", ()):
        label = "paper, another recipe" if number["differences"] else "paper"
        source = ", ".join(filter(None, (number["of"], number["table"])))
        remark = f"{source}{_unlike(number['differences'])}"
        rows.append((f"{label}: {number['model']}", [percent(number["score"])], remark))
    for number in results.get("elsewhere", ()):
        label = f"elsewhere: {number['model']}, {number['pretraining']}"
        quoted = "quoted by others" if number["quoted"] else ""
        remark = "; ".join(filter(None, (number["source"], quoted, number["unlike"])))
        rows.append((label, [percent(number["score"])], remark))
    lines = [results["title"], *aligned(rows)]
    if unlike := results.get("unlike_paper"):
        lines.insert(1, f"not by the paper's protocol: {_first(unlike)}")
    absent = {name: len(p["absent_classes"]) for name, p in partitions.items()}
    if any(absent.values()):
        counts = ", ".join(f"{count} in {name}" for name, count in absent.items() if count)
        lines.append(f"classes without test recordings, left out of all means: {counts}")
    return "\n".join(lines)


def _unlike(differences: Sequence[str] | None) -> str:
    """Describes how the pretraining differs from that of a number of the paper."""
    if differences is None:
        return "; whether the pretraining was this one is not known"
    return f"; here {_first(differences)}" if differences else ""


def _first(texts: Sequence[str]) -> str:
    """Returns the first of some texts, and the number of the others."""
    return f"{texts[0]}, and {len(texts) - 1} more" if len(texts) > 1 else texts[0]


def _choice(partition: Mapping[str, Any]) -> str:
    """Describes the chosen candidate of a partition."""
    chosen = next(c for c in partition["candidates"] if c["value"] == partition["chosen"])
    value = partition["chosen"]
    value = value if isinstance(value, str) else f"{value:g}"
    description = f"{partition['varied']} {value}"
    if side := edge(partition):
        description += f", the {side} tried"
    if chosen["held_out"] is not None:
        description += f", {percent(chosen['held_out'])} on held-out recordings"
    return description


def edge(partition: Mapping[str, Any]) -> str | None:
    """Tells whether values beyond those that were tried may be better.

    Args:
        partition: Results of a partition, from `collect`.

    Returns:
        "smallest" or "largest" if the chosen value is that of all tried ones and scores higher on
        the held-out recordings than every other one. None otherwise, and if no value is smaller.
    """
    candidates = [c for c in partition["candidates"] if c["held_out"] is not None]
    chosen = partition["chosen"]
    if len(candidates) < 2 or isinstance(chosen, str):
        return None
    others = {c["value"]: c["held_out"] for c in candidates}
    if others.pop(chosen) <= max(others.values()):
        return None
    if chosen > max(others):
        return "largest"
    return (
        "smallest" if chosen < min(others) and chosen != _LEAST.get(partition["varied"]) else None
    )


def percent(mean: float, spread: float | None = None) -> str:
    """Formats a share of 1 in percent, with its spread if there is one."""
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def aligned(rows: Sequence[tuple[str, Sequence[str], str]]) -> Iterator[str]:
    """Aligns the rows of a table.

    Args:
        rows: Label, values and remark of each row, including the header.

    Yields:
        One line per row.
    """
    widths = [
        max(len(row[1][place]) for row in rows if len(row[1]) > place)
        for place in range(max(len(row[1]) for row in rows))
    ]
    label_width = max(len(row[0]) for row in rows)
    for label, values, remark in rows:
        padded = [*values, *[""] * (len(widths) - len(values))]
        cells = "  ".join(f"{v:>{width}}" for v, width in zip(padded, widths, strict=True))
        yield f"  {label:<{label_width}}  {cells}  {remark}".rstrip()
