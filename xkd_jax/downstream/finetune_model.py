"""A pretrained encoder with a linear head on the mean of its patch tokens.

Parameters are `{"encoder": those of models/vit.py, "head": {"kernel": (D, C), "bias": (C,)}}`, all
float32.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xkd_jax.encoders import PretrainedEncoder
from xkd_jax.models import patches
from xkd_jax.models.positions import resize_positions
from xkd_jax.models.vit import Encoder, truncated_normal

Params = dict[str, Any]
PATCHIFY = {"video": patches.patchify_video, "audio": patches.patchify_audio}


class Noise(NamedTuple):
    """Uniform in [0, 1): what decides on what is dropped.

    Attributes:
        features: (B, D) float32, of each example's features.
        paths: (B, L, 2) float32, of each example's way through attention and MLP of each block.
    """

    features: jax.Array
    paths: jax.Array


@dataclasses.dataclass(frozen=True)
class FinetuneModel:
    """Hyper-parameters and pure functions of parameters.

    Attributes:
        encoder: Its grid is that of the inputs.
        patch: See `PretrainedEncoder`.
        modality: video or audio.
        classes: C, the outputs of the head.
        dropout: Share of the features that are dropped in training.
        drop_path: Share of paths dropped in the last block; it grows linearly from 0 in the first.
    """

    encoder: Encoder
    patch: tuple[int, ...]
    modality: str
    classes: int
    dropout: float = 0.0
    drop_path: float = 0.0

    def init(self, key: jax.Array, encoder: Params) -> Params:
        """Given weights of the encoder, its positions on the grid of the inputs; a fresh head."""
        kernel = truncated_normal(key, (self.encoder.width, self.classes), jnp.float32)
        head = {"kernel": kernel, "bias": jnp.zeros(self.classes)}
        return {"encoder": encoder, "head": head}

    def noise(self, keys: Mapping[str, jax.Array]) -> Noise:
        """Draws the noise of a batch, from typed keys (B,) for `features` and for `paths`."""
        shapes = {"features": (self.encoder.width,), "paths": (self.encoder.depth, 2)}
        return Noise(
            **{
                name: jax.vmap(lambda key, shape=shape: jax.random.uniform(key, shape))(keys[name])
                for name, shape in shapes.items()
            }
        )

    def logits(self, params: Params, views: jax.Array, noise: Noise | None = None) -> jax.Array:
        """Classifies views.

        Args:
            params: Of `init`.
            views: (B, T, H, W, 3) normalized frames or (B, F, W) normalized log-mels, float.
            noise: In training.

        Returns:
            (B, C) float32.
        """
        scales = None
        if noise is not None and self.drop_path:
            # From example by block to block by example, over which the encoder scans.
            rates = self.drop_path * jnp.linspace(0.0, 1.0, self.encoder.depth)[:, None]
            kept = (noise.paths >= rates) / (1 - rates)
            scales = jnp.moveaxis(kept, 0, -1)
        cut = PATCHIFY[self.modality](views, self.patch)
        tokens, _ = self.encoder.apply({"params": params["encoder"]}, cut, scales=scales)
        features = tokens[:, 1:].astype(jnp.float32).mean(axis=1)
        if noise is not None and self.dropout:
            features *= (noise.features >= self.dropout) / (1 - self.dropout)
        head = params["head"]
        return jnp.matmul(features, head["kernel"], precision="highest") + head["bias"]


def from_pretrained(
    pretrained: PretrainedEncoder,
    classes: int,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    remat: str = "none",
) -> tuple[FinetuneModel, Params]:
    """Makes the model for an encoder at the input size that it was loaded for.

    Args:
        pretrained: The encoder.
        classes: See `FinetuneModel`, as the two after it.
        dropout: Of features.
        drop_path: Of paths.
        remat: What the backward pass computes again, out of `vit.REMAT`.

    Returns:
        The model, and the encoder's weights, its positions resized once and for all.
    """
    module, grid = pretrained.module, pretrained.sizes.grid
    params = dict(pretrained.params)
    if grid != tuple(module.grid):
        table = params["position_embedding"]
        resized = resize_positions(table[1:], tuple(module.grid), grid)
        params["position_embedding"] = jnp.concatenate([table[:1], resized])
    model = FinetuneModel(
        encoder=module.clone(grid=grid, row=None, remat=remat),
        patch=pretrained.patch,
        modality=pretrained.modality,
        classes=classes,
        dropout=dropout,
        drop_path=drop_path,
    )
    return model, params
