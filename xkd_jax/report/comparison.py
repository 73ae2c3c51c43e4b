"""The table that the task `compare` has left in a run's folder, see configs/eval/compare.py.

The file may be damaged, of another checkpoint, or of anybody's making: what is shown of it are
numbers within their range, and words of this module.
"""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from input_pipeline.files import sealed
from xkd_jax.downstream import metrics
from xkd_jax.downstream.selection import FEATURES

FILE = pathlib.Path("compare", "results.json")
CLASSIFIERS = {"svm": "linear SVM", "linear": "linear layer", "knn": "nearest neighbors"}


class Score(NamedTuple):
    """A score, as a share of 1.

    Attributes:
        mean: Mean over the partitions of the data.
        spread: Their standard deviation; None of a single partition.
    """

    mean: float
    spread: float | None


class Row(NamedTuple):
    """Scores of a classifier on some features.

    Attributes:
        features: Key of `selection.FEATURES`.
        classifier: Key of `CLASSIFIERS`.
        pretrained: Score on features of the checkpoint.
        untrained: Score on features of the same architecture with random weights.
    """

    features: str
    classifier: str
    pretrained: Score
    untrained: Score


class Comparison(NamedTuple):
    """A table of scores.

    Attributes:
        metric: Key of `xkd_jax.downstream.metrics.TITLES`.
        chance: Mean score of random guesses.
        network: Which network's features they are: `teacher` or `student`.
        recordings: Number of test recordings, over all partitions.
        rows: At least one row.
    """

    metric: str
    chance: float
    network: str
    recordings: int
    rows: list[Row]


def read(folder: pathlib.Path, provenance: Mapping[str, Any]) -> Comparison:
    """Reads the table of a checkpoint.

    Args:
        folder: Folder of the run.
        provenance: Provenance of the checkpoint, from the description of its weights.

    Returns:
        The table.

    Raises:
        FileNotFoundError: The run has no table.
        ValueError: It cannot be read, or is of other weights. The message says so in words that
            hold nothing of the file.
    """
    try:
        content = sealed.load_json(folder / FILE)
        origin = content["checkpoint"]["provenance"]
        is_of_these = _identity(origin) == _identity(provenance)
        comparison = _parsed(content)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise ValueError("is damaged, or not what the task compare writes") from None
    if not is_of_these:
        raise ValueError("is of other weights than these")
    return comparison


def command(checkpoint: str, folder: str) -> str:
    """Returns the command that makes the table of a checkpoint in the folder of its run."""
    checkpoint, output = shlex.quote(checkpoint), shlex.quote(f"{folder}/{FILE.parent}")
    return (
        f"python -m xkd_jax.main --config=configs/eval/compare.py --config.checkpoint={checkpoint} "
        f"--config.data.path=VIDEOS --workdir={output}"
    )


def _identity(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what tells weights from others. A run may have moved, so its path does not."""
    return {name: value for name, value in provenance.items() if name != "path"}


def _parsed(content: Mapping[str, Any]) -> Comparison:
    metric = _one_of(metrics.TITLES, content["metric"])
    rows = [
        Row(
            _one_of(FEATURES, row["features"]),
            _one_of(CLASSIFIERS, row["classifier"]),
            *(_score(row[weights]["scores"][metric]) for weights in ("pretrained", "untrained")),
        )
        for row in content["rows"]
    ]
    partitions = content["rows"][0]["pretrained"]["partitions"].values()
    recordings = sum(_count(partition["recordings"]["test"]) for partition in partitions)
    network = _one_of(("teacher", "student"), content["checkpoint"]["network"])
    return Comparison(metric, _share(content["chance"]), network, recordings, rows)


def _score(score: Mapping[str, Any]) -> Score:
    spread = score["spread"]
    return Score(_share(score["mean"]), None if spread is None else _share(spread))


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError("not a share of 1")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("not a count")
    return value


def _one_of(known: Any, name: Any) -> str:
    if name not in known:
        raise ValueError("not a known name")
    return name
