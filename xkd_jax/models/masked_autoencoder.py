"""Masked autoencoding: which patches the student sees, and the decoder that restores the others."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xkd_jax import sharding
from xkd_jax.models.vit import Dtype, Transformer, normal, truncated_normal, xavier


class Mask(NamedTuple):
    """A random choice of patches.

    Attributes:
        keep: (B, K) int32, the kept patches in the order in which the encoder sees them.
        restore: (B, N) int32, the place of each patch in the sequence of kept, then dropped ones.
        dropped: (B, N) float32, 1 where a patch is dropped and 0 where it is kept.
    """

    keep: jax.Array
    restore: jax.Array
    dropped: jax.Array


def kept_count(patches: int, ratio: float) -> int:
    """How many of `patches` stay when a share `ratio` is dropped (59 of 392 at 0.85)."""
    return round(patches * (1.0 - ratio))


def random_mask(noise: jax.Array, ratio: float) -> Mask:
    """Keeps the `kept_count` patches of the smallest noise of each example.

    Args:
        noise: (B, N) float, one draw a patch; uniform masking wants independent ones.
        ratio: Share of the patches to drop.
    """
    kept = kept_count(noise.shape[1], ratio)
    order = jnp.argsort(noise, axis=1, stable=True)
    restore = jnp.argsort(order, axis=1)
    dropped = (restore >= kept).astype(jnp.float32)
    return Mask(keep=order[:, :kept], restore=restore, dropped=dropped)


class Decoder(nn.Module):
    """Predicts every patch from the encoder's tokens of the kept ones.

    Attributes:
        width: Of the decoder's tokens.
        depth: The number of blocks.
        heads: Divides the width.
        patch_size: P, values in a patch.
        dtype: Of the computation.
        remat: What the backward pass computes again, see `models.vit.REMAT`.
    """

    width: int
    depth: int
    heads: int
    patch_size: int
    dtype: Dtype = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(self, tokens: jax.Array, restore: jax.Array) -> jax.Array:
        """Decodes.

        Args:
            tokens: (B, 1 + K, D), CLS first, as the encoder gives them.
            restore: (B, N) int32, as in `Mask`.

        Returns:
            (B, N, P) float32, predictions in the space of normalised patches.
        """
        batch, count = restore.shape
        mask_token = self.param("mask_token", normal, (1, self.width))
        positions = self.param("position_embedding", truncated_normal, (1 + count, self.width))

        tokens = nn.Dense(self.width, dtype=self.dtype, kernel_init=xavier, name="embedding")(
            tokens
        )
        tokens = sharding.by_example(tokens)
        cls_token, kept = tokens[:, :1], tokens[:, 1:]
        masked = jnp.broadcast_to(
            mask_token.astype(self.dtype), (batch, count - kept.shape[1], self.width)
        )
        tokens = jnp.concatenate([kept, masked], axis=1)
        tokens = jnp.take_along_axis(tokens, restore[..., None], axis=1)
        tokens = jnp.concatenate([cls_token, tokens], axis=1) + positions.astype(self.dtype)
        tokens, _ = Transformer(
            self.width,
            self.depth,
            self.heads,
            dtype=self.dtype,
            remat=self.remat,
            name="transformer",
        )(tokens)
        predictions = nn.Dense(
            self.patch_size, dtype=self.dtype, kernel_init=xavier, name="prediction"
        )(tokens[:, 1:])
        return sharding.by_example(predictions).astype(jnp.float32)
