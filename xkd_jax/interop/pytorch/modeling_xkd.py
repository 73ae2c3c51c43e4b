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
"""XKD encoders of video and of audio for PyTorch and transformers.

`python -m xkd_jax.interop.export --format=huggingface` copies this file beside the weights. It
needs PyTorch, NumPy and transformers, nothing of xkd_jax and no JAX. Features agree with those of
`xkd_jax.load_encoder` to 1e-4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class XKDConfig(PretrainedConfig):
    """Sizes of the encoders in a folder, and the choice of the network to load.

    Args:
        network: Network to load: "teacher" or "student".
        networks: Modalities of each network in the folder.
        shared: Networks whose encoders have the same transformer blocks (XKD-MAS, XKD-MATS).
        encoders: By modality, the token `grid` of the learned positions, the `patch`, and the
            `width`, `depth` and `heads` of the encoder.
        cls_token: Whether the encoders have a CLS token.
        **others: Fields of every config.
    """

    model_type = "xkd"

    def __init__(
        self,
        network: str = "teacher",
        networks: dict[str, list[str]] | None = None,
        shared: Sequence[str] = (),
        encoders: dict[str, dict[str, Any]] | None = None,
        cls_token: bool = True,
        **others: Any,
    ):
        self.network, self.networks, self.shared = network, networks or {}, list(shared)
        self.encoders, self.cls_token = encoders or {}, cls_token
        super().__init__(**others)


@dataclass
class XKDOutput(ModelOutput):
    """Features and tokens of the given modalities; None for the others.

    Attributes:
        video_features: (B, D) float32, the mean of the patch tokens.
        audio_features: (B, D) float32, the mean of the patch tokens.
        video_tokens: (B, N, D), CLS first if there is one, then patches by (time, height, width).
        audio_tokens: (B, N, D), CLS first if there is one, then patches by (frequency, time).
    """

    video_features: torch.Tensor | None = None
    audio_features: torch.Tensor | None = None
    video_tokens: torch.Tensor | None = None
    audio_tokens: torch.Tensor | None = None


class Block(nn.Module):
    """Pre-norm transformer block: no bias on QKV, exact GELU, an MLP of 4 times the width."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps tokens (B, N, D) to (B, N, D)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.attention_norm(tokens))
        qkv = qkv.reshape(batch, count, 3, self.heads, width // self.heads)
        attended = functional.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        tokens = tokens + self.out(attended.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.mlp_out(functional.gelu(self.mlp_in(self.mlp_norm(tokens))))


def make_blocks(sizes: dict[str, Any]) -> nn.ModuleList:
    """Makes the transformer blocks of an encoder."""
    return nn.ModuleList(Block(sizes["width"], sizes["heads"]) for _ in range(sizes["depth"]))


class Encoder(nn.Module):
    """Vision Transformer over the patches of one modality."""

    def __init__(self, sizes: dict[str, Any], has_cls: bool, has_blocks: bool):
        super().__init__()
        self.grid, self.patch = tuple(sizes["grid"]), tuple(sizes["patch"])
        width, channels = sizes["width"], 3 if len(self.patch) == 3 else 1
        self.patch_embedding = nn.Linear(channels * math.prod(self.patch), width)
        self.position_embedding = nn.Parameter(torch.zeros(math.prod(self.grid) + has_cls, width))
        self.cls_token = nn.Parameter(torch.zeros(1, width)) if has_cls else None
        self.blocks = make_blocks(sizes) if has_blocks else None
        self.norm = nn.LayerNorm(width)

    def forward(self, views: torch.Tensor, blocks: nn.ModuleList) -> torch.Tensor:
        """Encodes views of any size that the patch divides.

        Args:
            views: (B, T, 3, H, W) normalized frames, or (B, F, T) normalized log-mels.
            blocks: The transformer blocks, of this encoder or shared.

        Returns:
            (B, N, D), the tokens of the last layer after the final norm, CLS first if there is one.
        """
        patches, grid = patchify(views.to(self.patch_embedding.weight.dtype), self.patch)
        positions = self.position_embedding[int(self.cls_token is not None) :]
        tokens = self.patch_embedding(patches) + resize(positions, self.grid, grid)
        if self.cls_token is not None:
            first = self.cls_token + self.position_embedding[:1]
            tokens = torch.cat([first.expand(tokens.shape[0], 1, -1), tokens], dim=1)
        for block in blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def patchify(views: torch.Tensor, patch: tuple[int, ...]) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Cuts views into patches (B, N, P), and returns them with their numbers along each axis."""
    video = len(patch) == 3
    if views.ndim != (5 if video else 3) or (video and views.shape[2] != 3):
        allowed = "(B, T, 3, H, W) frames" if video else "(B, F, T) log-mels"
        raise ValueError(f"the views have shape {tuple(views.shape)}; allowed: {allowed}")
    extents = (views.shape[1], *views.shape[3:]) if video else views.shape[1:]
    if any(n < p or n % p for n, p in zip(extents, patch, strict=True)):
        raise ValueError(
            f"the views have {'x'.join(map(str, extents))} values; allowed: multiples of the "
            f"patch's {'x'.join(map(str, patch))}"
        )
    grid = tuple(n // p for n, p in zip(extents, patch, strict=True))
    if video:
        (t, h, w), (pt, ph, pw) = grid, patch
        parts = views.reshape(views.shape[0], t, pt, 3, h, ph, w, pw).permute(
            0, 1, 4, 6, 2, 5, 7, 3
        )
    else:
        (f, t), (pf, pt) = grid, patch
        parts = views.reshape(views.shape[0], f, pf, t, pt).permute(0, 1, 3, 2, 4)
    return parts.flatten(len(grid) + 1).flatten(1, len(grid)), grid


def resize(
    positions: torch.Tensor, stored: tuple[int, ...], wanted: tuple[int, ...]
) -> torch.Tensor:
    """Resizes position embeddings (N, D) from the grid of the training to that of the views.

    Video is resized linearly along each axis whose length changes, audio cubically along time. Axes
    are scaled by (wanted + 0.1) / stored, as in the authors' release of XKD.
    """
    if wanted == stored:
        return positions
    if len(stored) == 2 and wanted[0] != stored[0]:
        raise ValueError(f"the log-mels have {wanted[0]} rows of patches; allowed: {stored[0]}")
    weights = linear_weights if len(stored) == 3 else cubic_weights
    table = positions.reshape(*stored, -1)
    for axis, (old, new) in enumerate(zip(stored, wanted, strict=True)):
        if old != new:
            matrix = torch.from_numpy(weights(old, new)).to(table)
            table = torch.tensordot(matrix, table, dims=([1], [axis])).movedim(0, axis)
    return table.reshape(-1, positions.shape[-1])


def linear_weights(stored: int, wanted: int) -> np.ndarray:
    """Returns the weights (wanted, stored) of a linear resize with clamped edges."""
    source = np.maximum((np.arange(wanted) + 0.5) * stored / (wanted + 0.1) - 0.5, 0.0)
    low = np.minimum(np.floor(source).astype(int), stored - 1)
    weights, rows = np.zeros((wanted, stored)), np.arange(wanted)
    np.add.at(weights, (rows, low), 1.0 - (source - low))
    np.add.at(weights, (rows, np.minimum(low + 1, stored - 1)), source - low)
    return weights


def cubic_weights(stored: int, wanted: int, a: float = -0.75) -> np.ndarray:
    """Returns the weights (wanted, stored) of a cubic convolution with clamped edges."""
    source = (np.arange(wanted) + 0.5) * stored / (wanted + 0.1) - 0.5
    weights, rows = np.zeros((wanted, stored)), np.arange(wanted)
    for tap in range(-1, 3):
        cell = np.floor(source).astype(int) + tap
        x = np.abs(source - cell)
        near = (a + 2.0) * x**3 - (a + 3.0) * x**2 + 1.0
        far = a * (x**3 - 5.0 * x**2 + 8.0 * x - 4.0)
        np.add.at(weights, (rows, np.clip(cell, 0, stored - 1)), np.where(x <= 1.0, near, far))
    return weights


class XKDModel(PreTrainedModel):
    """The encoders of one network, teacher or student.

    `AutoModel.from_pretrained(DIR, trust_remote_code=True, network="student")` chooses the student.
    """

    config_class = XKDConfig
    base_model_prefix = "xkd"
    main_input_name = "pixel_values_videos"
    _supports_sdpa = True
    _no_split_modules: ClassVar = ["Block"]
    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^(teacher|student)\."]  # the other network

    def __init__(self, config: XKDConfig):
        super().__init__(config)
        if config.network not in config.networks:
            raise ValueError(
                f"network is {config.network!r}; allowed: {', '.join(config.networks)}"
            )
        modalities = config.networks[config.network]
        shares = config.network in config.shared
        encoders = {
            m: Encoder(config.encoders[m], config.cls_token, not shares) for m in modalities
        }
        if shares:
            encoders["shared"] = nn.ModuleDict(
                {"blocks": make_blocks(config.encoders[modalities[0]])}
            )
        # By the network's name, under which the file has its weights.
        setattr(self, config.network, nn.ModuleDict(encoders))
        self.post_init()

    def encode(self, modality: str, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the features (B, D) float32 and the tokens (B, N, D) of views.

        Args:
            modality: "video" or "audio".
            views: As for `Encoder`.
        """
        encoders = getattr(self, self.config.network)
        if modality not in encoders:
            raise ValueError(f"there is no encoder of {modality}; allowed: {', '.join(encoders)}")
        owner = encoders["shared"] if "shared" in encoders else encoders[modality]
        tokens = encoders[modality](views, owner.blocks)
        return tokens[:, int(self.config.cls_token) :].float().mean(dim=1), tokens

    def get_video_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Returns the features (B, D) of normalized frames (B, T, 3, H, W)."""
        return self.encode("video", pixel_values_videos)[0]

    def get_audio_features(self, input_features: torch.Tensor) -> torch.Tensor:
        """Returns the features (B, D) of normalized log-mels (B, F, T)."""
        return self.encode("audio", input_features)[0]

    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> XKDOutput | tuple:
        """Encodes what the processor returns: of video, of audio, or both.

        Args:
            pixel_values_videos: (B, T, 3, H, W) float, normalized frames.
            input_features: (B, F, T) float, normalized log-mels.
            return_dict: Whether to return an `XKDOutput` (default) or a tuple of what is not None.
            **others: Arguments of other models, which are ignored.
        """
        if pixel_values_videos is None and input_features is None:
            raise ValueError("nothing is given; allowed: pixel_values_videos, input_features")
        output = XKDOutput()
        if pixel_values_videos is not None:
            output["video_features"], output["video_tokens"] = self.encode(
                "video", pixel_values_videos
            )
        if input_features is not None:
            output["audio_features"], output["audio_tokens"] = self.encode("audio", input_features)
        return output.to_tuple() if return_dict is False else output
