"""Runs docs/mteb/evaluate.py on small tasks, in an environment with MTEB and without JAX.

    python -I in_mteb.py JOB.pickle

The job has the export and recordings; the answers are written beside it. test_mteb.py runs it.
"""

import contextlib
import importlib.util
import io
import json
import pathlib
import pickle
import sys
import types
from unittest import mock

import datasets
import mteb
import numpy as np
import torch
from mteb.abstasks.classification import AbsTaskClassification


def load_program(path):
    spec = importlib.util.spec_from_file_location("evaluate", path)
    program = importlib.util.module_from_spec(spec)
    sys.modules["evaluate"] = program
    spec.loader.exec_module(program)
    return program


class Decoder:
    """Frames that are asked for by time, as torchcodec's VideoDecoder gives them."""

    def __init__(self, frames, fps):
        self._frames, self._fps = torch.from_numpy(np.asarray(frames, np.uint8)), fps
        self.metadata = types.SimpleNamespace(
            begin_stream_seconds=0.0, end_stream_seconds=len(frames) / fps
        )

    def get_frames_played_at(self, seconds):
        places = [int(second * self._fps) for second in seconds]
        return types.SimpleNamespace(data=self._frames[places].permute(0, 3, 1, 2))


def as_decoded(recordings, lacking=()):
    """Returns a data set whose columns are what `datasets` decodes, but from arrays."""

    def columns(batch):
        found = {"label": batch["label"]} if "label" in batch else {}
        if "video" in batch:
            found["video"] = [
                Decoder(recordings[n]["frames"], recordings[n]["fps"]) for n in batch["video"]
            ]
        if "audio" in batch:
            found["audio"] = [
                None
                if n in lacking
                else {"array": recordings[n]["waveform"], "sampling_rate": recordings[n]["rate"]}
                for n in batch["audio"]
            ]
        return found

    numbers = list(range(len(recordings)))
    rows = {"video": numbers, "audio": numbers, "label": [r["label"] for r in recordings]}
    return datasets.Dataset.from_dict(rows).with_transform(columns)


def as_files(recordings):
    """Returns a data set of media files, which torchcodec decodes."""
    paths = [str(recording["path"]) for recording in recordings]
    rows = {"video": paths, "audio": paths, "label": [r["label"] for r in recordings]}
    data = datasets.Dataset.from_dict(rows)
    return data.cast_column("video", datasets.Video()).cast_column("audio", datasets.Audio())


def small_task(name, modalities, data):
    """Returns a classification task of MTEB on a data set of two halves."""

    class Small(AbsTaskClassification):
        metadata = mteb.TaskMetadata(
            name=name,
            description="Planted classes.",
            dataset={"path": "none", "revision": "1"},
            type="VideoClassification" if "video" in modalities else "AudioClassification",
            category={1: f"{modalities[0][0]}2c", 2: "va2c"}[len(modalities)],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="accuracy",
            modalities=modalities,
        )
        input_column_name = modalities[0] if len(modalities) == 1 else tuple(modalities)
        samples_per_label, n_experiments = 16, 2

        def load_data(self, num_proc=None, **kwargs):
            half = len(data) // 2
            self.dataset = datasets.DatasetDict(
                train=data.select(range(half)), test=data.select(range(half, len(data)))
            )
            self.data_loaded = True

    return Small()


def call(program, flags, tasks=None):
    """Returns the exit code and what the program has printed."""
    find = mock.patch.object(program, "find_tasks", lambda names: [tasks[n] for n in names])
    with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        with find if tasks else contextlib.nullcontext():
            code = program.main(flags)
        return code, said.getvalue()


def features(program, folder, data, modalities, windows=1):
    """Returns the features of a data set."""
    model = program.XKDEncoder(folder, None, windows, "cpu")
    inputs = torch.utils.data.DataLoader(data.select_columns(modalities), batch_size=3)
    task = types.SimpleNamespace(name="features")
    return model.encode(inputs, task_metadata=task, hf_split="test", hf_subset="default")


def decodes():
    """Returns whether torchcodec and FFmpeg's libraries are here."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def main():
    assert not any(importlib.util.find_spec(name) for name in ("jax", "xkd_jax", "input_pipeline"))
    path = pathlib.Path(sys.argv[1])
    job = pickle.loads(path.read_bytes())
    program, folder = load_program(job["program"]), job["folder"]
    tasks = {
        name: small_task(name, modalities, as_decoded(recordings))
        for name, (modalities, recordings) in job["tasks"].items()
    }
    flags = [f"--model={folder}", f"--tasks={','.join(tasks)}", "--output=results"]
    answers = {"run": call(program, flags, tasks)}
    answers["scores"] = {
        file.stem: json.loads(file.read_text())["scores"]["test"][0]["main_score"]
        for file in pathlib.Path("results").rglob("*.json")
        if file.stem in tasks
    }
    # The results that are there are taken: no recording is encoded again.
    broken = ValueError("two\nlines")
    with mock.patch.object(program.XKDEncoder, "encode", side_effect=broken):
        answers["again"] = call(program, flags, tasks)
        answers["failed"] = call(program, [*flags, "--windows=2"], tasks)
    recordings = job["recordings"]
    answers["features"] = {
        (modalities, windows): features(
            program, folder, as_decoded(recordings), list(modalities), windows
        )
        for modalities in (("video",), ("audio",), ("video", "audio"))
        for windows in (1, 3)
    }
    answers["lacking"] = features(program, folder, as_decoded(recordings, {1}), ["video", "audio"])
    answers["files"] = decodes() and {
        m: features(program, folder, as_files(recordings), [m]) for m in ("video", "audio")
    }
    answers["named"] = {
        group: {name: set(mteb.get_task(name).metadata.modalities) for name in names}
        for group, names in program.TASKS.items()
    }
    answers["refused"] = [
        call(program, [f"--model={folder}", "--tasks=ESC50", "--output=no", *flags])
        for flags in job["refused"]
    ]
    path.with_suffix(".answers").write_bytes(pickle.dumps(answers))


if __name__ == "__main__":
    main()
