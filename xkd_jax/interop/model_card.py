"""The model card of an export for `transformers`: use, sizes, provenance, data and results."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from input_pipeline import data_folders
from xkd_jax.encoders import descriptions

_HEADER = """\
---
library_name: transformers
pipeline_tag: feature-extraction
tags: [xkd, self-supervised, {modalities}]
---

# XKD encoders of {names}

Vision Transformers pretrained on video with sound by XKD (Sarkar and Etemad, "XKD: Cross-modal
Knowledge Distillation with Domain Alignment for Video Representation Learning", AAAI 2024), and
exported from xkd_jax. They need PyTorch, transformers and Pillow, and no JAX.
"""

_LOAD = """
```python
import torch
from transformers import AutoModel, AutoProcessor

DIR = "{folder}"  # this folder
model = AutoModel.from_pretrained(DIR, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(DIR, trust_remote_code=True)
```

The folder holds these networks: {networks}. The {first} is loaded, or the one that you name:
`AutoModel.from_pretrained(DIR, trust_remote_code=True, network="{last}")`.
"""

_USE = {
    "video": """
```python
# Frames (T, H, W, 3) uint8 RGB of any size, or a list of recordings.
inputs = processor(videos=frames, fps=25)
video = model(**inputs).video_features  # (B, {width}) float32
```
""",
    "audio": """
```python
# A mono waveform (S,) of floats in [-1, 1], or a list of recordings. Rates other than {rate} Hz
# need soxr.
inputs = processor(audio=waveform, sampling_rate=44100)
audio = model(**inputs).audio_features  # (B, {width}) float32
```
""",
}

_MORE = """
Features are the mean of the last layer's patch tokens, which are in `video_tokens` and
`audio_tokens`. Of a recording longer than a clip, the central clip is taken; a shorter one repeats.
Other sizes, which the patch must divide: `processor(..., frame_size=..., seconds=...)`.
"""

_ONNX = """
## ONNX

The program takes what the processor returns, of one size and any number of recordings. Writing it
needs onnx and onnxscript.

```python
torch.onnx.export(
    model,
    kwargs=dict({call}),
    f="{modality}.onnx",
    output_names=["{modality}_features", "{modality}_tokens"],
    dynamic_shapes={{"{name}": {{0: "batch"}}}},
    dynamo=True,
)
```
"""
_INPUTS = {
    "video": ("pixel_values_videos", "processor(videos=frames, fps=25)"),
    "audio": ("input_features", "processor(audio=waveform, sampling_rate=44100)"),
}


def text(description: Mapping[str, Any]) -> str:
    """Writes the card as Markdown.

    Args:
        description: Description of the weights from `descriptions.describe`. With the run's config
            in it, the card says what the run was trained on.
    """
    networks, architecture = description["networks"], description["architecture"]
    modalities = [m for m in ("video", "audio") if m in architecture]
    views, first = description["preprocessing"], modalities[0]
    parts = [
        _HEADER.format(modalities=", ".join(modalities), names=" and of ".join(modalities)),
        "\n## Use\n",
        _LOAD.format(
            folder="xkd",
            first=next(iter(networks)),
            last=[*networks][-1],
            networks=", ".join(networks),
        ),
        *(
            _USE[m].format(
                width=architecture[m]["encoder"]["width"], rate=views[m].get("sample_rate")
            )
            for m in modalities
        ),
        _MORE,
        _ONNX.format(modality=first, name=_INPUTS[first][0], call=_INPUTS[first][1]),
        f"\n## Encoders\n\n```\n{descriptions.summary(description)}\n```\n",
        "\n## Origin\n\n",
        _table(_origin(description)),
    ]
    if results := _table(_results(description["provenance"]), ("evaluation", "score")):
        parts += ["\n## Results\n\n", results]
    return "".join(parts)


def _table(rows: Iterator[tuple[str, str]], head: tuple[str, str] = ("", "value")) -> str:
    """Formats a Markdown table; empty without rows."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows]
    return "".join([f"| {' | '.join(head)} |\n|---|---|\n", *lines]) if lines else ""


def _origin(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields what is known of the training, without the paths of the machine that it ran on."""
    yield "variant", description["architecture"]["variant"]
    for name, value in descriptions.without_folders(description["provenance"]).items():
        yield name, value if isinstance(value, str) else json.dumps(value)
    config = description["config"]
    if config:
        yield "training data", training_data(config["data"])
        yield "batch size", str(config["batch_size"])


def training_data(data: Mapping[str, Any]) -> str:
    """Says what a run was trained on: the kind of data, and the folder or those of a mixture."""
    names = [pathlib.Path(folder).name for folder in data_folders.folders(data)]
    weights = data.get("weights") or ()
    text = " ".join(filter(None, (data["dataset"], ", ".join(names))))
    return f"{text}, weighted {' : '.join(map(str, weights))}" if weights else text


def _results(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the results of evaluations of this checkpoint.

    They are in the folder of the run and in those beside it, as `--workdir=runs/mine` and
    `--workdir=runs/ucf101` have it.
    """
    if provenance["source"] != "run":
        return
    run = pathlib.Path(provenance["path"]).parent.parent
    for path in sorted({*run.glob("*/results.json"), *run.parent.glob("*/results.json")}):
        try:
            found = json.loads(path.read_bytes())
            if found["checkpoint"]["provenance"] != provenance:
                continue
            score = found["scores"][found["metric"]]["mean"]
            yield found["title"], f"{found['metric']} {100 * score:.1f} %"
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not a result of an evaluation
