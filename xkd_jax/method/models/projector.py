"""The projector, which maps an encoder's mean token to the space that both modalities share."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xkd_jax import sharding
from xkd_jax.method.models.layers import Dtype, LayerNorm, gelu
from xkd_jax.method.models.vit import truncated_normal


class Projector(nn.Module):
    """MLP, unit-length bottleneck, weight-normalized linear layer, LayerNorm without parameters.

    The MLP maps D -> hidden -> ... -> bottleneck. It has `layers` linear layers with exact GELUs
    between them. Each hidden LayerNorm has its own parameters.

    Attributes:
        layers: Number of linear layers of the MLP.
        hidden: Width of its hidden layers.
        bottleneck: Width of its last layer.
        out: J, the width of the output.
        norm: Layers that a LayerNorm follows: `every`, only the `last`, or `none`.
        dtype: Dtype of the matrix products.
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

        # Weight normalization with a gain of 1: only the directions of the columns are learned.
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
