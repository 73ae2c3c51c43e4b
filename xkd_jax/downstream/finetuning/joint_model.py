"""Both pretrained encoders with a fusion head: an attentive pooler on the tokens of both.

Parameters are {"encoder": {"video": ..., "audio": ...}, "head": as from
`attentive_pooler.init_head`}, all float32.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from xkd_jax.downstream.finetuning.finetune_model import FinetuneModel, Params, linear
from xkd_jax.method.models import attentive_pooler


class JointNoise(NamedTuple):
    """Uniform random numbers in [0, 1) that decide what to drop.

    Attributes:
        features: (B, D) float32. For dropout of the pooled tokens.
        paths: (B, L, 2) float32 by modality, as in `finetune_model.Noise`.
    """

    features: jax.Array
    paths: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class JointModel:
    """Classifier of video with sound: hyperparameters, and pure functions of its parameters.

    Attributes:
        video: The part of video, whose encoder, rates and number of classes are used.
        audio: The part of audio.
        pooler: Pools the tokens of both.
    """

    video: FinetuneModel
    audio: FinetuneModel
    pooler: attentive_pooler.AttentivePooler

    @classmethod
    def of(cls, parts: Mapping[str, FinetuneModel], blocks: int) -> "JointModel":
        """Makes the model of two parts by modality and the number of the pooler's blocks."""
        widest = max(parts.values(), key=lambda part: part.encoder.width).encoder
        pooler = attentive_pooler.AttentivePooler(
            widest.width, blocks, widest.heads, dtype=widest.dtype
        )
        return cls(parts["video"], parts["audio"], pooler)

    @property
    def parts(self) -> dict[str, FinetuneModel]:
        """The parts by modality."""
        return {"video": self.video, "audio": self.audio}

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the computation."""
        return self.pooler.dtype

    @property
    def depths(self) -> dict[str, int]:
        """Number of blocks of each encoder by modality."""
        return {m: part.encoder.depth for m, part in self.parts.items()}

    def init(self, key: jax.Array, encoder: Params) -> Params:
        """Initializes parameters: the given ones of the encoders by modality, and a random head."""
        widths = {m: part.encoder.width for m, part in self.parts.items()}
        head = attentive_pooler.init_head(self.pooler, widths, self.video.classes, key)
        return {"encoder": encoder, "head": head}

    def noise(self, keys: Mapping[str, jax.Array]) -> JointNoise:
        """Draws the noise of a batch from (B,) typed keys.

        Args:
            keys: Keys for `features`, for the `paths` of video, and for `audio_paths`.
        """

        def uniform(name: str, *shape: int) -> jax.Array:
            return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys[name])

        paths = {"video": "paths", "audio": "audio_paths"}
        return JointNoise(
            uniform("features", self.pooler.width),
            {m: uniform(paths[m], depth, 2) for m, depth in self.depths.items()},
        )

    def logits(
        self, params: Params, views: Mapping[str, jax.Array], noise: JointNoise | None = None
    ) -> jax.Array:
        """Classifies views.

        Args:
            params: Parameters as from `init`.
            views: (B, T, H, W, 3) normalized frames and (B, F, W) normalized log-mels, float, by
                modality.
            noise: Noise for training. None to drop nothing.

        Returns:
            (B, C) float32.
        """
        tokens = {
            m: part.tokens(params["encoder"][m], views[m], noise and noise.paths[m])[:, 1:]
            for m, part in self.parts.items()
        }
        head, rate = params["head"], self.video.dropout
        features = attentive_pooler.pool(self.pooler, head["pooler"], tokens)
        if noise is not None and rate:
            features *= (noise.features >= rate) / (1 - rate)
        return linear(head, features)
