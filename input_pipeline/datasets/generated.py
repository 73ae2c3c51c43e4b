"""Built-in data: real MP4 files of shapes whose movements are heard.

What they show and sound is in shapes.py.

    python -m input_pipeline.datasets.generated --output=DIR --train=512 --val=128 --test=128

writes `DIR/{train,val,test}/<class>/<number>.mp4`, which the folder source reads.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline.programs import program

    program.start()

import concurrent.futures
import concurrent.futures.process
import contextlib
import fractions
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import av
import ml_collections

from input_pipeline import cores
from input_pipeline.datasets import folder, folder_source, listing, tree
from input_pipeline.datasets.shapes import (
    CLASS_NAMES,
    FRAME_RATE,
    HEIGHT,
    SAMPLE_RATE,
    SPLITS,
    WIDTH,
    render,
)
from input_pipeline.files import atomic, sealed
from input_pipeline.programs import program, progress
from input_pipeline.programs.wording import counted

_MARKER = "generated.json"  # beside the splits: which seed the files come from
_VERSION = 4  # of what a seed gives
_WORTH_A_PROCESS = 32  # clips; fewer are written before another process has started


def write_clip(path: str | os.PathLike, seed: int, split: str, index: int) -> None:
    """Writes one clip as MP4 (H.264 and AAC), whole or not at all, and the same bytes every time.

    Args:
        path: Where to; its folder exists.
        seed: See `render`.
        split: See `render`.
        index: See `render`.
    """
    path = pathlib.Path(path)
    frames, waveform, _ = render(seed, split, index)
    # Hidden, so that what an interruption leaves behind is no clip.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with av.open(draft, "w", format="mp4", options={"fflags": "bitexact"}) as container:
        video = container.add_stream(
            "libx264",
            rate=FRAME_RATE,
            options={"preset": "veryfast", "crf": "22", "threads": "1", "bf": "0"},
        )
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size = FRAME_RATE  # a keyframe each second, for quick seeking
        # The default way to spend the bits takes longer than all else together.
        fast = {"aac_coder": "fast"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", options=fast)
        audio.codec_context.bit_rate = 64000
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, fractions.Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
            if number % FRAME_RATE == 0:  # a second of sound beside each second of picture
                start = number // FRAME_RATE * SAMPLE_RATE
                samples = waveform[None, start : start + SAMPLE_RATE]
                sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                sound.sample_rate, sound.pts = SAMPLE_RATE, start
                container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    os.replace(draft, path)


def generate(
    output: str | os.PathLike, train: int, test: int, seed: int, processes: int = 0, val: int = 0
) -> None:
    """Writes a data set, or what is missing of it.

    Args:
        output: Folder of the splits; made if it is not there.
        train: Number of clips of the train split.
        test: Number of clips of the test split.
        seed: Not negative; clips of one index differ between seeds.
        processes: Largest number of processes that write clips; 0: one a core.
        val: Number of clips of the val split, which is there to choose on.

    Raises:
        ValueError: The folder holds clips of another seed, or other files than these.
        OSError: A clip cannot be written, or a process that writes clips was killed.
    """
    output = pathlib.Path(output)
    wanted = {
        output / split / CLASS_NAMES[index % len(CLASS_NAMES)] / f"{index:05d}.mp4": (split, index)
        for split, count in zip(SPLITS, (train, test, val), strict=True)
        for index in range(count)
    }
    present = {path for split in SPLITS for path in output.glob(f"{split}/**/*.mp4")}
    marker = output / _MARKER
    origin = {"version": _VERSION, "seed": seed}
    found = sealed.load_json(marker) if marker.exists() else None
    if present and found != origin:
        raise ValueError(
            f"config.data.path is {str(output)!r}, whose files are from {found or 'elsewhere'}; "
            f"allowed: an empty folder, or one generated with {origin}"
        )
    if present - wanted.keys():
        raise ValueError(
            f"config.data.generated asks for {counted(len(wanted), 'clip')}, but "
            f"{str(output)!r} holds {len(present - wanted.keys())} beyond these; allowed: at "
            "least as many as are there, or another config.data.path"
        )
    missing = [path for path in wanted if path not in present]
    if not missing:
        return
    for parent in {path.parent for path in missing}:
        parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(marker, json.dumps(origin))
    jobs = [(path, seed, *wanted[path]) for path in missing]
    workers = min(processes or cores.count(), math.ceil(len(jobs) / _WORTH_A_PROCESS))
    with _writing(jobs, workers) as done:
        for _ in progress.bar("generating clips", len(jobs), "clip", done):
            pass


@contextlib.contextmanager
def _writing(jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Iterator[Any]]:
    """Writes a clip with each job, arguments of `write_clip`, as the given iterator is advanced."""
    if workers == 1:
        yield itertools.starmap(write_clip, jobs)
        return
    # Processes, since Python draws the pictures: 16 threads were slower than two.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _begin_worker)
    try:
        futures = [pool.submit(write_clip, *job) for job in jobs]
        yield (future.result() for future in concurrent.futures.as_completed(futures))
    except concurrent.futures.process.BrokenProcessPool:
        raise OSError(
            "a process that writes clips was killed; there may be too little memory for so many. "
            "What is written stays, and the same call goes on"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leaves Ctrl-C to the process that started this one, and ends with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the clips in a folder for `prepare`; where there are none, makes the usual number.

    Args:
        root: The folder, made if it is not there.

    Returns:
        Splits train and test.

    Raises:
        ValueError: The folder holds other files than generated clips.
    """
    if not (root / _MARKER).exists():
        generate(root, train=512, test=128, seed=0)
    return tree.recordings(root)


