"""An encoder of one modality without its weights, as a pure function of weights and views."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xkd_jax.encoders import descriptions
from xkd_jax.method.models.vit import Encoder, encode, mean_token
from xkd_jax.method.models.vit_layers import encode_layers


class Form(NamedTuple):
    """An encoder without its weights. Encoders of the same form share compiled programs.

    Attributes:
        module: The network.
        patch: Size of a patch: (frames, pixels, pixels), or (mel bands, frames).
        moments: Mean and standard deviation of the three colors, to normalize uint8 frames; None
            for audio.
    """

    module: Encoder
    patch: tuple[int, ...]
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None

    def apply(
        self,
        params: Mapping[str, Any],
        views: jax.Array,
        output: str = "features",
        layers: tuple[int, ...] | None = None,
    ) -> jax.Array:
        """Encodes a batch of views, as a pure function.

        Args:
            params: Parameters as in `PretrainedEncoder.params`.
            views: (B, ...) uint8 or normalized frames, or normalized log-mels.
            output: As for `PretrainedEncoder.encode_views`.
            layers: Numbers of layers, 1 to the depth, as for `PretrainedEncoder.encode_views`.

        Returns:
            (B, ...) float32, or (B, L, ...) with `layers`.
        """
        if self.moments is not None and views.dtype == jnp.uint8:
            mean, std = map(jnp.array, self.moments)
            views = (views.astype(jnp.float32) / 255 - mean) / std
        if layers is not None:
            tokens = encode_layers(self.module, params, views, self.patch, layers)
            tokens = tokens.astype(jnp.float32)
            return tokens if output == "tokens" else tokens[:, :, 1:].mean(axis=2)
        _, tokens, attention = encode(self.module, params, views, self.patch)
        if output == "attention":
            return attention
        return tokens.astype(jnp.float32) if output == "tokens" else mean_token(tokens, jnp.float32)


def make_module(
    description: Mapping[str, Any], modality: str, dtype: str, cls: bool = True
) -> Encoder:
    """Builds the network of an encoder from its description (`descriptions.describe`)."""
    return Encoder(
        grid=descriptions.native_grid(description, modality),
        row="cls" if cls else "mean",
        dtype=jnp.dtype(dtype),
        cls=cls,
        **description["architecture"][modality]["encoder"],
    )
