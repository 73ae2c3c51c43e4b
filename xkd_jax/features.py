"""Writes the features of media files, one vector per file, or features in time.

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

An --output that ends in .parquet is a table instead, with columns `name` and `features`, and the
rest as JSON in the metadata of its schema.

With --stride, --output is a folder, and every file has an archive in it, named like the file with
.npz behind. It has the features of views that begin every so many seconds, of one modality or both:

    video, audio                (T, L, D) float32, means of patch tokens; (T, D) for one layer
    video_times, audio_times    (T,) float64 seconds, the middle of each view

--layers says which of the encoder's layers, from 1 to the last. The last layer's features are those
after the final norm, as without --stride; any other layer's are what its block hands to the next.

    python -m xkd_jax.features --checkpoint=RUN --input=DIR --output=DIR --stride=0.5 --layers=6,12

With --format=parquet, each file has a table instead of an archive. Each view is a row for each
layer, with columns `modality`, `time`, `layer` and `features`.

Unusable files are left out, counted, and named with the reason. The same command continues an
interrupted run, whose results so far are beside the output or in its folder. The exit code is 0 if
at least one file is usable.
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

import jax
import numpy as np

from input_pipeline import cores
from input_pipeline.files import sealed
from input_pipeline.programs import program, progress
from input_pipeline.programs.wording import counted
from xkd_jax import dense_features, feature_files, recordings
from xkd_jax.encoders import descriptions, pretrained_encoder
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import command_line

_SAVE_SECONDS = 60.0  # between two saves of the results so far


def extract(
    encoder: pretrained_encoder.PretrainedEncoder,
    root: pathlib.Path,
    names: Sequence[str],
    batch_size: int,
    windows: int = 1,
    threads: int | None = None,
) -> Iterator[recordings.Result]:
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
                    yield recordings.Result(name, stamp, next(vectors) if views else None, reason)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(
    encoder: pretrained_encoder.PretrainedEncoder, path: pathlib.Path, windows: int
) -> tuple[str, list[np.ndarray], str]:
    """Returns a file's stamp, its views, and the reason if there are no views."""
    from input_pipeline.media import reader

    try:
        return recordings.stamp(path), encoder.views(path, windows=windows), ""
    except reader.MediaError as error:
        return recordings.stamp(path), [], error.reason


def identity(encoder: pretrained_encoder.PretrainedEncoder, windows: int) -> str:
    """Computes a digest of everything that features depend on, except the files."""
    digest = hashlib.sha256(
        json.dumps([encoder.modality, encoder.sizes, windows, encoder.description]).encode()
    )
    for leaf in jax.tree.leaves(encoder.params):
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def _arrays(results: Sequence[recordings.Result]) -> dict[str, np.ndarray]:
    """Returns the results as arrays."""
    used = [result for result in results if result.features is not None]
    left_out = [(result.name, result.reason) for result in results if result.features is None]
    return {
        "names": np.array([result.name for result in used], str),
        "features": np.array([result.features for result in used], np.float32),
        "left_out": np.array(left_out, str).reshape(-1, 2),
    }


def _write_partial(path: pathlib.Path, results: Sequence[recordings.Result], key: str) -> None:
    stamps = {result.name: result.stamp for result in results}
    sealed.save_arrays(path, _arrays(results) | {"key": key, "stamps": json.dumps(stamps)})


def _read_partial(path: pathlib.Path, key: str) -> dict[str, recordings.Result]:
    """Reads the results, by name, of an interrupted run of the same encoder; empty if none."""
    try:
        saved = sealed.load_arrays(path)
        if str(saved["key"]) != key:
            return {}
        stamps = json.loads(str(saved["stamps"]))
        rows = zip(saved["names"].tolist(), saved["features"], strict=True)
        results = [recordings.Result(name, stamps[name], row, "") for name, row in rows]
        left_out = saved["left_out"].tolist()
        results += [
            recordings.Result(name, stamps[name], None, reason) for name, reason in left_out
        ]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{error}: the work of the interrupted run is done again", flush=True)
        return {}
    return {result.name: result for result in results}


