"""Masked autoencoding: the random mask of a student's input, and the decoder."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xkd_jax import sharding
from xkd_jax.method.models.vit import Dtype, Transformer, normal, truncated_normal, xavier


class Mask(NamedTuple):
    """A random choice of patches.

    Attributes:
        keep: (B, K) int32, the indices of the kept patches, in the order of the encoder's tokens.
        restore: (B, N) int32, the position of each patch in the sequence of first the kept, then
            the dropped patches.
        dropped: (B, N) float32, 1 where a patch is dropped and 0 where it is kept.
    """

    keep: jax.Array
    restore: jax.Array
    dropped: jax.Array


def kept_count(patches: int, ratio: float) -> int:
    """Returns how many of `patches` remain if the share `ratio` is dropped (59 of 392 at 0.85)."""
    return round(patches * (1.0 - ratio))


def random_mask(noise: jax.Array, ratio: float) -> Mask:
    """Keeps the `kept_count` patches of each example that have the smallest noise.

    Args:
        noise: (B, N) float, one random number per patch. The mask is uniform if they are
            independent and of one distribution.
        ratio: Share of the patches to drop.

    Returns:
        The mask.
    """
    kept = kept_count(noise.shape[1], ratio)
    order = jnp.argsort(noise, axis=1, stable=True)
    restore = jnp.argsort(order, axis=1)
    dropped = (restore >= kept).astype(jnp.float32)
    return Mask(keep=order[:, :kept], restore=restore, dropped=dropped)


class Decoder(nn.Module):
    """Predicts all patches from the encoder's tokens of the kept ones.

    Attributes:
        width: Width of the decoder's tokens.
        depth: Number of blocks.
        heads: Number of heads; divides the width.
        patch_size: P, the number of values in a patch.
        dtype: Dtype of the computation.
        remat: What the backward pass computes again, a key of `models.vit.REMAT`.
        cls: Whether the CLS token is decoded with the others.
    """

    width: int
    depth: int
    heads: int
    patch_size: int
    dtype: Dtype = jnp.float32
    remat: str = "none"
    cls: bool = True

    @nn.compact
    def __call__(self, tokens: jax.Array, restore: jax.Array) -> jax.Array:
        """Predicts the patches.

        Args:
            tokens: (B, 1 + K, D), the encoder's output; the first is ignored without `cls`.
            restore: (B, N) int32, as in `Mask`.

        Returns:
            (B, N, P) float32, predictions of the normalized patches.
        """
        batch, count = restore.shape
        mask_token = self.param("mask_token", normal, (1, self.width))
        positions = self.param(
            "position_embedding", truncated_normal, (self.cls + count, self.width)
        )

        if not self.cls:
            tokens = tokens[:, 1:]
        tokens = nn.Dense(self.width, dtype=self.dtype, kernel_init=xavier, name="embedding")(
            tokens
        )
        tokens = sharding.by_example(tokens)
        cls_token, kept = tokens[:, : self.cls], tokens[:, self.cls :]
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
        )(tokens[:, self.cls :])
        return sharding.by_example(predictions).astype(jnp.float32)
