"""An attentive pooler: a learned query gathers the tokens of one modality or of several.

The pooler has one block or more. The last one is cross-attention from one learned query to all
tokens, followed by an MLP; those before it are self-attention blocks over the tokens, as in the
encoders. Frozen encoders are probed with it (Bardes et al. 2024, arXiv 2404.08471; Assran et al.
2025, arXiv 2506.09985), and jointly finetuned encoders are fused by it.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from xkd_jax.method.models.layers import Dtype, LayerNorm, gelu, xavier
from xkd_jax.method.models.vit import Transformer, truncated_normal


class AttentivePooler(nn.Module):
    """Pools tokens into one vector.

    Attributes:
        width: D, the width of the result. Tokens of another width are projected to it.
        blocks: Number of blocks, the cross-attention included.
        heads: H, the number of attention heads; divides the width.
        dtype: Dtype of the computation; parameters are float32.
    """

    width: int
    blocks: int
    heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Pools the tokens of all modalities.

        Args:
            tokens: (B, N, width of the encoder) float by modality.

        Returns:
            (B, D) float32.
        """

        def dense(x: jax.Array, name: str, features: int = self.width) -> jax.Array:
            return nn.Dense(features, dtype=self.dtype, kernel_init=xavier, name=name)(x)

        def by_head(x: jax.Array) -> jax.Array:
            return x.reshape(*x.shape[:-1], self.heads, -1)

        parts = []
        for m, part in tokens.items():
            part = part.astype(self.dtype)
            if part.shape[-1] != self.width:
                part = dense(part, f"{m}_embedding")
            if len(tokens) > 1:  # tells the modalities apart
                mark = self.param(f"{m}_mark", nn.initializers.zeros, (self.width,))
                part += mark.astype(self.dtype)
            parts.append(part)
        joined = jnp.concatenate(parts, axis=1)
        if self.blocks > 1:
            joined, _ = Transformer(
                self.width, self.blocks - 1, self.heads, dtype=self.dtype, name="transformer"
            )(joined)
        joined = LayerNorm(self.dtype, name="attention_norm")(joined)

        query = self.param("query", nn.initializers.normal(stddev=0.02), (self.width,))
        asked = by_head(dense(query, "to_query"))
        keys, values = (by_head(dense(joined, name)) for name in ("to_key", "to_value"))
        logits = jnp.einsum("hw,bnhw->bhn", asked, keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits * asked.shape[-1] ** -0.5, axis=-1)
        pooled = jnp.einsum("bhn,bnhw->bhw", weights.astype(self.dtype), values)
        pooled = query.astype(self.dtype) + dense(pooled.reshape(-1, self.width), "out")
        hidden = LayerNorm(self.dtype, name="mlp_norm")(pooled)
        hidden = dense(gelu(dense(hidden, "mlp_in", 4 * self.width)), "mlp_out")
        return LayerNorm(name="norm")((pooled + hidden).astype(jnp.float32))


def init_head(
    pooler: AttentivePooler, widths: Mapping[str, int], classes: int, key: jax.Array
) -> dict[str, Any]:
    """Initializes a pooler and the linear layer on it.

    Args:
        pooler: The pooler.
        widths: Width of the tokens by modality, in the order of the modalities.
        classes: C, the number of classes.
        key: Typed random key.

    Returns:
        Float32 parameters {"pooler": ..., "kernel": (D, C), "bias": (C,)}.
    """
    pooler_key, kernel_key = jax.random.split(key)
    tokens = {m: jnp.zeros((1, 1, width)) for m, width in widths.items()}
    return {
        "pooler": pooler.init(pooler_key, tokens)["params"],
        "kernel": truncated_normal(kernel_key, (pooler.width, classes), jnp.float32),
        "bias": jnp.zeros(classes),
    }


def pool(
    pooler: AttentivePooler, params: Mapping[str, Any], tokens: Mapping[str, jax.Array]
) -> jax.Array:
    """Pools tokens (B, N, width of the encoder), by modality, into (B, D) float32.

    Args:
        pooler: The pooler.
        params: Its parameters, `pooler` of those from `init_head`.
        tokens: Tokens by modality.
    """
    return pooler.apply({"params": params}, tokens)
