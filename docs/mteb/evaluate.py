# Copyright 2026 The xkd_jax authors.
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except
# in compliance with the License. You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software distributed under the License
# is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express
# or implied. See the License for the specific language governing permissions and limitations under
# the License.
"""Evaluates exported XKD encoders on MTEB's tasks of video and of audio.

    python evaluate.py --model=hub --tasks=ESC50,HMDB51Classification --output=results

The model is a folder that `python -m xkd_jax.interop.export --format=huggingface` wrote. This file
needs what requirements-mteb.txt lists (mteb, torch, transformers, soxr, torchcodec with FFmpeg),
nothing of xkd_jax and no JAX. See README.md beside it.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import mteb
import numpy as np
import soxr
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType
from safetensors import SafetensorError
from torch.nn import functional
from tqdm import tqdm
from transformers import AutoModel, AutoProcessor

MODALITIES = ("video", "audio")
# Tasks on data sets that this project evaluates, by what they show to the encoders.
TASKS = {
    "video": (
        "HMDB51Classification",
        "UCF101VideoClassification",
        "Kinetics400V",
        "SomethingSomethingV2Classification",
        "VGGSoundV",
    ),
    "audio": ("ESC50", "FSD50K", "AudioSetMini"),
    "both": ("UCF101VideoAudioClassification", "Kinetics400VA", "VGGSoundVA"),
}
_INPUTS = {"video": "pixel_values_videos", "audio": "input_features"}
_ROUNDING = 1e-6  # seconds; a frame's time and the time of its view are quotients, not exact


@dataclasses.dataclass(frozen=True)
class Views:
    """Makes the views of a batch of recordings that the encoders see.

    Attributes:
        processor: The export's processor.
        windows: Number of views of each recording, evenly spaced from its beginning to its end; 1
            takes the central view.
    """

    processor: Any
    windows: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes the views of a task's rows.

        Args:
            rows: Recordings as MTEB gives them: `video`, torchcodec's decoder; `audio`, with an
                `array` of samples and its `sampling_rate`. Either may be None.

        Returns:
            For each modality of the rows, its views (B, windows, ...) float32, zeros where a
            recording lacks it; and for `has_<modality>`, (B,) bool.
        """
        batch = {}
        for modality in MODALITIES:
            if modality not in rows[0]:
                continue
            cut = {"video": self._frames, "audio": self._waveforms}[modality]
            views = [None if row[modality] is None else cut(row[modality]) for row in rows]
            shape = next((view.shape for view in views if view is not None), (self.windows,))
            views = [torch.zeros(shape) if view is None else view for view in views]
            batch[modality] = torch.stack(views)
            batch[f"has_{modality}"] = torch.tensor([row[modality] is not None for row in rows])
        return batch

    def _places(self) -> np.ndarray:
        return np.linspace(0, 1, self.windows) if self.windows > 1 else np.array([0.5])

    def _frames(self, video: Any) -> torch.Tensor:
        """Returns the views (windows, T, 3, H, W) of a video, decoding no more than they show."""
        view = self.processor.views["video"]
        begin = video.metadata.begin_stream_seconds or 0.0
        duration = video.metadata.end_stream_seconds - begin
        seconds = view["frames"] / view["frame_rate"]
        clips = []
        for place in self._places():
            start = place * max(0.0, duration - seconds)
            times = (start + np.arange(view["frames"]) / view["frame_rate"]) % duration
            times = begin + np.minimum(times + _ROUNDING, duration - _ROUNDING)
            frames = video.get_frames_played_at(times.tolist()).data
            clips.append(frames.permute(0, 2, 3, 1).numpy())
        return self.processor(videos=clips)[_INPUTS["video"]]

    def _waveforms(self, audio: Any) -> torch.Tensor:
        """Returns the views (windows, mel bands, frames) of a sound."""
        view = self.processor.views["audio"]
        waveform, rate = np.asarray(audio["array"], np.float32), view["sample_rate"]
        if waveform.ndim > 1:  # (channels, samples)
            waveform = waveform.mean(axis=0)
        if audio["sampling_rate"] != rate:
            waveform = soxr.resample(waveform, audio["sampling_rate"], rate)
        samples = round(view["seconds"] * rate)
        room = max(0, len(waveform) - samples)
        starts = [round(place * room) for place in self._places()]
        clips = [waveform[start : start + samples] for start in starts]
        return self.processor(audio=clips, sampling_rate=rate)[_INPUTS["audio"]]


