"""What a run says of itself: TensorBoard, `metrics.jsonl`, PNG images and a line on the terminal.

All files are append-only or replaced whole, so a run may be killed at any instant. Only the first
process writes.
"""

import contextlib
import io
import itertools
import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from PIL import Image

from input_pipeline import atomic

# The metric that ends the loss terms. They and it are shown on the progress line.
TOTAL = "total"
# Metrics of the online probe, which are shown there too, in percent.
PROBE = "probe/"


class Telemetry:
    """The outputs of one run. Use it as a context manager: leaving it closes the files.

    Args:
        workdir: The run's folder, made if missing.
        start_step: The step at which this run starts. What `metrics.jsonl` says of later steps is
            from a run that was cut short and is dropped.
        total_steps: Steps of the whole run.
        steps_per_epoch: A float, or None where there are no epochs to speak of.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        start_step: int,
        total_steps: int,
        steps_per_epoch: float | None = None,
    ):
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        self._workdir = pathlib.Path(workdir)
        (self._workdir / "images").mkdir(parents=True, exist_ok=True)
        drop_lines_after(self._workdir / "metrics.jsonl", start_step)
        with self._writing_events():
            self._tensorboard = _tensorboard_writer(self._workdir / "tensorboard")

    def config(self, config: dict[str, Any]) -> None:
        """Writes the resolved config, nested dicts of plain values, to `config.json`."""
        if self._writes:
            write_whole(self._workdir / "config.json", json.dumps(config, indent=2).encode())

    def scalars(self, step: int, metrics: dict[str, float]) -> None:
        """Writes one step's metrics everywhere.

        Args:
            step: The number of steps done.
            metrics: Dict of floats, in order of importance.
        """
        if not self._writes:
            return
        record = {"step": step}
        if self._steps_per_epoch:
            record["epoch"] = round(step / self._steps_per_epoch, 4)
        # One write of a whole line: a kill tears at most the last one.
        path = self._workdir / "metrics.jsonl"
        with atomic.named(path), path.open("a") as file:
            file.write(json.dumps(record | metrics) + "\n")
        with self._writing_events():
            self._tensorboard.write_scalars(step, metrics)
            self._tensorboard.flush()
        print(progress_line(step, self._total_steps, metrics, self._steps_per_epoch), flush=True)

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Writes images to TensorBoard and as `images/<step>_<name>.png`.

        Args:
            step: The number of steps done.
            images: Dict of `(H, W, 3)` uint8 arrays.
        """
        if not self._writes:
            return
        for name, image in images.items():
            png = io.BytesIO()
            Image.fromarray(np.asarray(image)).save(png, format="PNG")
            file_name = f"{step:08d}_{name.replace('/', '_')}.png"
            write_whole(self._workdir / "images" / file_name, png.getvalue())
        with self._writing_events():
            self._tensorboard.write_images(step, images)
            self._tensorboard.flush()

    @contextlib.contextmanager
    def _writing_events(self) -> Iterator[None]:
        """Makes an OSError of TensorFlow's own for a full disk."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).partition(" [Op:")[0].split())
            raise OSError(f"{self._workdir / 'tensorboard'} cannot be written: {reason}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._writes:
            with self._writing_events():
                self._tensorboard.close()


class Window:
    """Averages metrics and times the loop between two lines of the log.

    Args:
        batch_size: Examples a step, over all processes.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._reset()

    def _reset(self):
        self._sums = {}
        self._steps = 0
        self._waited = 0.0
        self._on_devices = 0.0
        self._started = time.perf_counter()

    def __len__(self) -> int:
        return self._steps

    def add(self, metrics: dict[str, float]) -> None:
        """Adds one step's metrics, a dict of floats."""
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
        """The share of the time so far in which this process did not wait for its devices."""
        return 1.0 - self._on_devices / (time.perf_counter() - self._started)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves the time inside out of the count: drawing figures is not training."""
        started = time.perf_counter()
        yield
        self._started += time.perf_counter() - started

    def close(self) -> dict[str, float]:
        """Ends the window and begins the next.

        Returns:
            Dict of floats: the means of the metrics in the order in which they came, then
            `speed/clips_per_second`, `speed/seconds_per_step` and `speed/data_wait`, the share of
            the time spent waiting for data.
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
    """Says in one line how far a run is and how it does.

    Args:
        step: Steps done.
        total_steps: Steps of the whole run.
        metrics: Dict of floats, from `Window.close`; the loss terms come first and end with their
            `total`.
        steps_per_epoch: A float or None.

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
    left = round((total_steps - step) * metrics["speed/seconds_per_step"])
    rate = metrics["speed/clips_per_second"]
    speed = (
        f"{rate:.{2 if rate < 10 else 0}f} clips/s, "
        f"data wait {metrics['speed/data_wait']:.0%}, "
        f"ETA {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    )
    return " | ".join(part for part in (done, losses, probe and f"probe {probe}", speed) if part)


def drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Cuts a file of JSON lines back to a step, and torn lines with it.

    Args:
        path: Of the file; nothing happens where there is none.
        step: Lines whose `step` is larger are dropped.
    """
    if not path.exists():
        return
    kept, damaged = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        # A kill or a crash leaves a line in pieces, which may be a number, or hold no step.
        read = read_line(line) if line.endswith(b"\n") else None
        damaged += read is None
        if read is not None and read[0] <= step:
            kept.append(line)
    if damaged:
        print(f"{path}: {damaged} lines cannot be read and are dropped", flush=True)
    write_whole(path, b"".join(kept))


def read_line(line: bytes) -> tuple[int, dict[str, float]] | None:
    """Reads a line of `metrics.jsonl`.

    Args:
        line: As `Telemetry.scalars` wrote it, or what a kill or a disk has made of it.

    Returns:
        The number of steps done and the metrics by name; None where it is no such line.
    """
    try:
        record = json.loads(line)
        step = record.pop("step")
        if type(step) is not int or not 0 <= step < 2**63:
            return None
        return step, {name: float(value) for name, value in record.items() if name != "epoch"}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Replaces a file's content such that a reader, or a kill, finds the old or the new, whole.

    Args:
        path: Of the file.
        data: Its new content.
    """
    partial = path.with_name(f".{path.name}.partial")
    with atomic.named(path):
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(path)


def _tensorboard_writer(path: pathlib.Path):
    # Here and not above: it brings in TensorFlow, without which this module must import.
    from clu import metric_writers

    return metric_writers.SummaryWriter(str(path))
