"""Writes the features of media files, one vector per file.

    python -m xkd_jax.features --checkpoint=runs/mine --input=VIDEOS --output=features.npz

--checkpoint is the workdir of a run, one of its checkpoints, or the output of
xkd_jax.interop.export or xkd_jax.interop.import_release. --input is a media file, or a folder that
is searched with all its subfolders. The output has

    names       (N,) names of the files, relative to --input
    features    (N, D) float32, in the same order
    left_out    (M, 2) names of unusable files, and the reasons
    encoder     the encoder and the settings, as JSON

    import numpy as np
    data = np.load("features.npz"); data["names"], data["features"]

Unusable files are left out, counted, and named with the reason. An interrupted run saves its
results beside the output, and the same command continues from there. The exit code is 0 if at least
one file is usable.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import argparse
import collections
import concurrent.futures
import hashlib
import itertools
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from input_pipeline import cores
from input_pipeline.files import sealed
from input_pipeline.programs import program, progress, terminal
from input_pipeline.programs.wording import counted
from xkd_jax.encoders import descriptions, pretrained_encoder
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import command_line

_SAVE_SECONDS = 60.0  # between two saves of the results so far
_SHOWN = 3  # number of files that are named for each reason


class Result(NamedTuple):
    """The result of one file.

    Attributes:
        name: Name of the file.
        stamp: Size and modification time of the file, which show whether it has changed.
        features: (D,) float32; None if the file is left out.
        reason: Why the file is left out; empty otherwise.
    """

    name: str
    stamp: str
    features: np.ndarray | None
    reason: str


def find(path: pathlib.Path, modality: str) -> tuple[pathlib.Path, list[str], list[Result]]:
    """Finds media files.

    Args:
        path: A file, or a folder that is searched with all its subfolders.
        modality: Modality to encode; "video" ignores files with the extension of a sound format.

    Returns:
        The folder; the sorted names of files relative to it; and results for subfolders that cannot
        be read.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: There are no media files.
        OSError: The folder cannot be read.
    """
    from input_pipeline.datasets import listing, source_files

    if path.is_file():
        return path.parent, [path.name], []
    if not path.is_dir():
        raise FileNotFoundError(f"--input={path}: no such file or folder")
    extensions = source_files.VIDEO_EXTENSIONS
    if modality == "audio":
        extensions |= source_files.SOUND_EXTENSIONS
    files = source_files.find_files(path, extensions)
    if not files.media:
        raise ValueError(
            f"--input={path} has no media files; allowed: {', '.join(sorted(extensions))}"
        )
    closed = [Result(name, "", None, listing.UNREADABLE_FOLDER) for name in files.unreadable]
    return path, files.media, closed


def extract(
    encoder: pretrained_encoder.PretrainedEncoder,
    root: pathlib.Path,
    names: Sequence[str],
    batch_size: int,
    windows: int = 1,
    threads: int | None = None,
) -> Iterator[Result]:
    """Encodes files while threads decode the next ones.

    Args:
        encoder: The encoder.
        root: Folder of the files.
        names: Names of the files, relative to `root`.
        batch_size: Number of files that are encoded together.
        windows: Number of views of each file whose features are averaged.
        threads: Number of threads that decode; None: one per core.

    Yields:
        A result for each file, in the order of `names`.
    """
    with concurrent.futures.ThreadPoolExecutor(threads or cores.count()) as pool:

        def submit(name: str) -> concurrent.futures.Future:
            return pool.submit(_decode, encoder, root / name, windows)

        remaining = iter(names)
        decoded = collections.deque(
            (name, submit(name)) for name in itertools.islice(remaining, 2 * batch_size)
        )
        try:
            while decoded:
                batch = [decoded.popleft() for _ in range(min(batch_size, len(decoded)))]
                loaded = [(name, *future.result()) for name, future in batch]
                following = itertools.islice(remaining, batch_size)
                decoded.extend((name, submit(name)) for name in following)
                rows = encoder.encode_views(view for _, _, views, _ in loaded for view in views)
                vectors = iter(rows.reshape(-1, windows, rows.shape[-1]).mean(axis=1))
                for name, stamp, views, reason in loaded:
                    yield Result(name, stamp, next(vectors) if views else None, reason)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(
    encoder: pretrained_encoder.PretrainedEncoder, path: pathlib.Path, windows: int
) -> tuple[str, list[np.ndarray], str]:
    """Returns a file's stamp, its views, and the reason if there are no views."""
    from input_pipeline.media import reader

    try:
        return _stamp(path), encoder.views(path, windows=windows), ""
    except reader.MediaError as error:
        return _stamp(path), [], error.reason


