"""What a user of PyTorch does with exports, in an environment without JAX and without xkd_jax.

    python -I in_pytorch.py JOB.pickle

The job has the folders, the recordings and the calls; the answers are written beside it.
test_huggingface.py runs it.
"""

import importlib.util
import pathlib
import pickle
import re
import sys

import numpy as np
import torch
from transformers import (
    AutoModel,
    AutoProcessor,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)


def features(folder, network, calls):
    """Returns the features of each call's recordings, by modality."""
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, network=network)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        return [as_arrays(model(**processor(**call))) for call in calls]


def as_arrays(output):
    return {name: value.numpy() for name, value in output.items()}


def run_card(folder, names):
    """Runs the code of the model card from top to bottom; returns its variables."""
    card = (folder / "README.md").read_text()
    for block in re.findall(r"^```python\n(.*?)^```", card, re.M | re.S):
        exec(block.replace('DIR = "xkd"', f"DIR = {str(folder)!r}"), names)
    return names


def run_onnx(path, name, views):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path)).run(None, {name: views})[0]


def refusals(folder, calls):
    """Returns the messages of the ValueErrors of calls."""
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    messages = []
    for call in calls:
        try:
            model(**processor(**call))
        except ValueError as error:
            messages.append(str(error))
    return messages


def published_vits(sizes, pixels):
    """Saves MAE and VideoMAE of random weights to folders, and returns their tokens."""
    torch.manual_seed(0)
    pixels = torch.from_numpy(pixels)  # (frames, 3, height, width)
    mae = ViTMAEForPreTraining(ViTMAEConfig(**sizes, mask_ratio=0.0))
    frames = {"num_frames": len(pixels), "use_mean_pooling": False}
    videomae = VideoMAEForPreTraining(VideoMAEConfig(**sizes, **frames))
    for name, model in (("mae", mae), ("videomae", videomae)):
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.2)
        model.eval().save_pretrained(name)
    with torch.no_grad():
        order = torch.arange(mae.vit.embeddings.patch_embeddings.num_patches)[None].float()
        image = mae.vit(pixels[:1], noise=order).last_hidden_state
        return image[0].numpy(), videomae.videomae(pixels[None]).last_hidden_state[0].numpy()


def main():
    assert not any(importlib.util.find_spec(name) for name in ("jax", "xkd_jax", "input_pipeline"))
    path = pathlib.Path(sys.argv[1])
    job = pickle.loads(path.read_bytes())
    found = {
        (folder, network): features(folder, network, job["calls"])
        for folder, network in job["encoders"]
    }
    folder = job["card"]["folder"]
    card = run_card(folder, {k: v for k, v in job["card"].items() if k != "folder"})
    both = card["processor"](videos=job["card"]["frames"], fps=25, return_tensors="np")
    views = np.concatenate([both["pixel_values_videos"]] * 3)
    hub = torch.hub.load(job["clone"], "xkd", str(folder), source="local", trust_repo=True)
    processor = torch.hub.load(job["clone"], "xkd_processor", str(folder), source="local")
    card["model"].save_pretrained("again")
    card["processor"].save_pretrained("again")
    answers = {
        "encoders": found,
        "card": {m: card[m].detach().numpy() for m in ("video", "audio")},
        "onnx": run_onnx("video.onnx", "pixel_values_videos", views),
        "again": features("again", "teacher", job["calls"][:1]),
        "refusals": refusals(folder, job["refused"]),
        "published_vits": published_vits(*job["published_vits"]),
    }
    with torch.no_grad():
        answers["hub"] = as_arrays(hub(**processor(**job["calls"][0])))
    path.with_suffix(".answers").write_bytes(pickle.dumps(answers))


if __name__ == "__main__":
    main()
