"""The clips that a report measures on: from the data of a run, or from any media files.

From a run's data, the clips are drawn evenly from the classes. They come from the held-out part if
the data have one. Recordings without a picture are left out if others have one.
"""

import concurrent.futures
import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from input_pipeline import cores
from input_pipeline.programs.terminal import printable
from input_pipeline.programs.wording import counted
from xkd_jax.encoders import preprocessing
from xkd_jax.method.models.xkd import MODALITIES


class Clips(NamedTuple):
    """The global views of n clips.

    Attributes:
        views: Views by modality: `video` (n, T, H, W, 3) uint8, `audio` (n, F, W) float32
            normalized log-mels. May lack a modality.
        names: Printable names of the recordings.
        labels: (n,) int64, indices into `class_names`; None if clips have no or several labels.
        class_names: Names of the classes, by index.
        has_sound: (n,) bool.
        origin: Description of where the clips come from.
        left_out: Names of files that were not used, each with the reason.
    """

    views: dict[str, np.ndarray]
    names: list[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    has_sound: np.ndarray
    origin: str
    left_out: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.names)


def of_run(config: ml_collections.ConfigDict, count: int, seed: int = 0) -> Clips:
    """Reads the middle clip of some recordings of a run's data.

    Args:
        config: Config of the run.
        count: Largest number of clips.
        seed: Seed of the choice of recordings.

    Returns:
        The clips, without those that cannot be read.

    Raises:
        ValueError: The data cannot be read.
        FileNotFoundError: The data are not where `config.data.path` says.
    """
    # Imported here because these import TensorFlow and scikit-learn.
    from input_pipeline import datasets, evaluation
    from xkd_jax.config.checks import ConfigError
    from xkd_jax.downstream import extraction, online

    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.threads = 0
        # A report does not generate data: it must not fill a disk.
        if config.data.dataset == "generated" and not os.path.isdir(config.data.path):
            raise FileNotFoundError(f"config.data.path={config.data.path}: no such folder")
    try:
        data = online.open_data(config)
    except ConfigError:  # the data have no labels or cannot be split
        source = datasets.open_dataset(config.data, config.views, picture=False)
        ids = np.flatnonzero(source.has_video if source.has_video.any() else source.has_audio)
        ids = ids[np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).astype(np.int64))]
        labels, class_names, origin = None, (), f"{len(ids)} of the run's own training clips"
    else:
        held_out, use = online.find_held_out(config, data)
        recordings = online.choose(held_out, count, seed)
        source, ids, class_names = recordings.source, recordings.example_ids, data.class_names
        labels = None if data.multi_label else recordings.targets.argmax(axis=1)
        origin = f"{counted(len(ids), 'clip')} of the run's data, "
        if data.partitions[0].name == "random":
            origin += "which it may have been trained on"
        else:
            origin += f"of their {use} split, which it was not trained on"
    modalities = MODALITIES if source.has_video[ids].any() else ("audio",)
    loader = evaluation.EvaluationClips(
        source, config.views, 16, modalities=modalities, example_ids=ids
    )
    views: dict[str, list[np.ndarray]] = {m: [] for m in modalities}
    used, has_sound = [], []
    with contextlib.closing(loader.batches()) as batches:
        for batch in extraction.mark_replaced(batches, source):
            rows = batch["valid"]
            for m in modalities:
                views[m].append(batch[m][rows, 0] if m == "video" else batch[m][rows])
            used.append(~batch["replaced"][rows])
            has_sound.append(batch["has_audio"][rows])
    good = np.concatenate(used)
    return Clips(
        {m: np.concatenate(parts)[good] for m, parts in views.items()},
        [source.name(int(n)) for n in ids[good]],
        None if labels is None else labels[good],
        class_names,
        np.concatenate(has_sound)[good],
        origin,
        sorted(source.failed.items()),
    )


def of_files(
    inputs: Sequence[str | os.PathLike],
    views: Mapping[str, Mapping[str, Any]],
    count: int,
    advance: Callable[[int], object] = lambda count: None,
) -> Clips:
    """Reads the middle clip of media files; several folders of files are classes.

    Args:
        inputs: Files, and folders that are searched recursively.
        views: "preprocessing" of a description of weights, for the modalities to read.
        count: Largest number of files; they are chosen evenly from all.
        advance: Called with the number of files just read.

    Returns:
        The clips of the usable files, and the names of the others.

    Raises:
        FileNotFoundError: One of the paths does not exist.
        ValueError: No file is usable.
    """
    from input_pipeline.media.reader import MediaError

    paths, left_out = _find(inputs, "video" in views)
    paths = [paths[n] for n in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]
    usable, rows = [], []
    with concurrent.futures.ThreadPoolExecutor(cores.count()) as pool:
        jobs = [pool.submit(_read, path, views) for path in paths]
        for path, job in zip(paths, jobs, strict=True):
            try:
                rows.append(job.result())
                usable.append(path)
            except MediaError as error:
                left_out.append((printable(str(path)), error.reason))
            advance(1)
    if not usable:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise ValueError(f"--input: none of {counted(len(paths), 'file')} is usable ({reasons})")
    folders = [printable(path.parent.name) for path in usable]
    class_names = tuple(sorted(set(folders)))
    labels = np.array([class_names.index(folder) for folder in folders])
    labeled = 1 < len(class_names) < len(usable)
    return Clips(
        {m: np.stack([clip[m] for clip, _ in rows]) for m in views},
        [printable(str(path)) for path in usable],
        labels if labeled else None,
        class_names if labeled else (),
        np.array([sound for _, sound in rows]),
        f"{len(usable)} of the files given with --input",
        left_out,
    )


def _find(
    inputs: Sequence[str | os.PathLike], picture: bool
) -> tuple[list[pathlib.Path], list[tuple[str, str]]]:
    """Lists the media files, and the files and folders that are left out with the reason."""
    from xkd_jax import recordings

    paths, left_out = [], []
    for path in map(pathlib.Path, inputs):
        root, names, closed = recordings.find(path, "video" if picture else "audio")
        paths += [root / name for name in names]
        left_out += [(printable(str(root / result.name)), result.reason) for result in closed]
    return paths, left_out


def _read(
    path: pathlib.Path, views: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the views of a file's middle clip (silence if it has no sound), and if it has sound."""
    from input_pipeline.media import reader

    clip, has_sound = {}, reader.measure(path).has_audio
    if "video" in views:
        [clip["video"]] = preprocessing.video_views_of_file(path, views["video"], (0.5,))
    if "audio" in views and has_sound:
        [clip["audio"]] = preprocessing.audio_views_of_file(path, views["audio"], (0.5,))
    elif "audio" in views:
        audio = views["audio"]
        silence = np.zeros(round(audio["seconds"] * audio["sample_rate"]), np.float32)
        clip["audio"] = preprocessing.log_mel(silence, audio)
    return clip, has_sound
