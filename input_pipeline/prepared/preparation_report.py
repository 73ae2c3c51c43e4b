"""The report of a prepared data set, which says what became of every recording."""

import collections
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from input_pipeline.files import atomic, sealed
from input_pipeline.prepared import records
from input_pipeline.programs import wording

CLIP_SECONDS = 4.0  # length of a training clip; shorter recordings are repeated to fill it

NAME = "report.json"

# Names of the counts of a split and of the whole data set.
COUNTS = (
    *("listed", "kept", "left_out", "not_read"),
    *("video_seconds", "sound_seconds", "without_picture", "without_sound"),
    *("shorter_than_a_clip", "bytes"),
)


def split_counts(
    frames: Sequence[int],
    samples: Sequence[int],
    frame_rate: float,
    reasons: Iterable[str],
    not_read: int = 0,
    size: int = 0,
) -> dict[str, object]:
    """Counts the recordings of one split, or of those in no split.

    Args:
        frames: Number of frames of each recording that is kept.
        samples: Number of samples of each recording that is kept.
        frame_rate: Frames per second.
        reasons: Reason for each recording that is left out.
        not_read: Number of recordings not read yet.
        size: Bytes of the shards.

    Returns:
        `COUNTS`, and how often each reason occurs, the most frequent first.
    """
    reason_counts = collections.Counter(reasons)
    left_out = sum(reason_counts.values())
    seconds = [
        max(frame_count / frame_rate, sample_count / records.SAMPLE_RATE)
        for frame_count, sample_count in zip(frames, samples, strict=True)
    ]
    return {
        "listed": len(seconds) + left_out + not_read,
        "kept": len(seconds),
        "left_out": left_out,
        "not_read": not_read,
        "video_seconds": round(sum(frames) / frame_rate, 3),
        "sound_seconds": round(sum(samples) / records.SAMPLE_RATE, 3),
        "without_picture": sum(count == 0 for count in frames),
        "without_sound": sum(count == 0 for count in samples),
        "shorter_than_a_clip": sum(value < CLIP_SECONDS for value in seconds),
        "bytes": size,
        "reasons": wording.frequent_first(reason_counts),
    }


def total(splits: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Sums the counts of all splits."""
    sums: dict[str, object] = dict.fromkeys(COUNTS, 0)
    reasons: collections.Counter = collections.Counter()
    for counts in splits:
        for name in COUNTS:
            sums[name] = round(sums[name] + counts[name], 3)
        reasons.update(counts["reasons"])
    sums["reasons"] = wording.frequent_first(reasons)
    return sums


def write(folder: str | os.PathLike, values: Mapping[str, object]) -> None:
    """Writes the report into the data set's folder, whole or not at all."""
    text = json.dumps(values, indent=1, ensure_ascii=False)
    atomic.write_text(pathlib.Path(folder) / NAME, text + "\n")


def load(folder: str | os.PathLike) -> dict[str, object]:
    """Reads a report that `write` wrote.

    Raises:
        FileNotFoundError: The folder has no report.
        ValueError: The report is damaged.
    """
    return sealed.load_json(pathlib.Path(folder) / NAME)