def modalities(text: str) -> tuple[str, ...]:
    """Converts the value of --modality to the names of modalities."""
    names = MODALITIES if text == "both" else tuple(text.split(","))
    if not {*names} <= {*MODALITIES} or len({*names}) < len(names):
        raise argparse.ArgumentTypeError(f"{text}; allowed: video, audio, both")
    return names


def layers(text: str) -> tuple[int | str, ...]:
    """Converts the value of --layers to numbers; the encoder knows how many there are."""
    names = text.split(",")
    if not all(name == "last" or (name.isdecimal() and int(name)) for name in names):
        raise argparse.ArgumentTypeError(f"{text}; allowed: numbers from 1, and last")
    return tuple(name if name == "last" else int(name) for name in names)


def seconds(text: str) -> float:
    """Converts the value of --stride to a number; `dense_features` checks it."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}; allowed: seconds, such as 0.5") from None


def run(flags: argparse.Namespace) -> None:
    """Runs the command line."""
    if flags.stride is not None:
        if flags.windows != 1:
            raise ValueError(f"--windows={flags.windows} with --stride; allowed: one of the two")
        dense_features.run(flags, flags.modality)
        return
    if len(flags.modality) > 1:
        raise ValueError("--modality is both; allowed without --stride: video or audio")
    if flags.layers != ("last",):
        raise ValueError("--layers is given; allowed only with --stride")
    if flags.format:
        raise ValueError(
            f"--format is {flags.format}; allowed only with --stride; without, --output ends in it"
        )
    [flags.modality] = flags.modality
    run_by_file(flags)


def run_by_file(flags: argparse.Namespace) -> None:
    """Runs the command line without --stride: one vector for each file."""
    output = pathlib.Path(flags.output)
    feature_files.format_of(output)
    root, names, left_out = recordings.find(pathlib.Path(flags.input), flags.modality)
    command_line.check_output(output)
    encoder = pretrained_encoder.load_encoder(
        flags.checkpoint, flags.modality, flags.network, batch_size=flags.batch_size
    )
    partial = output.with_name(f".{output.name}.partial")
    key = identity(encoder, flags.windows)
    done = {
        name: result
        for name, result in _read_partial(partial, key).items()
        if result.stamp and result.stamp == recordings.stamp(root / name)
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
        arrays = _arrays(results) | {"encoder": json.dumps(made_by)}
        feature_files.save_of_files(output, arrays)
        partial.unlink(missing_ok=True)
    for line in recordings.report(results):
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
    add(
        "--output",
        required=True,
        metavar="PATH",
        help="file .npz or .parquet to write; with --stride a folder",
    )
    add(
        "--modality",
        type=modalities,
        default=("video",),
        metavar="NAME",
        help="modality to encode: video, audio, or with --stride both (video)",
    )
    add(
        "--network",
        choices=tuple(descriptions.NETWORKS),
        default="teacher",
        help="network to encode with (teacher)",
    )
    add(
        "--batch_size",
        type=program.count,
        default=16,
        metavar="N",
        help="files per batch, or views with --stride (16)",
    )
    add(
        "--windows",
        type=program.count,
        default=1,
        metavar="N",
        help="views of a file to average over, evenly from beginning to end (1: the middle)",
    )
    add("--stride", type=seconds, metavar="SECONDS", help="seconds from a view to the next one")
    add(
        "--layers",
        type=layers,
        default=("last",),
        metavar="N,N",
        help="with --stride: layers to give the features of, such as 6,12 (last)",
    )
    add(
        "--format",
        choices=feature_files.FORMATS,
        help=f"with --stride: format of the files ({feature_files.FORMATS[0]})",
    )
    add("--threads", type=program.count, metavar="N", help="threads that decode (one per core)")
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    command_line.keep_compiled_programs()
    with program.errors_in_one_line():
        run(flags)


if __name__ == "__main__":
    main()
