"""The log of a run: `metrics.jsonl`, PNG images, trackers and lines on the terminal.

Files are only appended to, or replaced as a whole, so a run may be killed at any instant. Only the
first process writes.
"""

import contextlib
import itertools
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from input_pipeline.files import atomic
from input_pipeline.programs.wording import counted
from xkd_jax.run import console, processes, starts
from xkd_jax.run.figures import Figures
from xkd_jax.run.trackers import TrackerError, encoding

# The last of the loss terms, which are at the beginning. The progress line shows all of them.
TOTAL = "total"
# Prefix of the online probe's metrics. The progress line shows them in percent.
PROBE = "probe/"

_LARGEST = float(np.finfo(np.float32).max)


class Telemetry:
    """The log of one run. As a context manager, it closes its files at the end.

    Args:
        workdir: Folder of the run; it is created if it does not exist.
        start_step: The step at which this process starts. Lines of `metrics.jsonl` for later steps
            are from an interrupted process and are dropped.
        total_steps: Steps of the whole run.
        steps_per_epoch: Steps per epoch; None if there are no epochs.
        writers: Value of `config.log.writers`.

    Raises:
        TrackerError: A tracker cannot start a run.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        start_step: int,
        total_steps: int,
        steps_per_epoch: float | None = None,
        writers: Sequence[str] = ("tensorboard",),
    ) -> None:
        self._start_step = start_step
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._writes = processes.is_first()
        if not self._writes:
            return
        self._workdir = pathlib.Path(workdir)
        (self._workdir / "images").mkdir(parents=True, exist_ok=True)
        drop_lines_after(self._workdir / "metrics.jsonl", start_step)
        with self._writing_events():
            self._writers = _open_writers(writers, self._workdir)

    def begin(self, config: dict[str, Any]) -> None:
        """Writes the resolved config, and which code and packages the run starts with.

        Args:
            config: Nested dicts of plain values, for `config.json`.
        """
        if not self._writes:
            return
        atomic.write_text(self._workdir / "config.json", json.dumps(config, indent=2))
        start = starts.append(self._workdir / starts.FILE, self._start_step)
        packages = "\n".join(f"{name} {version}" for name, version in start["packages"].items())
        texts = {"run/code": start["code"], "run/packages": packages}
        with self._writing_events():
            for writer in self._writers:
                writer.write_hparams(config)
                writer.write_texts(self._start_step, texts)

    def scalars(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of one step to `metrics.jsonl`, the trackers and the terminal.

        Args:
            step: Number of steps done.
            metrics: Dict of floats, in order of importance.
        """
        if not self._writes:
            return
        record = {"step": step}
        if self._steps_per_epoch:
            record["epoch"] = round(step / self._steps_per_epoch, 4)
        # A line is one write, so a kill can damage only the last line.
        path = self._workdir / "metrics.jsonl"
        with atomic.named(path), path.open("a") as file:
            file.write(json.dumps(record | metrics) + "\n")
        with self._writing_events():
            for writer in self._writers:
                writer.write_scalars(step, metrics)
                writer.flush()
        console.say(progress_line(step, self._total_steps, metrics, self._steps_per_epoch))

    def figures(self, step: int, figures: Figures) -> None:
        """Writes figures to the trackers, and images as `images/<step>_<name>.png` too.

        Args:
            step: Number of steps done.
            figures: The figures of this step.
        """
        if not self._writes:
            return
        for name, image in figures.images.items():
            file_name = f"{step:08d}_{name.replace('/', '_')}.png"
            atomic.write_bytes(self._workdir / "images" / file_name, encoding.png(image))
        with self._writing_events():
            for writer in self._writers:
                writer.write_images(step, figures.images)
                writer.write_videos(step, figures.videos, frame_rate=figures.frame_rate)
                writer.write_audios(step, figures.audios, sample_rate=figures.sample_rate)
                writer.flush()

    @contextlib.contextmanager
    def _writing_events(self) -> Iterator[None]:
        """Turns TensorFlow's errors, such as for a full disk, into an OSError."""
        try:
            yield
        except (TrackerError, OSError):
            raise
        except Exception as error:
            reason = " ".join(str(error).partition(" [Op:")[0].split())
            raise OSError(f"{self._workdir / 'tensorboard'} cannot be written: {reason}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writes:
            with self._writing_events():
                for writer in self._writers:
                    writer.close(failed=kind is not None)


class Interval:
    """The interval between two lines of the log: averages the metrics and times the loop.

    Args:
        batch_size: Examples per step, over all processes.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._reset()

    def _reset(self) -> None:
        self._sums = {}
        self._steps = 0
        self._waited = 0.0
        self._on_devices = 0.0
        self._started = time.perf_counter()

    def __len__(self) -> int:
        return self._steps

    def add(self, metrics: dict[str, float]) -> None:
        """Adds the metrics of one step, a dict of floats."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    @contextlib.contextmanager
    def on_devices(self) -> Iterator[None]:
        """Counts the time inside as waiting for what the devices compute."""
        started = time.perf_counter()
        yield
        self._on_devices += time.perf_counter() - started

    def away(self) -> float:
        """Returns the share of the time so far in which this process did not wait for devices."""
        return 1.0 - self._on_devices / (time.perf_counter() - self._started)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Excludes the time inside, which is not training: drawing figures, for example."""
        started = time.perf_counter()
        yield
        self._started += time.perf_counter() - started

    def close(self) -> dict[str, float]:
        """Ends the interval and begins the next one.

        Returns:
            Dict of floats: the means of the metrics, in the order of `add`; then
            `speed/clips_per_second`, `speed/seconds_per_step`, and `speed/data_wait`, the share of
            the time that this process waited for data.
        """
        elapsed = time.perf_counter() - self._started
        means = {name: total / self._steps for name, total in self._sums.items()}
        speed = {
            "speed/clips_per_second": self._steps * self._batch_size / elapsed,
            "speed/seconds_per_step": elapsed / self._steps,
            "speed/data_wait": self._waited / elapsed,
        }
        self._reset()
        return means | speed


def progress_line(
    step: int,
    total_steps: int,
    metrics: dict[str, float],
    steps_per_epoch: float | None = None,
) -> str:
    """Formats the progress of a run as one line.

    Args:
        step: Number of steps done.
        total_steps: Steps of the whole run.
        metrics: Dict of floats, from `Interval.close`; the loss terms come first and end with their
            `total`.
        steps_per_epoch: Steps per epoch; None if there are no epochs.

    Returns:
        A line like `step 50/200 (25.0%) epoch 1.25 | total 3.21 (reconstruction 0.6, alignment 0.2)
        | 412 clips/s, data wait 3%, ETA 0:12:33`.
    """
    done = f"step {step}/{total_steps} ({step / total_steps:.1%})"
    if steps_per_epoch:
        done += f" epoch {step / steps_per_epoch:.2f}"
    losses = ""
    if TOTAL in metrics:
        terms = itertools.takewhile(lambda item: item[0] != TOTAL, metrics.items())
        terms = ", ".join(f"{name} {value:.4g}" for name, value in terms)
        losses = f"{TOTAL} {metrics[TOTAL]:.4g}" + (f" ({terms})" if terms else "")
    probe = ", ".join(
        f"{name.removeprefix(PROBE)} {value:.0%}"
        for name, value in metrics.items()
        if name.startswith(PROBE)
    )
    seconds_left = round((total_steps - step) * metrics["speed/seconds_per_step"])
    rate = metrics["speed/clips_per_second"]
    speed = (
        f"{rate:.{2 if rate < 10 else 0}f} clips/s, "
        f"data wait {metrics['speed/data_wait']:.0%}, "
        f"ETA {seconds_left // 3600}:{seconds_left // 60 % 60:02d}:{seconds_left % 60:02d}"
    )
    return " | ".join(part for part in (done, losses, probe and f"probe {probe}", speed) if part)


def drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Removes the lines after a step from a file of JSON lines, and damaged lines.

    Args:
        path: Path of the file; it need not exist.
        step: Last step to keep.

    Raises:
        ValueError: It is something else than a file.
    """
    if not path.exists():
        return
    if not path.is_file():  # a pipe would block
        raise ValueError(f"{path} is not a regular file")
    remaining, damaged = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        # A kill or a crash leaves a part of a line, which may be valid JSON without a step.
        record = read_line(line) if line.endswith(b"\n") else None
        damaged += record is None
        if record is not None and record[0] <= step:
            remaining.append(line)
    if damaged:
        console.say(f"{path}: dropped {counted(damaged, 'line')} that cannot be read")
    atomic.write_bytes(path, b"".join(remaining))


def read_line(line: bytes) -> tuple[int, dict[str, float]] | None:
    """Reads a line of `metrics.jsonl`.

    Args:
        line: The line, which may be damaged.

    Returns:
        The number of steps done and the metrics by name; None if the line is damaged.
    """
    try:
        record = json.loads(line)
        step = record.pop("step")
        if type(step) is not int or not 0 <= step < 2**63:
            return None
        metrics = {name: float(value) for name, value in record.items() if name != "epoch"}
        # Metrics are float32 numbers, NaN or infinite.
        beyond = any(_LARGEST < abs(value) < math.inf for value in metrics.values())
        return None if beyond else (step, metrics)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _open_writers(names: Sequence[str], workdir: pathlib.Path) -> list[Any]:
    # Imported here because it imports TensorFlow, which this module must not require.
    from xkd_jax.run.trackers import writers

    return list(writers.open_writers(names, workdir))
