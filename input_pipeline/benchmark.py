"""Measures how fast batches are made, and where the time goes.

    python -m input_pipeline.benchmark --config=configs/k400.py --config.data.path=DIR --clips=2000

prints one line of JSON, which docs/data.md says how to read:

- `clips_per_second`: the median over ten parts of the run, everything included; `per_core`: over
  the threads, of which each keeps a core busy; `per_cpu_second`: by the processor time that was
  used, which what else runs on the machine disturbs less.
- `ms_per_clip`: of each stage by itself on one thread. read: the stored bytes; decode: frames and
  sound (of media files, reading them included); views: all crops; log_mel: all log-mels.
- `peak_rss_mb`, and `rss_growth_mb`: memory at the end above that after the first tenth.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline import program

    program.start()

import contextlib
import json
import os
import pathlib
import platform
import resource
import sys
import time
from collections.abc import Callable

import ml_collections
import numpy as np
import tqdm
from absl import app, flags, logging
from ml_collections import config_flags

_PARTS = 10  # of the run, of whose rates the median is told
_BATCH_SIZE = 32  # at most, for parts to be of several batches; larger ones take more memory
_STAGE_CLIPS = 32  # kept in memory to measure the stages on
_STAGE_SECONDS = 1.0  # that each stage is measured for, at least


def benchmark(config: ml_collections.ConfigDict, clips: int, threads: int) -> dict[str, object]:
    """Makes batches as training does, then runs each stage by itself.

    Args:
        config: The run's.
        clips: Number of clips to make.
        threads: Threads that decode and make views.

    Returns:
        What the module says, ready for JSON.

    Raises:
        ValueError, FileNotFoundError: The data cannot be used as the config says.
    """
    # TensorFlow takes seconds to load, which a wrong flag need not wait for.
    from input_pipeline import datasets

    with contextlib.redirect_stdout(sys.stderr):
        source = datasets.open_dataset(config.data, config.views)
    result = {
        "dataset": config.data.dataset,
        "recordings": len(source),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": threads,
        **_whole(source, config, clips, threads),
        "ms_per_clip": _stages(source, config),
    }
    return result


def _whole(
    source: object, config: ml_collections.ConfigDict, clips: int, threads: int
) -> dict[str, object]:
    """Rates and memory of the loader."""
    from input_pipeline import loader

    batch_size = min(config.batch_size, _BATCH_SIZE, max(1, clips // _PARTS))
    batches = loader.Loader(
        source, config.views, batch_size, config.seed, threads=threads, prefetch=1
    ).batches()
    part = -(-clips // (_PARTS * batch_size))  # batches
    walls, processors, memory = [], [], []
    with contextlib.closing(batches):
        for _ in range(3):  # tracing, the first reads, and what was made ahead
            next(batches)
        progress = tqdm.tqdm(total=_PARTS * part * batch_size, desc="making clips", unit="clip")
        for _ in range(_PARTS):
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(part):
                next(batches)
                progress.update(batch_size)
            walls.append(time.perf_counter() - wall)
            processors.append(time.process_time() - processor)
            memory.append(_rss_mb())
        progress.close()
    rate = part * batch_size / np.array(walls)
    return {
        "clips": _PARTS * part * batch_size,
        "batch_size": batch_size,
        "clips_per_second": round(float(np.median(rate)), 2),
        "clips_per_second_range": [round(float(rate.min()), 2), round(float(rate.max()), 2)],
        "per_core": round(float(np.median(rate)) / threads, 2),
        "per_cpu_second": round(part * batch_size / float(np.median(processors)), 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "rss_growth_mb": round(memory[-1] - memory[0], 1),
    }


def _stages(source: object, config: ml_collections.ConfigDict) -> dict[str, float]:
    """Milliseconds a clip of each stage, on what the stage before it left in memory."""
    import tensorflow as tf

    from input_pipeline import reading, views
    from input_pipeline.datasets import NativeSource

    form = config.views
    indices = np.arange(_STAGE_CLIPS) * max(1, len(source) // _STAGE_CLIPS) % len(source)
    reader = reading.ClipReader(source, form)
    if isinstance(source, NativeSource):
        fetch = source.fetch
        stored = tf.data.Dataset.from_generator(
            lambda: (fetch(int(index)) for index in indices),
            output_signature=tf.TensorSpec([], tf.string),
        )
        stored = stored.cache()

        @tf.autograph.experimental.do_not_convert
        def decode(number: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            key = views.example_key(config.seed, 0, number)
            clip = source.decode(record, views.clip_position(key), True)
            return clip.frames, clip.waveform
    else:

        def fetch(index: int) -> bytes:
            return source.path(index).read_bytes()

        stored = tf.data.Dataset.from_tensor_slices(indices)

        @tf.autograph.experimental.do_not_convert
        def decode(number: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            key = views.example_key(config.seed, 0, number)
            clip = reader(index, views.clip_position(key))
            return clip.frames, clip.waveform

    @tf.autograph.experimental.do_not_convert
    def video(number: tf.Tensor, clip: tuple[tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
        key = views.example_key(config.seed, 0, number)
        return list(views.video_views(key, clip[0], form.video).values())

    @tf.autograph.experimental.do_not_convert
    def audio(number: tf.Tensor, clip: tuple[tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
        key = views.example_key(config.seed, 0, number)
        return list(views.audio_views(key, clip[1], form.audio).values())

    decoded = _numbered(stored).map(decode).take(_STAGE_CLIPS).cache()
    return {
        "read": _timed(lambda: [fetch(int(index)) for index in indices]),
        "decode": _timed(_passes(stored, decode)),
        "views": _timed(_passes(decoded, video)),
        "log_mel": _timed(_passes(decoded, audio)),
    }


def _numbered(inputs: "tf.data.Dataset") -> "tf.data.Dataset":  # noqa: F821
    """Inputs again and again, counted: a pass draws other crops than the last."""
    return inputs.repeat().enumerate()


def _passes(inputs: "tf.data.Dataset", stage: Callable) -> Callable[[], None]:  # noqa: F821
    """What runs a stage over inputs that are kept in memory after the first pass."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    made = _numbered(inputs).map(stage, num_parallel_calls=1, deterministic=True)
    iterator = iter(made.with_options(options))

    def run() -> None:
        for _ in range(_STAGE_CLIPS):
            next(iterator)

    return run


