"""A pretrained encoder with a linear head on the mean of its patch tokens.

Parameters are {"encoder": parameters of models/vit.py, "head": {"kernel": (D, C), "bias": (C,)}},
all float32.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xkd_jax.encoders.pretrained_encoder import PretrainedEncoder
from xkd_jax.method.models.positions import resize_positions
from xkd_jax.method.models.vit import Encoder, encode, mean_token, truncated_normal

Params = dict[str, Any]


class Noise(NamedTuple):
    """Uniform random numbers in [0, 1) that decide what to drop.

    Attributes:
        features: (B, D) float32. For dropout of the features.
        paths: (B, L, 2) float32. For drop path of attention and MLP in each of L blocks.
    """

    features: jax.Array
    paths: jax.Array


@dataclasses.dataclass(frozen=True)
class FinetuneModel:
    """Classifier: hyperparameters, and pure functions of its parameters.

    Attributes:
        encoder: Encoder module with the grid of the inputs.
        patch: Size of a patch as in `PretrainedEncoder`.
        modality: "video" or "audio".
        classes: C, the number of classes.
        dropout: Dropout rate of the features in training.
        drop_path: Drop rate of the last block's paths. It grows linearly from 0 in the first block.
        normalize: Whether to scale features to unit length, before dropout.
    """

    encoder: Encoder
    patch: tuple[int, ...]
    modality: str
    classes: int
    dropout: float = 0.0
    drop_path: float = 0.0
    normalize: bool = False

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the computation."""
        return self.encoder.dtype

    @property
    def depths(self) -> int:
        """Number of blocks of the encoder."""
        return self.encoder.depth

    def init(self, key: jax.Array, encoder: Params) -> Params:
        """Initializes parameters: the given ones of the encoder, and a random head.

        Args:
            key: Typed random key.
            encoder: Parameters of the encoder, with positions for the grid of the inputs.
        """
        kernel = truncated_normal(key, (self.encoder.width, self.classes), jnp.float32)
        head = {"kernel": kernel, "bias": jnp.zeros(self.classes)}
        return {"encoder": encoder, "head": head}

    def noise(self, keys: Mapping[str, jax.Array]) -> Noise:
        """Draws the noise of a batch from (B,) typed keys for `features` and for `paths`."""
        shapes = {"features": (self.encoder.width,), "paths": (self.encoder.depth, 2)}
        return Noise(
            **{
                name: jax.vmap(lambda key, shape=shape: jax.random.uniform(key, shape))(keys[name])
                for name, shape in shapes.items()
            }
        )

    def logits(
        self, params: Params, views: Mapping[str, jax.Array], noise: Noise | None = None
    ) -> jax.Array:
        """Classifies views.

        Args:
            params: Parameters as from `init`.
            views: (B, T, H, W, 3) normalized frames or (B, F, W) normalized log-mels, float, by
                modality.
            noise: Noise for training. None to drop nothing.

        Returns:
            (B, C) float32.
        """
        paths = None if noise is None else noise.paths
        tokens = self.tokens(params["encoder"], views[self.modality], paths)
        features = mean_token(tokens, jnp.float32)
        if self.normalize:
            lengths = jnp.linalg.norm(features, axis=-1, keepdims=True)
            features /= jnp.maximum(lengths, 1e-12)
        if noise is not None and self.dropout:
            features *= (noise.features >= self.dropout) / (1 - self.dropout)
        return linear(params["head"], features)

    def tokens(self, encoder: Params, views: jax.Array, paths: jax.Array | None) -> jax.Array:
        """Encodes normalized views (B, ...).

        Args:
            encoder: Parameters of the encoder.
            views: Normalized views (B, ...) of the modality.
            paths: As in `Noise`. None to drop nothing.

        Returns:
            (B, 1 + N, D), CLS first.
        """
        scales = None
        if paths is not None and self.drop_path:
            # The encoder scans over blocks, so the axis of examples comes last.
            rates = self.drop_path * jnp.linspace(0.0, 1.0, self.encoder.depth)[:, None]
            scales = jnp.moveaxis((paths >= rates) / (1 - rates), 0, -1)
        return encode(self.encoder, encoder, views, self.patch, scales=scales).tokens


def linear(head: Params, features: jax.Array) -> jax.Array:
    """Applies a head {"kernel": (D, C), "bias": (C,)} to features (..., D), in full float32."""
    return jnp.matmul(features, head["kernel"], precision="highest") + head["bias"]


def from_pretrained(
    pretrained: PretrainedEncoder,
    classes: int,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    remat: str = "none",
    normalize: bool = False,
) -> tuple[FinetuneModel, Params]:
    """Makes the model for an encoder, with the input size that it was loaded for.

    Args:
        pretrained: Pretrained encoder.
        classes: Number of classes.
        dropout: Dropout rate of the features.
        drop_path: Drop rate of the last block's paths.
        remat: What the backward pass recomputes, a key of `vit.REMAT`.
        normalize: Whether to scale features to unit length.

    Returns:
        The model, and the encoder's parameters with positions resized to its grid.
    """
    module, grid = pretrained.module, pretrained.sizes.grid
    params = dict(pretrained.params)
    if grid != tuple(module.grid):
        of_cls, of_patches = jnp.split(params["position_embedding"], [int(module.cls)])
        resized = resize_positions(of_patches, tuple(module.grid), grid)
        params["position_embedding"] = jnp.concatenate([of_cls, resized])
    model = FinetuneModel(
        encoder=module.clone(grid=grid, row=None, remat=remat),
        patch=pretrained.patch,
        modality=pretrained.modality,
        classes=classes,
        dropout=dropout,
        drop_path=drop_path,
        normalize=normalize,
    )
    return model, params
