"""Prepared data whose classes a small network can tell apart, by video and by audio."""

import pathlib

import numpy as np

from input_pipeline.prepared import records
from input_pipeline.prepared.records import Role
from tests.input_pipeline.prepared_files import jpeg, write_prepared

SECONDS = 1.5


def record(
    name: str, *labels: int, roles: tuple[int, ...] = (), picture: bool = True
) -> records.Record:
    """Makes noisy frames in the classes' colors (0 to 2: red, green, blue) and a tone for each."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    color = np.zeros(3)
    color[list(labels)] = 150
    frames = rng.integers(0, 100, (round(8 * SECONDS), 40, 48, 3)) + color
    times = np.arange(round(16_000 * SECONDS)) / 16_000
    tones = sum(np.sin(2 * np.pi * 400 * 3**label * times) for label in labels)
    sound = 0.2 * tones + 0.02 * rng.normal(size=len(times))
    return records.Record(
        name=name,
        frames=[jpeg(frame.astype(np.uint8)) for frame in frames] if picture else [],
        frame_times=(np.arange(len(frames) if picture else 0) / 8).astype(np.float32),
        waveform=np.round(sound * 32767 / 2).astype(np.int16),
        labels=labels,
        roles=roles,
    )


def two_partitions(folder: pathlib.Path) -> pathlib.Path:
    """Writes twelve recordings of three classes with two official partitions, like UCF101."""
    train, test = Role.TRAIN, Role.TEST
    rows = [
        record(f"{label}-{n}", label, roles=((train, test) if n < 2 else (test, train)))
        for label in range(3)
        for n in range(4)
    ]
    return write_prepared(folder, {"full": rows}, ("1", "2"))


def multi_label(folder: pathlib.Path) -> pathlib.Path:
    """Writes audio of one or two of three classes, with a validation split, like FSD50K."""
    labels = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)]
    splits = {
        split: [record(f"{split}{n}", *classes, picture=False) for n, classes in enumerate(labels)]
        for split in ("train", "val", "test")
    }
    return write_prepared(folder, splits)