class XKDEncoder(AbsEncoder):
    """Exported encoders by MTEB's protocol.

    Args:
        folder: Folder of the export.
        network: "teacher" or "student"; None takes the export's first.
        windows: Number of views of each recording, whose features are averaged.
        device: PyTorch's device.
    """

    def __init__(
        self, folder: pathlib.Path, network: str | None, windows: int, device: str
    ) -> None:
        weights = folder / "model.safetensors"
        chosen = {} if network is None else {"network": network}
        try:
            self.model = AutoModel.from_pretrained(folder, trust_remote_code=True, **chosen)
        except SafetensorError as error:
            raise ValueError(f"{weights} is damaged: {error}") from error
        self.model = self.model.eval().to(device)
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        self._views = Views(processor, windows)
        self._device = device
        config = self.model.config
        self.modalities = [m for m in MODALITIES if m in config.networks[config.network]]
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # Results are kept by name, revision and experiment: other weights give other results.
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"xkd/{folder.resolve().name}",
                "revision": digest[:16],
                "modalities": self.modalities,
                "framework": ["PyTorch", "Transformers", "safetensors"],
                "similarity_fn_name": ScoringFunction.COSINE,
                "n_parameters": sum(p.numel() for p in self.model.parameters()),
                "license": "apache-2.0",
                "use_instructions": False,
                "experiment_kwargs": {"network": config.network, "windows": windows},
            }
        )

    @torch.inference_mode()
    def encode(
        self,
        inputs: torch.utils.data.DataLoader,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Encodes recordings.

        Args:
            inputs: Recordings in batches.
            task_metadata: The task's description.
            hf_split: Split of the data set.
            hf_subset: Subset of the data set.
            prompt_type: Whether queries or documents are encoded; None for other tasks.
            **kwargs: MTEB's settings of encoding.

        Returns:
            (N, D) float32 features of the modality that the recordings have. For both, the features
            of video and of audio side by side, each with a mean square of 1; zeros where a
            recording lacks one.
        """
        inputs.collate_fn = self._views
        rows, lacking = [], dict.fromkeys(MODALITIES, 0)
        for batch in tqdm(inputs, disable=not kwargs.get("show_progress_bar", True)):
            shown = [m for m in MODALITIES if m in batch]
            features = [self._features(m, batch[m], batch[f"has_{m}"]) for m in shown]
            if len(features) > 1:
                features = [_scaled(part) for part in features]
            rows.append(torch.cat(features, dim=-1).cpu().numpy())
            for modality in shown:
                lacking[modality] += int((~batch[f"has_{modality}"]).sum())
        for modality, count in lacking.items():
            if count:
                name = f"{task_metadata.name}, {hf_split}"
                print(f"{name}: {count} recordings have no {modality}; their features are zeros")
        return np.concatenate(rows)

    def _features(self, modality: str, views: torch.Tensor, has: torch.Tensor) -> torch.Tensor:
        """Returns features (B, D), the mean over views (B, windows, ...); zeros without any."""
        width = self.model.config.encoders[modality]["width"]
        features = torch.zeros(len(views), width, device=self._device)
        if has.any():
            views = views[has].to(self._device)
            encoded = self.model(**{_INPUTS[modality]: views.flatten(0, 1)})
            encoded = encoded[f"{modality}_features"].unflatten(0, views.shape[:2])
            features[has.to(self._device)] = encoded.mean(dim=1)
        return features


def _scaled(features: torch.Tensor) -> torch.Tensor:
    """Scales features (B, D) to a mean square of 1, so that no modality outweighs the other.

    Of unit length, they would be so small that MTEB's logistic regression, whose penalty is fixed,
    could not tell classes apart.
    """
    return functional.normalize(features, dim=-1) * features.shape[-1] ** 0.5


def unsuitable(task: Any, modalities: Sequence[str]) -> str | None:
    """Returns why encoders of some modalities cannot do a task, or None."""
    name, needed = task.metadata.name, task.metadata.modalities
    if not set(needed) <= set(modalities):
        needed, held = " and ".join(sorted(needed)), " and ".join(modalities)
        return f"{name} has inputs of {needed}; the encoders are of {held}"
    # Such as "v2a" for video and audio, "va2va" for pairs of both, "v2c" for classes.
    one, _, other = task.metadata.category.partition("2")
    if set(one) != set(other) and set(other) <= {"v", "a"}:
        return f"{name} compares video with audio, whose features have no space in common"
    return None


def evaluate(model: XKDEncoder, tasks: Sequence[Any], output: pathlib.Path, **settings: Any) -> int:
    """Evaluates encoders on tasks, and prints the main score of each.

    Args:
        model: The encoders.
        tasks: MTEB's tasks.
        output: Folder of the results. Those that it has already are not made again.
        **settings: Arguments of `mteb.evaluate`.

    Returns:
        The exit code: 1 if a task has failed.
    """
    result = mteb.evaluate(
        model, tasks, cache=mteb.ResultCache(output), raise_error=False, **settings
    )
    metrics = {task.metadata.name: task.metadata.main_score for task in tasks}
    for score in result.task_results:
        print(f"{score.task_name:40} {metrics[score.task_name]:12} {score.get_score():.4f}")
    for error in result.exceptions or ():
        print(f"{error.task_name} has failed: {' '.join(error.exception.split())}", file=sys.stderr)
    return int(bool(result.exceptions))


def find_tasks(names: Sequence[str]) -> list[Any]:
    """Returns tasks by their names or by the keys of TASKS.

    Raises:
        ValueError: MTEB has no such task.
    """
    tasks = []
    for name in itertools.chain.from_iterable(TASKS.get(name, (name,)) for name in names):
        try:
            tasks.append(mteb.get_task(name))
        except KeyError:
            raise ValueError(
                f"--tasks names {name!r}; allowed: {', '.join(TASKS)}, or names of MTEB's tasks, "
                f"such as {', '.join(task for group in TASKS.values() for task in group)}"
            ) from None
    return tasks


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder of the export")
    parser.add_argument(
        "--tasks",
        required=True,
        help="names of tasks with commas between them; or video, audio, both",
    )
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder of the results")
    parser.add_argument("--network", help="teacher or student; by default the export's first")
    parser.add_argument("--windows", type=int, default=1, help="views of each recording")
    parser.add_argument("--batch_size", type=int, default=16, help="recordings in a batch")
    parser.add_argument("--workers", type=int, help="processes that decode; by default none")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    flags = parser.parse_args(arguments)
    try:
        for name in ("windows", "batch_size", "workers"):
            number = getattr(flags, name)
            if number is not None and number < 1:
                raise ValueError(f"--{name} is {number}; allowed: 1 or more")
        check_device(flags.device)
        tasks = find_tasks(flags.tasks.split(","))
        check_export(flags.model)
        model = XKDEncoder(flags.model, flags.network, flags.windows, flags.device)
        if reasons := list(filter(None, (unsuitable(task, model.modalities) for task in tasks))):
            raise ValueError("; ".join(reasons))
        make_folder(flags.output)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    encoding = {"batch_size": flags.batch_size}
    return evaluate(model, tasks, flags.output, encode_kwargs=encoding, num_proc=flags.workers)


def check_device(device: str) -> None:
    """Refuses a device that PyTorch does not know or cannot use here."""
    try:
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device is {device}; allowed: cpu, or cuda if it is here") from error


def check_export(folder: pathlib.Path) -> None:
    """Refuses a folder that is not an export for transformers."""
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = None
    if kind != "xkd":
        raise ValueError(
            f"--model is {folder}; allowed: a folder that `python -m xkd_jax.interop.export "
            "--format=huggingface` wrote"
        )


def make_folder(output: pathlib.Path) -> None:
    """Makes the folder of the results."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--output is {output}; allowed: a folder that can be written ({error.strerror})"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
