"""The clips that a report looks at: of the data of a run, or of any media files.

Of a run's data they are those it was not trained on, where it says which, drawn evenly from the
classes.
"""

import concurrent.futures
import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from input_pipeline.terminal import printable
from xkd_jax import preprocessing
from xkd_jax.models.xkd import MODALITIES


class Clips(NamedTuple):
    """n clips as the networks see them.

    Attributes:
        views: By modality, as far as asked for and there: `video` (n, T, H, W, 3) uint8, `audio`
            (n, F, W) float32 normalized log-mels.
        names: Of the recordings, for people.
        labels: (n,) int64, indices into `class_names`; None where there are none, or several each.
        class_names: In the order of their indices.
        has_sound: (n,) bool.
        origin: Where they come from, in words.
        left_out: Names of files that are not used, and why.
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
    """Reads the middle clips of recordings of a run's data.

    Args:
        config: Of the run.
        count: Of the clips, at most.
        seed: Of the draw.

    Raises:
        ValueError, FileNotFoundError: The data are not to be had; the message says why.
    """
    # Here and not above: it brings TensorFlow and scikit-learn in.
    from input_pipeline import datasets, evaluation
    from xkd_jax.config_check import ConfigError
    from xkd_jax.downstream import extraction, online

    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.threads = 0
        # A report must not fill a disk: what is generated has to be there.
        if config.data.dataset == "generated" and not os.path.isdir(config.data.path):
            raise FileNotFoundError(f"config.data.path={config.data.path}: no such folder")
    try:
        data = online.open_data(config)
    except ConfigError:  # no labels, or nothing to divide by
        source = datasets.open_dataset(config.data, config.views)
        ids = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64))
        labels, class_names, origin = None, (), f"{len(ids)} of the run's own training clips"
    else:
        recordings = online.choose(data.partitions[0].test, count, seed)
        source, ids, class_names = recordings.source, recordings.example_ids, data.class_names
        labels = None if data.multi_label else recordings.targets.argmax(axis=1)
        origin = (
            f"{len(ids)} clips of the run's data, split {data.partitions[0].name!r}, which it "
            "was not trained on"
            if data.partitions[0].name != "random"
            else f"{len(ids)} clips of the run's data, which it may have been trained on"
        )
    passing = evaluation.EvaluationClips(source, config.views, 16, example_ids=ids)
    views: dict[str, list[np.ndarray]] = {m: [] for m in MODALITIES}
    used, has_sound = [], []
    with contextlib.closing(passing.batches()) as made:
        for batch in extraction.mark_replaced(made, source):
            rows = batch["valid"]
            views["video"].append(batch["video"][rows, 0])
            views["audio"].append(batch["audio"][rows])
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
    """Reads the middle clips of media files; folders of files are classes, if there are several.

    Args:
        inputs: Files, and folders to look through with all below them.
        views: "preprocessing" of the modalities that are to be seen.
        count: Of the files, at most, evenly out of all.
        advance: Called with the number of files just read.

    Raises:
        FileNotFoundError: There is nothing at one of the paths.
        ValueError: No file is usable.
    """
    from input_pipeline.media import MediaError

    paths, left_out = _find(inputs, "video" in views)
    paths = [paths[n] for n in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]
    kept, rows = [], []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(_read, path, views) for path in paths]
        for path, job in zip(paths, jobs, strict=True):
            try:
                rows.append(job.result())
                kept.append(path)
            except MediaError as error:
                left_out.append((printable(str(path)), error.reason))
            advance(1)
    if not kept:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise ValueError(f"--input: none of {len(paths)} files is usable ({reasons})")
    folders = [printable(path.parent.name) for path in kept]
    class_names = tuple(sorted(set(folders)))
    labels = np.array([class_names.index(folder) for folder in folders])
    labelled = 1 < len(class_names) < len(kept)
    return Clips(
        {m: np.stack([made[m] for made, _ in rows]) for m in views},
        [printable(str(path)) for path in kept],
        labels if labelled else None,
        class_names if labelled else (),
        np.array([sound for _, sound in rows]),
        f"{len(kept)} of the files given with --input",
        left_out,
    )


def _find(
    inputs: Sequence[str | os.PathLike], picture: bool
) -> tuple[list[pathlib.Path], list[tuple[str, str]]]:
    """The files, and what is left out without a look, with the reason."""
    from xkd_jax import features

    found, left_out = [], []
    for path in map(pathlib.Path, inputs):
        root, names, closed = features.find(path, "video" if picture else "audio")
        found += [root / name for name in names]
        left_out += [(printable(str(root / result.name)), result.reason) for result in closed]
    return found, left_out


def _read(
    path: pathlib.Path, views: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, np.ndarray], bool]:
    """The middle clip of a file, silence where it has no sound; and whether it has any."""
    from input_pipeline import media

    made, has_sound = {}, media.probe(path).has_audio
    if "video" in views:
        [made["video"]] = preprocessing.video_views_of_file(path, views["video"], (0.5,))
    if "audio" in views and has_sound:
        [made["audio"]] = preprocessing.audio_views_of_file(path, views["audio"], (0.5,))
    elif "audio" in views:
        audio = views["audio"]
        silence = np.zeros(round(audio["seconds"] * audio["sample_rate"]), np.float32)
        made["audio"] = preprocessing.log_mel(silence, audio)
    return made, has_sound