def open_generated(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict
) -> folder_source.FolderSource:
    """Opens the generated clips in `data.path`, after making those that are not yet there.

    Args:
        data: `data` section of the config (xkd_jax/config/pretraining.py). An empty
            `data.split` means "train".
        views: Its `views` section.

    Returns:
        The source.

    Raises:
        ValueError: The folder holds something else, or a field is not allowed.
    """
    counts = data.generated
    if not data.path:
        raise ValueError("config.data.path is ''; allowed: a folder to make the clips in")
    for name in (*SPLITS, "seed"):
        if counts[name] < 0:
            raise ValueError(f"config.data.generated.{name} is {counts[name]}; allowed: 0 or more")
    splits = [split for split in SPLITS if counts[split]]
    if (data.split or "train") not in splits:
        raise ValueError(
            f"config.data.split is {data.split!r}; allowed: {', '.join(map(repr, splits))}"
        )
    path = os.path.expanduser(data.path)
    generate(path, counts.train, counts.test, counts.seed, data.threads, counts.val)
    data = data.copy_and_resolve_references()
    data.split = data.split or "train"
    return folder.open_folder(data, views)


def main() -> None:
    """Writes a data set as the command line says."""
    parser = program.Parser("input_pipeline.datasets.generated", __doc__)
    parser.add_argument("--output", required=True, help="folder of the splits, made if need be")
    parser.add_argument(
        "--train", type=program.whole, default=512, help="clips of the train split (512)"
    )
    parser.add_argument(
        "--test", type=program.whole, default=128, help="clips of the test split (128)"
    )
    parser.add_argument("--val", type=program.whole, default=0, help="clips of the val split (0)")
    parser.add_argument("--seed", type=program.whole, default=0, help="of all that is random (0)")
    parser.add_argument(
        "--processes", type=program.whole, default=0, help="at once (0: one a core)"
    )
    flags = parser.parse_args()
    with program.errors_in_one_line():
        generate(flags.output, flags.train, flags.test, flags.seed, flags.processes, flags.val)
    print(
        f"{flags.output}: {counted(flags.train, 'clip')} to train on, {flags.val} to choose on, "
        f"{flags.test} to test on"
    )


if __name__ == "__main__":
    main()
