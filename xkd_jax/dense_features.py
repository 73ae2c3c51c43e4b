"""Writes the features of media files in time, one archive or table for each file.

Each is written whole, as soon as its file is encoded. An interrupted run therefore goes on
with the files that have none, and memory holds one file's features.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import numpy as np

from input_pipeline import cores
from input_pipeline.programs import progress, terminal
from input_pipeline.programs.wording import counted
from xkd_jax import feature_files, recordings
from xkd_jax.encoders import arguments, dense, pretrained_encoder
from xkd_jax.run import command_line

if TYPE_CHECKING:  # needs PyAV
    from input_pipeline.media import reader

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")

Encoders = Mapping[str, pretrained_encoder.PretrainedEncoder]  # by modality


class Settings(NamedTuple):
    """What is computed of every file.

    Attributes:
        stride: Seconds from a view to the next one.
        layers: Numbers of the layers by modality. With one of them, features have no axis of
            layers.
        batch_size: Number of views that are decoded and encoded together.
        threads: Number of threads that decode.
    """

    stride: float
    layers: Mapping[str, tuple[int, ...]]
    batch_size: int
    threads: int


class Encoded(NamedTuple):
    """What came of one file.

    Attributes:
        name: Name of the file.
        arrays: (T, L, D) float32 features by modality, or (T, D) for one layer, and (T,) float64
            times by names such as "video_times"; without modalities that are left out.
        left_out: Reasons by modality that is left out.
    """

    name: str
    arrays: dict[str, np.ndarray]
    left_out: dict[str, str]


class _Part(NamedTuple):
    """Some views of one modality of a file, to be decoded together; or why there are none."""

    name: str
    modality: str = ""  # empty at the file's end
    info: "reader.MediaInfo | None" = None
    starts: np.ndarray | None = None
    reason: str = ""


def encode(
    encoders: Encoders,
    root: pathlib.Path,
    names: Iterable[str],
    settings: Settings,
    advance: Callable[[str], object] = lambda place: None,
) -> Iterator[Encoded]:
    """Encodes files in time while threads decode what comes next.

    Args:
        encoders: Encoders by modality.
        root: Folder of the files.
        names: Names of the files, relative to `root`.
        settings: What to compute.
        advance: Called with the place in the file before each batch, for files that take long.

    Yields:
        What came of each file, in the order of `names`.
    """
    from input_pipeline.media import reader

    def measure(name: str) -> "reader.MediaInfo | str":
        try:
            return reader.measure(root / name)
        except reader.MediaError as error:
            return error.reason

    def decode(part: _Part) -> list[np.ndarray] | str:
        if part.starts is None:
            return part.reason
        try:
            return dense.views(encoders[part.modality], root / part.name, part.info, part.starts)
        except reader.MediaError as error:
            return error.reason

    def parts() -> Iterator[_Part]:
        for name, info in _ahead(pool, measure, names, settings.threads):
            for m, encoder in encoders.items():
                if isinstance(info, str):
                    yield _Part(name, m, reason=info)
                    continue
                starts = dense.starts_of_views(encoder, info, settings.stride)
                for some in dense.batches(starts, settings.batch_size):
                    yield _Part(name, m, info, some)
            yield _Part(name)

    with concurrent.futures.ThreadPoolExecutor(settings.threads) as pool:
        try:
            rows, times, left_out = _lists(encoders), _lists(encoders), {}
            for part, views in _ahead(pool, decode, parts(), settings.threads):
                m = part.modality
                if not m:
                    yield Encoded(part.name, _arrays(rows, times, left_out), left_out)
                    rows, times, left_out = _lists(encoders), _lists(encoders), {}
                elif isinstance(views, str):
                    left_out[m] = left_out.get(m, views)
                elif m not in left_out:
                    advance(f"{terminal.printable(part.name)}, {m} at {part.starts[0]:.0f} s")
                    rows[m].append(encoders[m].encode_views(views, layers=settings.layers[m]))
                    times[m].append(dense.middles(encoders[m], part.info, part.starts))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _lists(encoders: Encoders) -> dict[str, list[np.ndarray]]:
    return {m: [] for m in encoders}


def _arrays(
    rows: Mapping[str, list[np.ndarray]],
    times: Mapping[str, list[np.ndarray]],
    left_out: Mapping[str, str],
) -> dict[str, np.ndarray]:
    arrays = {}
    for m in rows:
        if m not in left_out:
            features = np.concatenate(rows[m])
            arrays[m] = features[:, 0] if features.shape[1] == 1 else features
            arrays[f"{m}_times"] = np.concatenate(times[m])
    return arrays


def _ahead(
    pool: concurrent.futures.Executor,
    function: Callable[[_Item], _Value],
    items: Iterable[_Item],
    count: int,
) -> Iterator[tuple[_Item, _Value]]:
    """Yields items with the function's values, of which threads compute up to `count` ahead."""
    waiting: collections.deque[tuple[_Item, concurrent.futures.Future]] = collections.deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > count:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def identity(encoders: Encoders, settings: Settings) -> str:
    """Computes a digest of everything that features depend on, except the files."""
    digest = hashlib.sha256(json.dumps([settings.stride, settings.layers]).encode())
    for m, encoder in encoders.items():
        digest.update(json.dumps([m, encoder.sizes, encoder.description]).encode())
        for leaf in jax.tree.leaves(encoder.params):
            digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads an archive of features, as `np.load` does, or a table, and checks that it is undamaged.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged.
    """
    return feature_files.load_in_time(path)


def _reasons(path: pathlib.Path, key: str, stamp: str) -> dict[str, str] | None:
    """Returns which modalities a file leaves out; None if it has to be written (again)."""
    try:
        archive = read(path)
        if stamp and (str(archive["key"]), str(archive["stamp"])) == (key, stamp):
            return dict(archive["left_out"].tolist())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        print(f"{error}: it is written again", flush=True)
    return None


def run(flags: argparse.Namespace, modalities: Sequence[str]) -> None:
    """Runs the command line, whose --stride is given.

    Args:
        flags: Flags of `xkd_jax.features`.
        modalities: Modalities to encode.
    """
    stride = arguments.number("--stride", flags.stride, dense.STRIDES, "seconds")
    media = "audio" if "audio" in modalities else "video"
    root, names, closed = recordings.find(pathlib.Path(flags.input), media)
    output = pathlib.Path(flags.output)
    form = flags.format or feature_files.FORMATS[0]
    if output.suffix.removeprefix(".") in feature_files.FORMATS:
        raise ValueError(
            f"--output={output}; allowed with --stride: a folder, and the format as --format="
            f"{'|'.join(feature_files.FORMATS)}"
        )
    command_line.check_output(output, f"{names[0]}.{form}")
    encoders = {
        m: pretrained_encoder.load_encoder(
            flags.checkpoint, m, flags.network, batch_size=flags.batch_size
        )
        for m in modalities
    }
    depths = {m: encoder.module.depth for m, encoder in encoders.items()}
    layers = {m: arguments.layers("--layers", flags.layers, depth) for m, depth in depths.items()}
    settings = Settings(stride, layers, flags.batch_size, flags.threads or cores.count())
    key = identity(encoders, settings)
    if jax.local_device_count() > 1:
        for encoder in encoders.values():
            encoder.use_devices(jax.local_devices())

    stamps = {name: recordings.stamp(root / name) for name in names}
    paths = {name: output / f"{name}.{form}" for name in names}
    found = {name: _reasons(path, key, stamps[name]) for name, path in paths.items()}
    done = {name: reasons for name, reasons in found.items() if reasons is not None}
    if done:
        print(f"going on from {counted(len(done), 'file')} of an interrupted run")
    stale = sum(name not in done and path.exists() for name, path in paths.items())
    if stale:
        kind = "archive" if form == "npz" else "table"
        print(f"{counted(stale, kind)} of other settings or files: written again")
    made_by = json.dumps(
        {
            "network": flags.network,
            "stride": stride,
            "layers": layers,
            "encoders": {m: encoder.description for m, encoder in encoders.items()},
        }
    )
    bar = progress.bar("encoding", len(names), "file", done=len(done))
    try:
        remaining = [name for name in names if name not in done]
        for encoded in encode(encoders, root, remaining, settings, bar.set_postfix_str):
            path = paths[encoded.name]
            if not encoded.arrays:
                path.unlink(missing_ok=True)  # of other settings or of another file
            else:
                entries = {
                    "left_out": np.array(list(encoded.left_out.items()), str).reshape(-1, 2),
                    "encoder": made_by,
                    "key": key,
                    "stamp": stamps[encoded.name],
                }
                path.parent.mkdir(parents=True, exist_ok=True)
                feature_files.save_in_time(path, encoded.arrays | entries)
            done[encoded.name] = encoded.left_out
            bar.update()
    finally:
        bar.close()
    _tell(output, done, closed, modalities)
    if all(len(reasons) == len(modalities) for reasons in done.values()):
        raise ValueError(
            f"none of {counted(len(names), 'file')} of --input={flags.input} is usable"
        )


def _tell(
    output: pathlib.Path,
    done: Mapping[str, Mapping[str, str]],
    closed: Sequence[recordings.Result],
    modalities: Sequence[str],
) -> None:
    """Prints how many files are left out, for each reason, and how many are encoded."""
    left_out = [
        recordings.Result(name, "", None, f"{m}: {reason}" if len(modalities) > 1 else reason)
        for name, reasons in done.items()
        for m, reason in reasons.items()
    ]
    for line in recordings.report([*left_out, *closed]):
        print(line)
    for m in modalities:
        count = sum(m not in reasons for reasons in done.values())
        print(f"{output}: {m} of {counted(count, 'file')}")
