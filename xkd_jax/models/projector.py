"""The projector between an encoder's mean token and the space where modalities meet."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xkd_jax import sharding
from xkd_jax.models.layers import Dtype, LayerNorm, gelu
from xkd_jax.models.vit import truncated_normal


class Projector(nn.Module):
    """MLP, unit-length bottleneck, weight-normalised linear layer, LayerNorm without parameters.

    D -> hidden -> ... -> bottleneck with `layers` linear layers and exact GELUs between them. The
    hidden LayerNorms have parameters of their own each.

    Attributes:
        layers: Linear layers of the MLP.
        hidden: Width of its hidden layers.
        bottleneck: Width of its last layer.
        out: J, the output's width.
        norm: Layers followed by a LayerNorm: `every`, the `last` one only, or `none`.
        dtype: Of the MLP's computation.
    """

    layers: int
    hidden: int
    bottleneck: int
    out: int
    norm: str = "every"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps mean tokens (B, D) to projections (B, J) float32."""
        for i in range(self.layers - 1):
            features = self._dense(features, self.hidden, f"hidden_{i}")
            if self.norm == "every":
                features = LayerNorm(self.dtype, name=f"hidden_norm_{i}")(features)
            features = gelu(features)
        features = self._dense(features, self.bottleneck, "bottleneck").astype(jnp.float32)
        features /= jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-12)

        # Weight normalisation with its gain fixed at 1: only the columns' directions are learned.
        kernel = self.param("prototypes", truncated_normal, (self.bottleneck, self.out))
        kernel /= jnp.linalg.norm(kernel, axis=0, keepdims=True)
        projections = jnp.dot(
            features.astype(self.dtype),
            kernel.astype(self.dtype),
            preferred_element_type=jnp.float32,
        )
        projections = sharding.by_example(projections, projections.ndim - 2)
        if self.norm == "none":
            return projections
        return nn.LayerNorm(
            epsilon=1e-5,
            use_bias=False,
            use_scale=False,
            use_fast_variance=False,
            name="output_norm",
        )(projections)

    def _dense(self, x: jax.Array, features: int, name: str) -> jax.Array:
        layer = nn.Dense(features, dtype=self.dtype, kernel_init=truncated_normal, name=name)
        return sharding.by_example(layer(x), x.ndim - 2)
