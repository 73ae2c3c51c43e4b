"""The tokens of an encoder's layers, from one pass of the network."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from xkd_jax.method.models.patches import patchify, token_grid
from xkd_jax.method.models.vit import Block, Encoder


def encode_layers(
    encoder: Encoder,
    params: Mapping[str, Any],
    views: jax.Array,
    patch: Sequence[int],
    layers: Sequence[int],
) -> jax.Array:
    """Encodes views, and returns the tokens of several layers.

    Args:
        encoder: The encoder.
        params: As for `vit.encode`.
        views: As for `vit.encode`.
        patch: As for `vit.encode`.
        layers: L numbers of layers, from 1 to the encoder's depth.

    Returns:
        (B, L, 1 + N, D), CLS first; zeros for encoders without CLS. The last layer's tokens are
        those after the final norm, as from `vit.encode`. Any other layer's are what its block hands
        to the next block: the sum of the residual stream, which no norm has scaled.
    """
    (tokens, _), captured = encoder.clone(row=None).apply(
        {"params": params},
        patchify(views, patch),
        token_grid(views.shape[1:], patch),
        capture_intermediates=lambda module, _: isinstance(module, Block),
        mutable=["intermediates"],
    )
    [(blocks, _)] = captured["intermediates"]["transformer"]["blocks"]["__call__"]
    count = tokens.shape[1] - (not encoder.cls)
    blocks = blocks[:, :, :count]  # without padding
    if not encoder.cls:
        blocks = jnp.pad(blocks, ((0, 0), (0, 0), (1, 0), (0, 0)))
    chosen = [tokens if layer == encoder.depth else blocks[layer - 1] for layer in layers]
    return jnp.stack(chosen, axis=1)