def _stamp(path: pathlib.Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def identity(encoder: pretrained_encoder.PretrainedEncoder, windows: int) -> str:
    """Computes a digest of everything that features depend on, except the files."""
    digest = hashlib.sha256(
        json.dumps([encoder.modality, encoder.sizes, windows, encoder.description]).encode()
    )
    for leaf in jax.tree.leaves(encoder.params):
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def write(path: pathlib.Path, results: Sequence[Result], **entries: str) -> None:
    """Writes results, with further entries, to a file that is replaced as a whole."""
    used = [result for result in results if result.features is not None]
    left_out = [(result.name, result.reason) for result in results if result.features is None]
    arrays = {
        "names": np.array([result.name for result in used], str),
        "features": np.array([result.features for result in used], np.float32),
        "left_out": np.array(left_out, str).reshape(-1, 2),
    }
    sealed.save_arrays(path, arrays | entries)


def _write_partial(path: pathlib.Path, results: Sequence[Result], key: str) -> None:
    stamps = {result.name: result.stamp for result in results}
    write(path, results, key=key, stamps=json.dumps(stamps))


def _read_partial(path: pathlib.Path, key: str) -> dict[str, Result]:
    """Reads the results, by name, of an interrupted run of the same encoder; empty if none."""
    try:
        saved = sealed.load_arrays(path)
        if str(saved["key"]) != key:
            return {}
        stamps = json.loads(str(saved["stamps"]))
        rows = zip(saved["names"].tolist(), saved["features"], strict=True)
        results = [Result(name, stamps[name], row, "") for name, row in rows]
        left_out = saved["left_out"].tolist()
        results += [Result(name, stamps[name], None, reason) for name, reason in left_out]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{error}: the work of the interrupted run is done again", flush=True)
        return {}
    return {result.name: result for result in results}


def report(results: Sequence[Result]) -> list[str]:
    """Formats lines that count the files that are left out, for each reason."""
    reasons = collections.defaultdict(list)
    for result in results:
        if result.features is None:
            reasons[result.reason].append(terminal.printable(result.name))
    lines = []
    for reason, names in sorted(reasons.items()):
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"left out, {reason}: {len(names)} ({', '.join(names[:_SHOWN])}{more})")
    return lines


def run(flags: argparse.Namespace) -> None:
    """Runs the command line."""
    root, names, left_out = find(pathlib.Path(flags.input), flags.modality)
    output = pathlib.Path(flags.output)
    command_line.check_output(output)
    encoder = pretrained_encoder.load_encoder(
        flags.checkpoint, flags.modality, flags.network, batch_size=flags.batch_size
    )
    partial = output.with_name(f".{output.name}.partial")
    key = identity(encoder, flags.windows)
    done = {
        name: result
        for name, result in _read_partial(partial, key).items()
        if result.stamp and result.stamp == _stamp(root / name)
    }
    results = [done[name] for name in names if name in done]
    if results:
        print(f"going on from {counted(len(results), 'file')} of an interrupted run")
    saved = time.monotonic()
    remaining = [name for name in names if name not in done]
    bar = progress.bar("encoding", len(names), "file", done=len(results))
    try:
        for result in extract(
            encoder, root, remaining, flags.batch_size, flags.windows, flags.threads
        ):
            results.append(result)
            bar.update()
            if time.monotonic() - saved > _SAVE_SECONDS:
                _write_partial(partial, results, key)
                saved = time.monotonic()
    except BaseException:
        if results:
            _write_partial(partial, results, key)
        raise
    finally:
        bar.close()

    places = {name: place for place, name in enumerate(names)}
    results.sort(key=lambda result: places[result.name])
    results += left_out
    used = sum(result.features is not None for result in results)
    if used:
        made_by = {
            "modality": encoder.modality,
            "network": encoder.network,
            "windows": flags.windows,
            **encoder.description,
        }
        write(output, results, encoder=json.dumps(made_by))
        partial.unlink(missing_ok=True)
    for line in report(results):
        print(line)
    if not used:
        raise ValueError(
            f"none of {counted(len(names), 'file')} of --input={flags.input} is usable"
        )
    print(f"{output}: {used} x {encoder.sizes.width} features of {flags.modality}")


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and runs it; reports errors in one line."""
    parser = program.Parser("xkd_jax.features", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="run, checkpoint or exported encoder")
    add("--input", required=True, metavar="PATH", help="media file, or folder of media files")
    add("--output", required=True, metavar="FILE.npz", help="file to write")
    add("--modality", choices=MODALITIES, default="video", help="modality to encode (video)")
    add(
        "--network",
        choices=tuple(descriptions.NETWORKS),
        default="teacher",
        help="network to encode with (teacher)",
    )
    add("--batch_size", type=program.count, default=16, metavar="N", help="files per batch (16)")
    add(
        "--windows",
        type=program.count,
        default=1,
        metavar="N",
        help="views of a file to average over, evenly from beginning to end (1: the middle)",
    )
    add("--threads", type=program.count, metavar="N", help="threads that decode (one per core)")
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    command_line.keep_compiled_programs()
    with program.errors_in_one_line():
        run(flags)


if __name__ == "__main__":
    main()
