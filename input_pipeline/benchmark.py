"""Command that measures how fast batches are made, and where the time goes.

    python -m input_pipeline.benchmark --config=configs/k400.py --config.data.path=DIR --clips=2000

prints one line of JSON, which docs/data.md explains:

- `clips_per_second`: median over ten parts of the run, everything included. `per_core`: the same,
  divided by the number of threads, each of which keeps a core busy. `per_cpu_second`: clips per
  second of processor time, which is less disturbed by other programs.
- `ms_per_clip`: time of each stage alone, on one thread. read: the stored bytes. decode: frames and
  sound (for media files, reading included). views: all crops. log_mel: all log-mels.
- `peak_rss_mb` and `rss_growth_mb`: peak memory, and memory at the end minus memory after the first
  tenth.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import contextlib
import json
import pathlib
import platform
import resource
import sys
import time
from collections.abc import Callable

import ml_collections
import numpy as np
from absl import flags, logging

from input_pipeline import cores
from input_pipeline.programs import config_flag, program, progress

_PARTS = 10  # parts of the run; the result is the median of their rates
_BATCH_SIZE = 32  # largest batch, so that a part has several batches and memory stays small
_STAGE_CLIPS = 32  # clips kept in memory to measure the stages with
_STAGE_SECONDS = 1.0  # shortest measurement of a stage


def benchmark(config: ml_collections.ConfigDict, clips: int, threads: int) -> dict[str, object]:
    """Makes batches as training does, then measures each stage alone.

    Args:
        config: Config of the run.
        clips: Number of clips to make.
        threads: Number of threads that decode and make views.

    Returns:
        The values that the module's docstring lists, ready for JSON.

    Raises:
        ValueError, FileNotFoundError: The data cannot be used as the config says.
    """
    # Imported here, so that a wrong flag is reported before TensorFlow has loaded.
    from input_pipeline import datasets

    with contextlib.redirect_stdout(sys.stderr):
        source = datasets.open_dataset(config.data, config.views, picture=False)
    result = {
        "dataset": config.data.dataset,
        "recordings": len(source),
        "cpu": _cpu_model(),
        "cores": cores.count(),
        "threads": threads,
        **_measure_loader(source, config, clips, threads),
        "ms_per_clip": _measure_stages(source, config),
    }
    return result


def _measure_loader(
    source: object, config: ml_collections.ConfigDict, clips: int, threads: int
) -> dict[str, object]:
    """Measures the rates and the memory of the loader."""
    from input_pipeline import data_folders, example_order, loader

    sets = [*data_folders.members(config.data, source).values()]
    weights = data_folders.weights(config.data, [*map(len, sets)])
    batch_size = min(config.batch_size, _BATCH_SIZE, max(1, clips // _PARTS))
    batches = loader.Loader(
        source,
        config.views,
        batch_size,
        config.seed,
        threads=threads,
        prefetch=1,
        order=example_order.MixedOrder(sets, weights),
    ).batches()
    part = -(-clips // (_PARTS * batch_size))  # batches
    walls, processors, memory = [], [], []
    with contextlib.closing(batches):
        for _ in range(3):  # skip tracing, the first reads and prefetched batches
            next(batches)
        bar = progress.bar("making clips", _PARTS * part * batch_size, "clip")
        for _ in range(_PARTS):
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(part):
                next(batches)
                bar.update(batch_size)
            walls.append(time.perf_counter() - wall)
            processors.append(time.process_time() - processor)
            memory.append(_rss_mb())
        bar.close()
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


def _measure_stages(source: object, config: ml_collections.ConfigDict) -> dict[str, float]:
    """Measures the milliseconds per clip of each stage, with its inputs in memory."""
    import tensorflow as tf

    from input_pipeline import reading, views
    from input_pipeline.sources import NativeSource

    view_config = config.views
    indices = np.arange(_STAGE_CLIPS) * max(1, len(source) // _STAGE_CLIPS) % len(source)
    reader = reading.ClipReader(source, view_config)
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
        return list(views.video_views(key, clip[0], view_config.video).values())

    @tf.autograph.experimental.do_not_convert
    def audio(number: tf.Tensor, clip: tuple[tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
        key = views.example_key(config.seed, 0, number)
        return list(views.audio_views(key, clip[1], view_config.audio).values())

    decoded = _enumerated(stored).map(decode).take(_STAGE_CLIPS).cache()
    return {
        "read": _timed(lambda: [fetch(int(index)) for index in indices]),
        "decode": _timed(_stage_runner(stored, decode)),
        "views": _timed(_stage_runner(decoded, video)),
        "log_mel": _timed(_stage_runner(decoded, audio)),
    }


def _enumerated(inputs: "tf.data.Dataset") -> "tf.data.Dataset":  # noqa: F821
    """Repeats and enumerates the inputs, so that each pass draws other crops."""
    return inputs.repeat().enumerate()


def _stage_runner(inputs: "tf.data.Dataset", stage: Callable) -> Callable[[], None]:  # noqa: F821
    """Returns a function that runs a stage on `_STAGE_CLIPS` inputs, kept in memory."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    outputs = _enumerated(inputs).map(stage, num_parallel_calls=1, deterministic=True)
    iterator = iter(outputs.with_options(options))

    def run() -> None:
        for _ in range(_STAGE_CLIPS):
            next(iterator)

    return run


def _timed(run: Callable[[], object]) -> float:
    """Returns the milliseconds per clip: the median over passes of `_STAGE_CLIPS` clips each."""
    run()
    times: list[float] = []
    while sum(times) < _STAGE_SECONDS or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) / _STAGE_CLIPS * 1000, 3)


def _rss_mb() -> float:
    """Returns the memory in use in MiB, or its peak so far if the system does not tell."""
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
    config = config_flag.define()
    clips = flags.DEFINE_integer("clips", 500, "Clips to make.", lower_bound=10)
    threads = flags.DEFINE_integer(
        "threads", 1, "Threads that decode and make views.", lower_bound=1
    )
    flags.mark_flag_as_required("config")

    def main() -> None:
        # Hide messages of libraries, which would bury the progress bar.
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)
        with program.errors_in_one_line():
            result = benchmark(config.value, clips.value, threads.value)
        print(json.dumps(result), flush=True)

    config_flag.run(main, __doc__, config)


if __name__ == "__main__":
    run()