def _timed(run: Callable[[], object]) -> float:
    """Milliseconds a clip: the median over passes of `_STAGE_CLIPS` clips each."""
    run()
    times: list[float] = []
    while sum(times) < _STAGE_SECONDS or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) / _STAGE_CLIPS * 1000, 3)


def _rss_mb() -> float:
    """Memory in use now; its peak so far where the system does not tell."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def run() -> None:
    """Runs the command line."""
    config = config_flags.DEFINE_config_file(
        "config", None, "The experiment: a file such as configs/k400.py.", lock_config=True
    )
    clips = flags.DEFINE_integer("clips", 500, "Clips to make.", lower_bound=10)
    threads = flags.DEFINE_integer(
        "threads", 1, "Threads that decode and make views.", lower_bound=1
    )
    flags.mark_flag_as_required("config")

    def main(rest: list[str]) -> None:
        if len(rest) > 1:
            raise app.UsageError(f"Unexpected argument {rest[1]!r}: all are flags.")
        # Messages of libraries would bury the progress.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)
        try:
            result = benchmark(config.value, clips.value, threads.value)
        except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
            sys.exit(f"error: {' '.join(str(error).split())}")
        print(json.dumps(result), flush=True)

    app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; a wrong one is one line and exit code 1."""
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError, flags.Error, ValueError, TypeError, OSError) as error:
        reason = error
        while isinstance(reason, Exception):  # config_flags wraps what a config says
            reason = reason.args[0] if reason.args else type(reason).__name__
        sys.exit(f"error: {' '.join(str(reason).split())}")
    path = config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]
    if not pathlib.Path(path).is_file():
        sys.exit(f"error: --config={path}: no such file; the shipped ones are in configs/")
    return rest


if __name__ == "__main__":
    run()
